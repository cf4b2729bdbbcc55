package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writeLines makes a file of n records with keys k0…; line i has the value {"k":"k<i>","i":i}.
func writeLines(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "{\"k\":\"k%d\",\"i\":%d}\n", i, i)
	}
	path := filepath.Join(t.TempDir(), "lines.ndjson")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readPoint(t *testing.T, path string) checkpoint {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestImportGoesOn ends an import in the middle, as Ctrl-C does; the next run must store exactly what is missing.
func TestImportGoesOn(t *testing.T) {
	f := newFake(t)
	const n = 6000
	file := writeLines(t, n)
	point := filepath.Join(t.TempDir(), "point")
	ctx, cancel := context.WithCancel(context.Background())
	f.refuse = func(*http.Request) (int, string) {
		if f.puts == n/2 {
			cancel()
		}
		return 0, ""
	}
	args := []string{"import", "b", file, "--key-field", "k", "--resume", point, "--node", f.url}
	var errs bytes.Buffer
	code := run(ctx, args, strings.NewReader(""), io.Discard, &errs, os.LookupEnv)
	if code != exitFailure || !strings.Contains(errs.String(), "error: interrupted\nnext:  run the same command to go on after line ") {
		t.Fatalf("got exit %d:\n%s", code, errs.String())
	}
	c := readPoint(t, point)
	if c.Line < n/2-32*(queueLines+2) || c.Line > n/2 || c.Offset == 0 {
		t.Errorf("got checkpoint at line %d, want a little below %d", c.Line, n/2)
	}
	before := f.puts
	_, stderr, code := rondo(t, f, "", args[:7]...)
	if code != 0 || !strings.Contains(stderr, "import: going on after line ") {
		t.Fatalf("got exit %d:\n%s", code, stderr)
	}
	if again := f.puts - before; again != n-int(c.Line) {
		t.Errorf("got %d writes in the second run, want the %d lines after the checkpoint", again, n-int(c.Line))
	}
	for i := range n {
		key := fmt.Sprintf("k%d", i)
		if got, want := string(f.value(t, "b", key)), fmt.Sprintf(`{"k":"k%d","i":%d}`, i, i); got != want {
			t.Fatalf("%s: got %s, want %s", key, got, want)
		}
	}
	before = f.puts
	if _, stderr, code := rondo(t, f, "", args[:7]...); code != 0 || f.puts != before {
		t.Errorf("a finished import: got exit %d and %d more writes:\n%s", code, f.puts-before, stderr)
	}
	if c := readPoint(t, point); c.Line != n {
		t.Errorf("got checkpoint at line %d, want the end", c.Line)
	}
}

func TestCheckpointBelongsToItsInput(t *testing.T) {
	f := newFake(t)
	file, other := writeLines(t, 100), writeLines(t, 101)
	point := filepath.Join(t.TempDir(), "point")
	if _, stderr, code := rondo(t, f, "", "import", "b", file, "--key-field", "k", "--resume", point); code != 0 {
		t.Fatalf("got exit %d:\n%s", code, stderr)
	}
	// The same lines and one more: it goes on. Changed lines, another bucket, another field: refused.
	if _, stderr, code := rondo(t, f, "", "import", "b", other, "--key-field", "k", "--resume", point); code != 0 || !strings.Contains(stderr, "imported 1 records") {
		t.Errorf("a file that grew: got exit %d:\n%s", code, stderr)
	}
	b, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, bytes.Replace(b, []byte(`"i":99`), []byte(`"i":98`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"import", "b", other, "--key-field", "k", "--resume", point},
		{"import", "c", file, "--key-field", "k", "--resume", point},
		{"import", "b", file, "--resume", point},
		{"import", "b", file, "--key-field", "k", "--resume", file},
	} {
		if _, stderr, code := rondo(t, f, "", args...); code != exitUsage {
			t.Errorf("%v: got exit %d, want %d:\n%s", args, code, exitUsage, stderr)
		}
	}
}

func TestImportRetries(t *testing.T) {
	f := newFake(t)
	failures := map[string]int{}
	f.refuse = func(r *http.Request) (int, string) {
		if failures[r.URL.Path]++; failures[r.URL.Path] < 3 {
			return []int{503, 504}[failures[r.URL.Path]-1], "quorum_timeout"
		}
		return 0, ""
	}
	_, stderr, code := rondo(t, f, "", "import", "b", writeLines(t, 40), "--key-field", "k")
	if code != 0 || !strings.Contains(stderr, "imported 40 records") || !strings.Contains(stderr, "80 retries") {
		t.Errorf("got exit %d:\n%s", code, stderr)
	}
}

func TestImportGivesUp(t *testing.T) {
	f := newFake(t)
	f.refuse = func(*http.Request) (int, string) { return 503, "quorum_unavailable" }
	point := filepath.Join(t.TempDir(), "point")
	_, stderr, code := rondo(t, f, "", "import", "b", writeLines(t, 40), "--key-field", "k", "--retry-for", "200ms", "--resume", point)
	if code != exitUnavailable || !strings.Contains(stderr, "could not be stored for 200ms") || !strings.Contains(stderr, "rondo status shows what is down") {
		t.Errorf("got exit %d:\n%s", code, stderr)
	}
	if c := readPoint(t, point); c.Offset != 0 || c.Failed != 0 {
		t.Errorf("got %+v, want nothing done and nothing failed for good", c)
	}
}

func TestImportListsFailedLinesForGood(t *testing.T) {
	f := newFake(t)
	f.refuse = func(r *http.Request) (int, string) {
		if strings.HasSuffix(r.URL.Path, "k7") {
			return 413, "too_large"
		}
		return 0, ""
	}
	point := filepath.Join(t.TempDir(), "point")
	file := writeLines(t, 20)
	for i := range 2 { // the second run has nothing to do, and still says so
		_, stderr, code := rondo(t, f, "", "import", "b", file, "--key-field", "k", "--resume", point)
		if code != exitFailure || !strings.Contains(stderr, "line 8 (key k7): the test says so (413 too_large") || !strings.Contains(stderr, "1 failed") {
			t.Errorf("run %d: got exit %d:\n%s", i, code, stderr)
		}
	}
	if got, want := len(f.keys["b"]), 19; got != want {
		t.Errorf("got %d keys, want %d", got, want)
	}
}

// TestImportKeepsTheOrderOfAKey has many lines for few keys: the last one of each must win.
func TestImportKeepsTheOrderOfAKey(t *testing.T) {
	f := newFake(t)
	var in strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&in, "{\"key\":\"k%d\",\"value\":%d}\n", i%5, i)
	}
	if _, stderr, code := rondo(t, f, in.String(), "import", "b", "-", "--parallel", "16"); code != 0 {
		t.Fatalf("got exit %d:\n%s", code, stderr)
	}
	for k := range 5 {
		if got, want := string(f.value(t, "b", fmt.Sprintf("k%d", k))), fmt.Sprint(1995+k); got != want {
			t.Errorf("k%d: got %s, want the last line's %s", k, got, want)
		}
	}
}

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
		f.keys["b"][fmt.Sprintf("k%04d", i)] = &stored{versions: []version{{1, "application/json", data}}}
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

func TestLongLines(t *testing.T) {
	r := newLineReader(io.MultiReader(strings.NewReader("a\r\n"), io.LimitReader(zeros{}, maxLine+10), strings.NewReader("\nlast")), 0, 0)
	for i, want := range []struct {
		text string
		err  error
		end  int64
	}{{"a", nil, 3}, {"", errLongLine, maxLine + 14}, {"last", nil, maxLine + 18}, {"", io.EOF, maxLine + 18}} {
		got, err := r.next()
		if string(got) != want.text || !errors.Is(err, want.err) || r.offset != want.end {
			t.Errorf("line %d: got %.20q %v at %d, want %+v", i+1, got, err, r.offset, want)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func TestTracker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		n := rapid.IntRange(1, 50).Draw(t, "lines")
		var places []*place
		for i := range n {
			places = append(places, tr.begin(int64(10*(i+1)), int64(i+1)))
		}
		done := make([]bool, n)
		for _, i := range rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for i := range n {
				if !yield(i) {
					return
				}
			}
		})).Draw(t, "order") {
			tr.finish(places[i], false)
			done[i] = true
			want := slices.Index(done, false)
			if want < 0 {
				want = n
			}
			if offset, line, _ := tr.position(); line != int64(want) || offset != int64(10*want) {
				t.Fatalf("got line %d at %d, want %d", line, offset, want)
			}
		}
	})
}

func TestBudget(t *testing.T) {
	b := newBudget(100)
	if !b.take(60) {
		t.Fatal("got no room in an empty budget")
	}
	taken := make(chan bool)
	go func() { taken <- b.take(5000) }() // larger than all: waits until it is alone
	select {
	case <-taken:
		t.Fatal("got room that is not there")
	case <-time.After(10 * time.Millisecond):
	}
	b.give(60)
	if !<-taken {
		t.Fatal("got no room for a large line on its own")
	}
	go func() { taken <- b.take(1) }()
	b.close()
	if <-taken {
		t.Error("got room from a closed budget")
	}
}

func TestBenchCommand(t *testing.T) {
	f := newFake(t)
	stdout, stderr, code := rondo(t, f, "", "bench", "--load", "--keys", "20", "--connections", "2", "--duration", "150ms", "--warmup", "0", "--size", "100", "--w", "one", "--dw", "0", "--pid", fmt.Sprint(os.Getpid()))
	if code != 0 || !strings.Contains(stdout, "closed loop, 2 connections over 1 node, 50 % reads, 20 keys (uniform), 100 B of json, dw=0&w=one") ||
		!strings.Contains(stdout, "Loaded 20 keys before") || !strings.Contains(stdout, "over 1 node process, ") {
		t.Errorf("got exit %d:\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = rondo(t, f, "", "bench", "--keys", "20", "--connections", "2", "--duration", "150ms", "--warmup", "0", "--rate", "200", "-o", "json")
	var result struct {
		Reads, Writes, All struct {
			Count      int
			Latency_us map[string]float64
		}
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != 0 || result.All.Count < 20 || result.All.Count > 31 || result.All.Latency_us["p99"] <= 0 {
		t.Errorf("got exit %d, %v, %+v:\n%s%s", code, err, result, stdout, stderr)
	}
	f.refuse = func(*http.Request) (int, string) { return 503, "quorum_unavailable" }
	stdout, stderr, code = rondo(t, f, "", "bench", "--keys", "20", "--connections", "2", "--duration", "50ms", "--warmup", "0")
	if code != exitUnavailable || !strings.Contains(stdout, " quorum_unavailable\n") {
		t.Errorf("got exit %d:\n%s%s", code, stdout, stderr)
	}
	if _, _, code := rondo(t, f, "", "bench", "--mix", "200"); code != exitUsage {
		t.Errorf("a mix of 200: got exit %d, want %d", code, exitUsage)
	}
}

// TestExitCodes answers a get with every problem.
func TestExitCodes(t *testing.T) {
	f := newFake(t)
	for _, test := range []struct {
		status int
		code   string
		want   int
		next   string
	}{
		{400, "invalid_argument", exitUsage, "--help"}, {404, "key_not_found", exitNotFound, "rondo list b"}, {409, "too_many_siblings", exitFailure, "merge"},
		{409, "conflict", exitFailure, "try again"}, {413, "too_large", exitFailure, "--max-value"}, {503, "quorum_unavailable", exitUnavailable, "rondo status"},
		{503, "overloaded", exitUnavailable, "try again"}, {503, "not_ready", exitUnavailable, "health --ready"}, {504, "quorum_timeout", exitUnavailable, "--timeout"},
		{500, "internal", exitFailure, "log"}, {404, "", exitFailure, "is that a Rondo node"},
	} {
		f.refuse = func(*http.Request) (int, string) { return test.status, test.code }
		_, stderr, code := rondo(t, f, "", "get", "b", "k")
		if code != test.want || !strings.Contains(stderr, "error: ") || !strings.Contains(stderr, "next:  ") || !strings.Contains(stderr, test.next) {
			t.Errorf("%d %s: got exit %d, want %d with %q:\n%s", test.status, test.code, code, test.want, test.next, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := rondo(t, newFake(t), "", "version")
	if code != 0 || !strings.HasPrefix(stdout, "rondo ") || !strings.Contains(stdout, "HTTP API v1") {
		t.Errorf("got exit %d: %s", code, stdout)
	}
}

// TestHelpHasExamples walks all commands.
func TestHelpHasExamples(t *testing.T) {
	for _, args := range []string{"put", "get", "delete", "list", "buckets", "buckets set", "buckets get", "buckets delete", "buckets list", "status", "ring", "explain", "import", "export", "bench", "health", "version"} {
		stdout, _, code := rondo(t, newFake(t), "", append(strings.Fields(args), "--help")...)
		if code != 0 || !strings.Contains(stdout, "Examples:\n  ") {
			t.Errorf("%s --help: got exit %d:\n%s", args, code, stdout)
		}
	}
}

// TestContextFileIsReplacedWhole looks at the file between commands: one token, nothing else, and no temporary file beside it.
func TestContextFileIsReplacedWhole(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "k.ctx")
	var seen atomic.Pointer[string]
	f.refuse = func(r *http.Request) (int, string) {
		s := r.Header.Get("Rondo-Context")
		seen.Store(&s)
		return 0, ""
	}
	previous := ""
	for i := range 3 {
		if _, stderr, code := rondo(t, f, "", "put", "b", "k", fmt.Sprint(i), "--context-file", file); code != 0 {
			t.Fatalf("got exit %d:\n%s", code, stderr)
		}
		if *seen.Load() != previous {
			t.Errorf("got context %q sent, want %q", *seen.Load(), previous)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		previous = strings.TrimSuffix(string(b), "\n")
		if ids, ok := covers("b", "k", previous); !ok || len(ids) != i+1 {
			t.Errorf("got %q, which covers %v, want %d versions", b, ids, i+1)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %v %v, want the context file only", left, err)
	}
	if _, _, code := rondo(t, f, "", "put", "b", "k", "x", "--context-file", file, "--fresh"); code != 0 || *seen.Load() != client.NoContext {
		t.Errorf("--fresh: got exit %d and context %q, want none", code, *seen.Load())
	}
}
