package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// testingDoc is checked against the tree.
const testingDoc = "../../docs/testing.md"

var (
	// caseRow is a row of the catalogue: | F12 | … |.
	caseRow = regexp.MustCompile(`(?m)^\| (F[0-9]+) \|.*$`)
	// testName is a test as the document names it: `storage.TestX`, `cmd/rondo.TestY/a case of it`, `vclock.FuzzZ`.
	testName = regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/([^`]*))?`")
)

// The catalogue of faults has every case once; a case names its tests, or says what it waits for; and each test named in the document is there.
func TestTestingDoc(t *testing.T) {
	b, err := os.ReadFile(testingDoc)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	rows := map[string]int{}
	for _, row := range caseRow.FindAllStringSubmatch(doc, -1) {
		rows[row[1]]++
		if !testName.MatchString(row[0]) && !strings.Contains(row[0], "waits for") && !strings.Contains(row[0], "‹") {
			t.Errorf("%s names no test, and does not say what it waits for", row[1])
		}
	}
	for n := 1; n <= 50; n++ {
		name := "F" + strconv.Itoa(n)
		if rows[name] != 1 {
			t.Errorf("%s is in the catalogue %d times, want once", name, rows[name])
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("there is no case %s", name)
	}

	named := testName.FindAllStringSubmatch(doc, -1)
	if len(named) < 100 {
		t.Errorf("%d tests are named; has their form in the document changed?", len(named))
	}
	packages := map[string]map[string]bool{}
	for _, m := range named {
		folder, name := m[1], m[2]
		if packages[folder] == nil {
			packages[folder] = testsOf(t, folder)
		}
		if !packages[folder][name] {
			t.Errorf("%s.%s is named and is not there", folder, name)
		}
		if name == "TestScripts" { // each is a file
			if _, err := os.Stat(filepath.Join("../..", folder, "testdata", m[3]+".txt")); err != nil {
				t.Errorf("the script %s is named and is not there: %v", m[3], err)
			}
		}
	}
}

// testsOf lists the tests and fuzz targets of a folder, whatever their build tags.
func testsOf(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}
