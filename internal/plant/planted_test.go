//go:build planted

package plant

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestPlantedOneAtATime(t *testing.T) {
	defer Clear()
	for _, set := range All() {
		Set(set)
		for _, b := range All() {
			if On(b) != (b == set) {
				t.Errorf("%v is set, and %v is on: %v", set, b, On(b))
			}
		}
		if got := Reached(); got < 1 {
			t.Errorf("%v: reached %d times", set, got)
		}
	}
	Clear()
	for _, b := range All() {
		if On(b) {
			t.Errorf("%v is on after Clear", b)
		}
	}
}

// A process takes its bug from the environment, and does not start with a name that is none.
func TestPlantedByTheEnvironment(t *testing.T) {
	if os.Getenv("PLANT_TEST_CHILD") != "" {
		for _, b := range All() {
			if On(b) {
				os.Stdout.WriteString("on: " + b.String() + "\n")
			}
		}
		return
	}
	for name, want := range map[string]string{"repair-off": "on: repair-off\n", "repair-of": "no planted bug of this name"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestPlantedByTheEnvironment$")
		cmd.Env = append(os.Environ(), "PLANT_TEST_CHILD=1", Variable+"="+name)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (name == "repair-off") {
			t.Errorf("%s: got %v\n%s", name, err, out)
		}
	}
}
