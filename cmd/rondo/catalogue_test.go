//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Variables by which a test runs itself as a node process.
const (
	envServe = "RONDO_TEST_SERVE" // data directory
	envCase  = "RONDO_TEST_SERVE_AS"
)

// F36: a node that cannot start there says what is in its way, exits with 1, and changes no file. Each case is a process of its own, for
// limits, users and mounts are a process's.
func TestServeRefusesToStart(t *testing.T) {
	if dir := os.Getenv(envServe); dir != "" {
		serveAs(t, os.Getenv(envCase), dir)
		return
	}
	const identity = `{"format":1,"id":"0123456789abcdef0123456789abcdef"}`
	for name, c := range map[string]struct {
		files map[string]string
		root  bool // needs it
		says  string
	}{
		"used by another process": {map[string]string{"node.json": identity}, false, "in use"},
		"of a later format":       {map[string]string{"node.json": strings.Replace(identity, `:1`, `:2`, 1)}, false, "format 2"},
		"holding other files":     {map[string]string{"photo.jpg": "x"}, false, `"photo.jpg"`},
		"without its identity":    {map[string]string{"db/CURRENT": "MANIFEST-000000\n"}, false, "no node.json"},
		"a file":                  {nil, false, "not a directory"},
		"with few handles":        {map[string]string{"node.json": identity}, false, "may open 64 files"},
		"read-only":               {map[string]string{"node.json": identity}, true, "read-only file system"},
		"read-only and fresh":     {map[string]string{}, true, "read-only file system"},
		"of another user":         {map[string]string{"node.json": identity}, true, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Getuid() != 0 {
				t.Skip("SKIPPED: only root can make such a directory for another process")
			}
			dir := filepath.Join(t.TempDir(), "data")
			if c.files == nil {
				if err := os.WriteFile(dir, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			} else if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for path, content := range c.files {
				path = filepath.Join(dir, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if name == "used by another process" {
				lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				defer lock.Close()
				if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
					t.Fatal(err)
				}
			}
			before := files(t, dir)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestServeRefusesToStart$")
			cmd.Env = append(os.Environ(), envServe+"="+dir, envCase+"="+name)
			if strings.HasPrefix(name, "read-only") {
				cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			}
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), cannotObstruct) || cmd.SysProcAttr != nil && errors.Is(err, syscall.EPERM) {
				t.Skipf("SKIPPED: %v %s", err, out)
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != exitFailure {
				t.Errorf("got %v, want exit code %d:\n%s", err, exitFailure, out)
			}
			if !strings.Contains(string(out), "error: start node: ") || !strings.Contains(string(out), c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out)
			}
			if after := files(t, dir); !maps.Equal(before, after) {
				t.Errorf("a refused start changed files: %v, were %v", after, before)
			}
		})
	}
}

// F46: as long as there is no encryption, an address that others can reach is refused unless it is said to be meant; nothing is made or
// bound before.
func TestServeRefusesOpenNetworks(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	for _, flag := range []string{"http", "peer", "gossip"} {
		for _, addr := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "[2001:db8::1]:0", "localhost.example:0", "127.0.0.1.example:0", "[::ffff:192.0.2.1]:0"} {
			dir := filepath.Join(t.TempDir(), "data")
			args := []string{"serve", "--data", dir}
			for _, other := range []string{"http", "peer", "gossip"} {
				if other == flag {
					args = append(args, "--"+other, addr)
				} else {
					args = append(args, "--"+other, "127.0.0.1:0")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // should it start after all
			var stderr bytes.Buffer
			code := run(ctx, args, nil, io.Discard, &stderr, none)
			cancel()
			if code != exitUsage || !strings.Contains(stderr.String(), "--"+flag+" ") || !strings.Contains(stderr.String(), "--insecure") {
				t.Errorf("--%s %s: got exit %d:\n%s", flag, addr, code, stderr.String())
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("--%s %s: the data directory was made: %v", flag, addr, err)
			}
		}
	}
}

// cannotObstruct begins the output of a process that may not do what its case needs.
const cannotObstruct = "cannot obstruct: "

// serveAs puts this process into the case, and serves.
func serveAs(t *testing.T, name, dir string) {
	var err error
	switch name {
	case "with few handles":
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64})
	case "of another user":
		if err = os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755); err == nil { // the test's own; what is asked for is below it
			err = syscall.Setuid(65534)
		}
	case "read-only", "read-only and fresh":
		if err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err == nil {
			err = syscall.Mount(dir, dir, "", syscall.MS_BIND, "")
		}
		if err == nil {
			err = syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
		}
	}
	if err != nil {
		t.Fatal(cannotObstruct, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // should it start after all
	defer cancel()
	none := func(string) (string, bool) { return "", false }
	os.Exit(run(ctx, []string{"serve", "--data", dir, "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--gossip", "127.0.0.1:0"}, os.Stdin, os.Stdout, os.Stderr, none))
}

// files is what a path holds: contents, modes and owners.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out[path] = info.Mode().String()
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			out[path] += string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
