package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rondodb/rondo/internal/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		{400, "invalid_argument", exitUsage, "--help"},
		{404, "key_not_found", exitNotFound, "rondo list b"},
		{409, "too_many_siblings", exitFailure, "merge"},
		{409, "conflict", exitFailure, "try again"},
		{413, "too_large", exitFailure, "--max-value"},
		{503, "quorum_unavailable", exitUnavailable, "rondo status"},
		{503, "overloaded", exitUnavailable, "try again"},
		{503, "not_ready", exitUnavailable, "health --ready"},
		{504, "quorum_timeout", exitUnavailable, "--timeout"},
		{507, "insufficient_storage", exitUnavailable, "rondo status --all"},
		{500, "internal", exitFailure, "log"},
		{404, "", exitFailure, "is that a Rondo node"},
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
	for _, args := range []string{"put", "get", "delete", "list", "buckets", "buckets set", "buckets get", "buckets delete", "buckets list", "status", "ring", "repair", "hints", "hints list", "hints pause", "hints resume", "tombstones", "explain", "import", "export", "bench", "verify", "dev", "health", "version"} {
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
