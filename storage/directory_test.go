package storage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/vclock"
)

// tree reads all files of a directory but the lock file.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == lockName {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDirectoryInUseIsRefusedUntouched(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := mustOpen(t, cfg)
	mustPut(t, s, testKey(1), "v")
	before := tree(t, cfg.Dir)
	_, err := Open(cfg)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("got %v, want ErrLocked and who holds it", err)
	}
	if after := tree(t, cfg.Dir); !maps.Equal(before, after) {
		t.Fatal("a refused start changed files")
	}
	mustPut(t, s, testKey(1), "w")
	mustClose(t, s)
	mustClose(t, mustOpen(t, cfg))
}

func TestForeignDirectoryIsRefusedUntouched(t *testing.T) {
	const id = `"id":"0123456789abcdef0123456789abcdef"`
	for name, files := range map[string]map[string]string{
		"later format":     {identityName: `{"format":2,` + id + `}`, "db/CURRENT": "x"},
		"no format":        {identityName: `{` + id + `}`},
		"not JSON":         {identityName: "\x00\x00"},
		"malformed id":     {identityName: `{"format":1,"id":"ABC"}`},
		"somebody else's":  {"photo.jpg": "x"},
		"identity removed": {"db/CURRENT": "MANIFEST-000000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrForeign) {
				t.Fatalf("got %v, want ErrForeign", err)
			}
			if after := tree(t, dir); !maps.Equal(before, after) {
				t.Fatal("a refused start changed files")
			}
			if _, err := os.Stat(filepath.Join(dir, lockName)); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal("a refused start left a lock file")
			}
		})
	}
}

func TestFileInPlaceOfTheDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: path}); !errors.Is(err, syscall.ENOTDIR) {
		t.Fatalf("got %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Fatal("opened without a directory")
	}
}

func TestIdentityAndIncarnation(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "a", "b")}
	s := mustOpen(t, cfg)
	id, first := s.NodeID(), s.Incarnation()
	if len(id) != 32 || strings.Trim(string(id), "0123456789abcdef") != "" || first == 0 {
		t.Fatalf("id %q, incarnation %x", id, first)
	}
	mustClose(t, s)
	s = mustOpen(t, cfg)
	if s.NodeID() != id || s.Incarnation() != first || s.Stats().UncleanStart {
		t.Fatalf("after a clean stop: id %q, incarnation %x; want %q, %x", s.NodeID(), s.Incarnation(), id, first)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, cleanName)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("an open store has a clean mark")
	}
	mustPut(t, s, testKey(1), "v")

	// A copy of the running store's directory is what kill -9 leaves.
	killed := Config{Dir: filepath.Join(t.TempDir(), "copy")}
	copyDir(t, killed.Dir, cfg.Dir)
	mustClose(t, s)
	k := mustOpen(t, killed)
	if k.NodeID() != id || k.Incarnation() == first || !k.Stats().UncleanStart {
		t.Fatalf("after an unclean stop: id %q, incarnation %x; want %q and a new one", k.NodeID(), k.Incarnation(), id)
	}
	wantValues(t, k, testKey(1), "v")
	if err := k.Healthy(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, k)

	// A copy of a cleanly stopped one may be put back at any time: it must not mint the same dots again.
	restored := Config{Dir: filepath.Join(t.TempDir(), "restored")}
	copyDir(t, restored.Dir, cfg.Dir)
	r := mustOpen(t, restored)
	defer mustClose(t, r)
	if r.Incarnation() == first {
		t.Fatal("a restored copy uses the incarnation again")
	}
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// What a start says and does when files were damaged while the store was stopped.
func TestDamageWhileStopped(t *testing.T) {
	journal := func(f storage.FileDesc) bool { return f.Type == storage.TypeJournal }
	manifest := func(f storage.FileDesc) bool { return f.Type == storage.TypeManifest }
	flip := func(at float64) func([]byte) []byte {
		return func(b []byte) []byte { b[int(at*float64(len(b)))] ^= 0x10; return b }
	}
	for _, c := range []struct {
		name    string
		file    func(storage.FileDesc) bool
		edit    func([]byte) []byte
		clean   bool
		damaged bool // it says so, and casts no votes
	}{
		{"torn journal after a crash", journal, func(b []byte) []byte { return b[:len(b)-3] }, false, false},
		{"flipped bit in the last journal after a crash", journal, flip(0.5), false, false},
		{"flipped bit in a journal after a clean stop", journal, flip(0.5), true, true},
		{"cut journal after a clean stop", journal, func(b []byte) []byte { return b[:0] }, true, true},
		{"removed journal after a clean stop", journal, func([]byte) []byte { return nil }, true, true},
		{"flipped bit in the manifest after a clean stop", manifest, flip(0.9), true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			var logged bytes.Buffer
			cfg.Logger = slog.New(slog.NewJSONHandler(&logged, nil))
			s := mustOpen(t, cfg)
			for i := range 100 {
				mustPut(t, s, testKey(i), strings.Repeat("x", 300))
			}
			for i := 0; i < 100; i += 3 {
				mustPut(t, s, testKey(i), strings.Repeat("y", 300))
			}
			if !c.clean { // leave the disk to the crash, and the directory without a mark
				cfg.Backend = live.Crash(memdisk.Everything, nil)
				mustClose(t, s)
				cfg.Dir = t.TempDir()
			} else {
				mustClose(t, s)
			}
			disk := cfg.Backend.(*memdisk.Disk)
			damaged := slices.DeleteFunc(disk.Files(), func(fd storage.FileDesc) bool { return !c.file(fd) })
			slices.SortFunc(damaged, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
			if !c.clean { // a crash tears the end alone
				damaged = damaged[len(damaged)-1:]
			}
			for _, fd := range damaged {
				disk.Edit(fd, c.edit)
			}
			logged.Reset()
			again := mustOpen(t, cfg)
			if what := again.misindexed(t); what != "" {
				t.Error(what)
			}
			if again.Incarnation() == s.Incarnation() {
				t.Error("the incarnation was used again")
			}
			if told := lossTold(t, again); told != c.damaged {
				t.Errorf("loss told: %v, want %v", told, c.damaged)
			}
			if loud := strings.Contains(logged.String(), `"level":"ERROR"`); loud != c.damaged {
				t.Errorf("logged as an error: %v, want %v:\n%s", loud, c.damaged, logged.String())
			}
			if _, err := put(again, testKey(1), "after"); err != nil {
				t.Errorf("cannot be written: %v", err)
			}
			mustClose(t, again)
			again = mustOpen(t, cfg) // what was lost is still lost
			defer mustClose(t, again)
			if told := lossTold(t, again); told != c.damaged {
				t.Errorf("loss told after another start: %v, want %v", told, c.damaged)
			}
			if err := again.ClearDamage(); err != nil || lossTold(t, again) {
				t.Errorf("cleared: %v", err)
			}
		})
	}
}

func TestCleanMarkNamesTheFiles(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := mustOpen(t, cfg)
	mustPut(t, s, testKey(1), "v")
	mustClose(t, s)
	b, err := os.ReadFile(filepath.Join(cfg.Dir, cleanName))
	if err != nil {
		t.Fatal(err)
	}
	var mark cleanMark
	if err := json.Unmarshal(b, &mark); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(mark.Files))
	if len(names) != 2 || !strings.HasSuffix(names[0], ".log") || !strings.HasPrefix(names[1], "MANIFEST-") {
		t.Fatalf("the mark names %q, want a journal and a manifest", names)
	}
	if a, ok := mark.actor(); !ok || a != s.Incarnation() || a == vclock.Actor(0) {
		t.Fatalf("the mark names incarnation %q, want %x", mark.Incarnation, s.Incarnation())
	}
}
