package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rondodb/rondo/"

// arrows are the imports of this module that each package's code may have. A package that is not here may have none.
// Test files may import any package of the module.
var arrows = map[string][]string{
	"vclock":      {"internal/plant"},
	"antientropy": {"vclock", "ring", "internal/plant"},
	"ring":        nil,
	"quorum":      {"vclock", "ring", "internal/plant"},
	"peer":        {"ring", "vclock", "internal/plant"},
	"storage":     {"vclock", "ring", "internal/plant"},
	"gossip":      {"ring", "internal/plant"},
	"httpapi":     {"quorum", "vclock", "ring", "internal/plant"},
	"node":        {"vclock", "ring", "quorum", "peer", "storage", "gossip", "httpapi", "antientropy"},

	"cmd/rondo":       {"node", "internal/client", "internal/load", "internal/check", "internal/verify", "internal/chaos", "internal/proc"},
	"internal/client": nil,
	"internal/load":   nil,
	"internal/check":  nil,
	"internal/plant":  nil,
	"internal/verify": {"internal/client", "internal/check"},
	"internal/proc":   nil,
	"internal/chaos":  {"internal/client", "internal/proc"},

	"httpapi/apitest":          {"vclock"},
	"internal/plant/planttest": {"internal/plant"},
}

// libraries are the third-party modules that enter the binary in one package, and that package. Any other module may enter
// in one package too, whichever it is.
var libraries = map[string]string{
	"github.com/hashicorp/memberlist":         "gossip",
	"github.com/syndtr/goleveldb":             "storage",
	"github.com/go-chi/chi":                   "httpapi",
	"github.com/prometheus/client_golang":     "httpapi",
	"github.com/cespare/xxhash":               "ring",
	"github.com/spf13/cobra":                  "cmd/rondo",
	"github.com/pelletier/go-toml":            "node",
	"github.com/HdrHistogram/hdrhistogram-go": "internal/load",
}

// standardOnly are packages that import the standard library and what arrows says, nothing else.
var standardOnly = []string{"vclock", "quorum", "antientropy", "peer", "internal/client", "internal/check", "internal/verify", "internal/proc", "internal/chaos"}

// testOnly are packages that only test files import. They count as test files.
var testOnly = []string{"internal/memnet", "internal/memdisk", "httpapi/apitest", "internal/plant/planttest", "internal/inspect"}

// strict libraries are out of bounds for test files too: what is tested through them is tested in their package. The
// in-memory network is the exception, since it stands in for memberlist's own.
var strict = []string{"github.com/hashicorp/memberlist"}

const network = "internal/memnet"

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func (p goPackage) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(goList(t, "-json=ImportPath,Imports,TestImports,XTestImports", "./...")))
	var all []goPackage
	for {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read the packages: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// foreign tells whether the import is neither of this module nor of the standard library.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && !strings.HasPrefix(path, module)
}

// library is the third-party module of an import, as libraries names it; else host, owner and repository.
func library(path string) string {
	for name := range libraries {
		if path == name || strings.HasPrefix(path, name+"/") {
			return name
		}
	}
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range p.Imports {
			to, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			if slices.Contains(testOnly, to) && !slices.Contains(testOnly, p.name()) {
				t.Errorf("%s imports %s, which is for tests only", p.name(), to)
			} else if !slices.Contains(arrows[p.name()], to) {
				t.Errorf("%s imports %s: there is no such arrow", p.name(), to)
			}
		}
	}
}

func TestLibrariesEnterOnce(t *testing.T) {
	enters := map[string]map[string]bool{} // by library: the packages
	for _, p := range packages(t) {
		tests := slices.Concat(p.TestImports, p.XTestImports)
		code := p.Imports
		if slices.Contains(testOnly, p.name()) {
			tests, code = append(tests, code...), nil
		}
		for _, path := range code {
			if !foreign(path) {
				continue
			}
			lib := library(path)
			if enters[lib] == nil {
				enters[lib] = map[string]bool{}
			}
			enters[lib][p.name()] = true
			if slices.Contains(standardOnly, p.name()) {
				t.Errorf("%s imports %s: it should need the standard library only", p.name(), path)
			}
		}
		for _, path := range tests {
			if lib := library(path); slices.Contains(strict, lib) && p.name() != libraries[lib] && p.name() != network {
				t.Errorf("tests of %s import %s, which only %s may", p.name(), path, libraries[lib])
			}
		}
	}
	for lib, where := range enters {
		names := slices.Sorted(maps.Keys(where))
		if want, known := libraries[lib]; known && !slices.Equal(names, []string{want}) {
			t.Errorf("%s enters in %v, want only %s", lib, names, want)
		} else if len(names) != 1 {
			t.Errorf("%s enters in %v, want one package", lib, names)
		}
	}
}

// goleveldb stays at the commit of 2021-08-19. The later ones, up to the last of 2022-07-21, keep a reference to obsolete
// tables until restart, so that files are not deleted, and can write a large MANIFEST with each compaction, so that the disk
// fills (since its commit afa53115; go-ethereum pull requests 25413 and 26570: they downgraded, tried the fix, and went back).
// "go get -u" would move to a bad commit, and @latest to a release of 2019.
func TestGoleveldbIsPinned(t *testing.T) {
	var m struct {
		Version string
		Replace *struct{ Path, Version string }
	}
	if err := json.Unmarshal(goList(t, "-m", "-json", "github.com/syndtr/goleveldb"), &m); err != nil {
		t.Fatalf("read the module: %v", err)
	}
	if got, want := m.Version, "v1.0.1-0.20210819022825-2ae1ddf74ef7"; got != want {
		t.Errorf("goleveldb is at %s, want %s", got, want)
	}
	if m.Replace != nil {
		t.Errorf("goleveldb is replaced by %s %s, want no replacement", m.Replace.Path, m.Replace.Version)
	}
}
