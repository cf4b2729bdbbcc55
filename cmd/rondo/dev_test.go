package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

// mainVariable makes this test binary be the program itself, so that "rondo dev --chaos" can start it as its nodes.
const mainVariable = "RUN_AS_RONDO"

func init() {
	if os.Getenv(mainVariable) != "" {
		main() // and does not return
	}
}

// Flags that make no sense are refused before anything starts.
func TestDevRejects(t *testing.T) {
	for _, args := range [][]string{
		{"--nodes", "0"},
		{"--nodes", "10"},
		{"--port", "65530"},
		{"--every", "1s"},
		{"--seed", "1"},
		{"--duration", "1s"},
		{"--verify", "--duration", "0s"},
		{"--verify", "--nodes", "2"},
		{"--chaos=wild"},
		{"--chaos="},
		{"--chaos", "--nodes", "2"},
		{"--chaos", "--every", "0s"},
	} {
		code := run(t.Context(), append([]string{"dev"}, args...), nil, io.Discard, io.Discard, os.LookupEnv)
		if code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", args, code, exitUsage)
		}
	}
}

// A verdict that is not a pass keeps its history, fit to be judged again.
func TestDevVerdictKeepsTheHistory(t *testing.T) {
	lost := []check.Op{
		{ID: 0, Client: "c1", Kind: check.Put, Key: "k", Value: "v", ContextIn: check.Fresh, Outcome: check.OK, ContextOut: "t", Invoke: 1, Return: 2},
		{ID: 1, Client: "c2", Kind: check.Read, Key: "k", Outcome: check.OK, Final: true, Strict: true, Invoke: 3, Return: 4},
	}
	for _, test := range []struct {
		ops  []check.Op
		code int
	}{{lost, exitFailure}, {lost[:1], exitUnavailable}} {
		dir := t.TempDir()
		var out strings.Builder
		if got := exitCode(devVerdict(verify.Judge(test.ops), dir, &out)); got != test.code {
			t.Errorf("exit code %d, want %d:\n%s", got, test.code, out.String())
		}
		file := filepath.Join(dir, "history.jsonl")
		if !strings.Contains(out.String(), "rondo verify --check "+file+" judges it again") {
			t.Errorf("it does not say where the history is:\n%s", out.String())
		}
		if got := run(t.Context(), []string{"verify", "--check", file}, nil, io.Discard, io.Discard, os.LookupEnv); got != test.code {
			t.Errorf("judged again: exit code %d, want %d", got, test.code)
		}
	}
}
