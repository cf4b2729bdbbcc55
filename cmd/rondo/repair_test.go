package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAllNodes asks every node of a cluster of three, one of which is down.
func TestAllNodes(t *testing.T) {
	a, b := newFake(t), newFake(t)
	host := func(f *fake) string { return strings.TrimPrefix(f.url, "http://") }
	cluster := fmt.Sprintf(`{"cluster":"shop","ring":1,"members":[
 {"name":"n1","id":"a1","http":"10.255.255.1:7070","state":"member","health":"alive"},
 {"name":"n2","id":"a2","http":%q,"state":"member","health":"alive"},
 {"name":"n3","id":"a3","http":"127.0.0.1:1","state":"member","health":"dead"},
 {"name":"n4","id":"a4","http":"","state":"member","health":"dead"}]}`, host(b))
	for i, f := range []*fake{a, b} {
		for path, page := range fixtures() {
			f.pages[path] = page
		}
		f.pages["/v1/cluster"] = cluster
		f.pages["/v1/node"] = fmt.Sprintf(`{"name":"n%[1]d","id":"a%[1]d","ready":true,"repair":{"oldest_equal_s":%[1]d}}`, i+1)
		f.pages["POST /v1/repair"] = f.pages["POST /v1/repair?partition=3"]
	}
	for _, test := range []struct {
		args string
		code int
		want []string // lines begin so, each once
	}{
		{"status --all", exitOK, []string{"n1    1.0s ago", "n2    2.0s ago", "n3    -", "No answer from n3: connect to http://127.0.0.1:1", "No answer from n4: its address is not known"}},
		{"status --all -o json", exitOK, []string{`      "node": "n2",`, `      "node": "n4",`}},
		{"status --all --partitions", exitOK, []string{"No partition holds anything.", "No answer from n3: "}},
		{"hints --all", exitUnavailable, []string{"n1 keeps 1,234 hints.", "n2 keeps 1,234 hints.", "No answer from n3: ", "n2    n3"}},
		{"hints --all -o json", exitUnavailable, []string{`      "node": "n1"`, `      "node": "n4"`, `      "error": "its address is not known",`}},
		{"hints pause --all", exitUnavailable, []string{"n1 keeps 0 hints or more", "n2 keeps 0 hints or more"}},
		{"tombstones --all", exitUnavailable, []string{"n1    3", "n2    3", "No answer from n4"}},
		{"tombstones --all -o json", exitUnavailable, []string{`      "node": "n2"`}},
		{"repair --all", exitFailure, []string{"n1: equal on all owners: 2 comparisons", "n2: equal on all owners", "error: n3: connect to http://127.0.0.1:1", "error: n4: its address is not known"}},
		{"repair --all -o json", exitFailure, []string{`{"node":"n1","partitions":2`, `{"node":"n2","partitions":2`}},
	} {
		stdout, stderr, code := rondo(t, a, "", strings.Fields(test.args)...)
		if code != test.code {
			t.Errorf("%s: got exit %d, want %d", test.args, code, test.code)
		}
		for _, want := range test.want {
			if got := strings.Count("\n"+stdout+stderr, "\n"+want); got != 1 {
				t.Errorf("%s: got %d lines that begin with %q:\n%s%s", test.args, got, want, stdout, stderr)
			}
		}
	}
}

// TestStatusWithoutNode is the status of a node that does not tell about itself: the sentence is there all the same.
func TestStatusWithoutNode(t *testing.T) {
	f := newFake(t)
	f.pages = fixtures()
	delete(f.pages, "/v1/node")
	stdout, _, code := rondo(t, f, "", "status")
	if code != exitOK || !strings.HasPrefix(stdout, "Degraded: n2 is down") || !strings.Contains(stdout, "No answer from "+f.url) {
		t.Errorf("got exit %d:\n%s", code, stdout)
	}
}

// TestImportKeepsExpiry imports values that end: with the time they have left, and not at all where they have none.
func TestImportKeepsExpiry(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	sent := map[string][]string{}
	f.refuse = func(r *http.Request) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == "PUT" {
			sent[r.URL.Path] = append(sent[r.URL.Path], r.URL.Query().Get("ttl")+" "+r.Header.Get("Rondo-Context"))
		}
		return 0, ""
	}
	at := func(left time.Duration) string { return time.Now().Add(left).UTC().Format(time.RFC3339Nano) }
	value := func(expires string) string {
		return `{"content_type":"application/json","expires":"` + expires + `","value":1}`
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, `{"key":"soon","content_type":"application/json","expires":%q,"value":1}`+"\n", at(time.Hour))
	fmt.Fprintf(&lines, `{"key":"late","content_type":"application/json","expires":%q,"value":1}`+"\n", at(-time.Hour))
	fmt.Fprintf(&lines, `{"key":"far","content_type":"application/json","expires":"2199-01-01T00:00:00Z","value":1}`+"\n")
	fmt.Fprintf(&lines, `{"key":"some","values":[%s,%s,%s]}`+"\n", value(at(time.Hour)), `{"content_type":"application/json","value":2}`, value(at(-time.Hour)))
	fmt.Fprintf(&lines, `{"key":"none","values":[%s,%s]}`+"\n", value(at(-time.Hour)), value(at(-time.Minute)))
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := rondo(t, f, "", "import", "b", file, "--resume", file+".point")
	if code != 0 || !strings.Contains(stderr, "imported 3 records") || !strings.Contains(stderr, "left out 2 records: they have expired") {
		t.Errorf("got exit %d:\n%s", code, stderr)
	}
	for key, want := range map[string][]string{"soon": {"59m"}, "late": nil, "far": {"87600h"}, "some": {" ", "59m"}, "none": nil} {
		got := sent["/v1/kv/b/"+key]
		if len(got) != len(want) {
			t.Errorf("%s: got %q, want %q", key, got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) || strings.HasSuffix(got[i], "none") != (i > 0) {
				t.Errorf("%s: got %q, want %q, with the context none from the second on", key, got[i], want[i])
			}
		}
	}
	if c := readPoint(t, file+".point"); c.Line != 5 {
		t.Errorf("the checkpoint is at line %d, want 5", c.Line)
	}
}
