//go:build planted

package httpapi

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
)

// A write with a context that is cut short is refused and changes nothing; least of all does it replace what it never saw.
func TestPlantedBadContext(t *testing.T) {
	planttest.Catches(t, plant.BadContextIsNone, func(t *testing.T) error {
		f := newReplica(t)
		base, _ := serve(t, f, nil)
		url := base + "/v1/kv/b/k"
		seen, _ := call(t, http.MethodPut, url+"?context=none", "first")
		if resp, body := call(t, http.MethodPut, url+"?context=none", "second"); resp.StatusCode != http.StatusOK {
			t.Fatalf("PUT: %s %s", resp.Status, body)
		}
		token := seen.Header.Get("Rondo-Context")
		for _, bad := range []string{token[:len(token)-2], token[2:], "nonsense"} {
			if resp, body := call(t, http.MethodPut, url+"?context="+bad, "third"); resp.StatusCode != http.StatusBadRequest {
				return fmt.Errorf("a write with the context %q was answered %s %s", bad, resp.Status, body)
			}
		}
		for key, o := range f.objects {
			if got := o.Values(); got != 2 {
				return fmt.Errorf("%q holds %d versions, want the 2 that were written", key.Name, got)
			}
		}
		return nil
	})
}
