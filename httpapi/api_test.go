package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/rondodb/rondo/httpapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func validator(t testing.TB) *apitest.Validator {
	t.Helper()
	v, err := apitest.New(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The rules of the API, each at its edges, and every request and answer as the OpenAPI document says.
func TestRules(t *testing.T) {
	url, _ := serve(t, newReplica(t), nil)
	apitest.Run(t, []string{url}, apitest.Options{Validator: validator(t)})
}

// Every operation of the router is in the document, and the other way round.
func TestDocumentHasEveryRoute(t *testing.T) {
	_, s := serve(t, newReplica(t), nil)
	routes := map[string]bool{}
	err := chi.Walk(s.router, func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if strings.HasSuffix(path, "/*") {
			parameter := "{key}"
			switch strings.TrimSuffix(path, "*") {
			case bucketsPrefix:
				parameter = "{bucket}"
			case explainPrefix:
				parameter = "{bucket}/{key}"
			}
			path = strings.TrimSuffix(path, "*") + parameter
		}
		if method != http.MethodHead || path == "/v1/kv/{bucket}/{key}" {
			routes[method+" "+path] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	operations := validator(t).Operations()
	for _, o := range operations {
		if !routes[o] {
			t.Errorf("%s is in the document, and the router does not have it", o)
		}
	}
	for r := range routes {
		if !slices.Contains(operations, r) {
			t.Errorf("%s is in the router, and the document does not have it", r)
		}
	}
}
