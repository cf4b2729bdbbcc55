package plant

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{"none": true, "": true, "unknown": true}
	for _, b := range All() {
		if name := b.String(); seen[name] {
			t.Errorf("bug %d has no name of its own: %q", int(b), name)
		} else if got, ok := Named(name); got != b || !ok {
			t.Errorf("Named(%q) = %v, %v", name, got, ok)
		}
		seen[b.String()] = true
	}
	for _, name := range []string{"", "none", "unknown", "Repair-Off"} {
		if got, ok := Named(name); ok || got != none {
			t.Errorf("Named(%q) = %v, %v", name, got, ok)
		}
	}
	if len(All()) != int(end)-1 || Bug(-1).String() != "unknown" || end.String() != "unknown" {
		t.Errorf("%d bugs, %v, %v", len(All()), Bug(-1), end)
	}
	for _, b := range All() {
		if On(b) {
			t.Errorf("%v is on, and nobody set it", b)
		}
	}
}

// Each bug has its place in the code, and a test in the package of that place.
func TestEveryBugIsPlantedAndLookedFor(t *testing.T) {
	const root = "../.."
	places, tests := map[string]bool{}, map[string]bool{} // by identifier
	name := regexp.MustCompile(`\bplant\.([A-Z]\w+)`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := places
		switch {
		case filepath.Base(path) == "planted_test.go":
			found = tests
		case strings.HasSuffix(path, "_test.go"):
			return nil
		}
		for _, m := range name.FindAllSubmatch(source, -1) {
			found[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("plant.go")
	if err != nil {
		t.Fatal(err)
	}
	bugs := regexp.MustCompile(`(?m)^\t([A-Z]\w+): +"`).FindAllSubmatch(source, -1)
	if len(bugs) != len(All()) {
		t.Fatalf("%d names in the source, want %d", len(bugs), len(All()))
	}
	for _, b := range bugs {
		if id := string(b[1]); !places[id] || !tests[id] {
			t.Errorf("%s: planted somewhere: %v, looked for by a planted_test.go: %v", id, places[id], tests[id])
		}
	}
}
