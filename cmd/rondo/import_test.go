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
	"testing"
	"time"

	"pgregory.net/rapid"
)

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
	// Requests of the first run that were under way when it was interrupted may still arrive while the second one runs.
	const stragglers = 32
	if again, want := f.puts-before, n-int(c.Line); again < want || again > want+stragglers {
		t.Errorf("got %d writes in the second run, want the %d lines after the checkpoint", again, want)
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
