//go:build linux || darwin

package storage

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// With too few file handles the start fails and says so. In a process of its own, for the limit is the process's.
func TestTooFewFileHandles(t *testing.T) {
	if dir := os.Getenv("RONDO_TEST_FEW_HANDLES"); dir != "" {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), "64") {
			t.Fatalf("got %v", err)
		}
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTooFewFileHandles$")
	cmd.Env = append(os.Environ(), "RONDO_TEST_FEW_HANDLES="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Fatalf("%d files were made (%v)", len(entries), err)
	}
}
