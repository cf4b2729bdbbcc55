package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLinesSurviveTheRoundTrip draws any keys and values: what export writes, import reads, and exporting that gives the same lines.
func TestLinesSurviveTheRoundTrip(t *testing.T) {
	f := newFake(t)
	rapid.Check(t, func(rt *rapid.T) {
		f.keys = map[string]map[string]*stored{"a": {}}
		for range rapid.IntRange(1, 5).Draw(rt, "keys") {
			key := string(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "key"))
			o := &stored{written: true}
			for id := range rapid.IntRange(1, 3).Draw(rt, "versions") {
				v := version{id: 10 - id, contentType: "application/octet-stream", data: rapid.SliceOf(rapid.Byte()).Draw(rt, "bytes")}
				switch rapid.IntRange(0, 2).Draw(rt, "kind") {
				case 0:
					v.contentType, v.data = "text/plain; charset=utf-8", []byte(rapid.String().Draw(rt, "text"))
				case 1:
					v.contentType = "application/json"
					v.data = []byte(rapid.SampledFrom([]string{`{"a":1}`, " [1, 2]\n", "{\r\n}", `12345678901234567890`, `"é\u00e9"`, "\"\xff\"", " null "}).Draw(rt, "json"))
				}
				o.versions = append(o.versions, v)
			}
			f.keys["a"][key] = o
		}
		first, stderr, code := rondo(t, f, "", "export", "a")
		if code != 0 {
			rt.Fatalf("export: %d\n%s", code, stderr)
		}
		if _, stderr, code := rondo(t, f, first, "import", "b"); code != 0 {
			rt.Fatalf("import: %d\n%s\n%s", code, stderr, first)
		}
		for key, want := range f.keys["a"] {
			got := f.keys["b"][key]
			if got == nil || !slices.EqualFunc(got.versions, want.versions, func(a, b version) bool { return a.contentType == b.contentType && bytes.Equal(a.data, b.data) }) {
				rt.Fatalf("%q: got %+v, want %+v", key, got, want)
			}
		}
		second, _, _ := rondo(t, f, "", "export", "b")
		if first != second {
			rt.Fatalf("got\n%s\nwant\n%s", second, first)
		}
	})
}

// TestExportWalksAllPages has more keys than a page, some with large values, and a node that fails now and then.
func TestExportWalksAllPages(t *testing.T) {
	f := newFake(t)
	f.keys["b"] = map[string]*stored{}
	for i := range 2500 {
		data := fmt.Appendf(nil, `{"i":%d}`, i)
		if i%500 == 0 {
			data = []byte(`"` + strings.Repeat("x", 3<<20) + `"`)
		}
		f.keys["b"][fmt.Sprintf("k%04d", i)] = &stored{versions: []version{{id: 1, contentType: "application/json", data: data}}}
	}
	calls := 0
	f.refuse = func(*http.Request) (int, string) {
		if calls++; calls%3 == 0 {
			return 503, "overloaded"
		}
		return 0, ""
	}
	file := filepath.Join(t.TempDir(), "out")
	if _, stderr, code := rondo(t, f, "", "export", "b", file); code != 0 {
		t.Fatalf("got exit %d:\n%s", code, stderr)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	if len(lines) != 2500 {
		t.Fatalf("got %d lines, want 2500", len(lines))
	}
	for i, line := range lines {
		if !bytes.HasPrefix(line, fmt.Appendf(nil, `{"key":"k%04d",`, i)) {
			t.Fatalf("line %d: got %.40s", i, line)
		}
	}
}

// TestExportLeavesNoPart fails in the middle: neither the file nor a temporary one may be left.
func TestExportLeavesNoPart(t *testing.T) {
	f := newFake(t)
	f.refuse = func(*http.Request) (int, string) { return 500, "internal" }
	dir := t.TempDir()
	if _, stderr, code := rondo(t, f, "", "export", "b", filepath.Join(dir, "out")); code != exitFailure {
		t.Errorf("got exit %d:\n%s", code, stderr)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("got %v %v, want an empty folder", left, err)
	}
}
