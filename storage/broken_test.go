package storage

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
)

// A disk that failed needs nothing but another start, and a full one that too: nothing is salvaged, and nobody doubts what is there.
func TestFailedDiskNeedsOnlyAnotherStart(t *testing.T) {
	for name, c := range map[string]struct {
		fail  func(d *memdisk.Disk)
		cause Cause
	}{
		"fsync fails": {func(d *memdisk.Disk) { d.FailSync(storage.TypeJournal, 1) }, DiskFailed},
		"no space": {func(d *memdisk.Disk) {
			d.Inject(func(op memdisk.Op, fd storage.FileDesc) error {
				if op == memdisk.OpWrite && fd.Type == storage.TypeJournal {
					return syscall.ENOSPC
				}
				return nil
			})
		}, DiskFull},
		"no quota": {func(d *memdisk.Disk) {
			d.Inject(func(op memdisk.Op, fd storage.FileDesc) error {
				if op == memdisk.OpWrite && fd.Type == storage.TypeJournal {
					return syscall.EDQUOT
				}
				return nil
			})
		}, DiskFull},
	} {
		t.Run(name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			s := mustOpen(t, cfg)
			mustPut(t, s, testKey(1), "safe")
			if err := wait(s); err != nil {
				t.Fatal(err)
			}
			c.fail(live)
			_, err := put(s, testKey(2), "lost")
			if err = errors.Join(err, wait(s)); !errors.Is(err, ErrFailed) {
				t.Fatalf("write: %v", err)
			}
			if b := brokenBy(t, s); b.Cause != c.cause || !errors.Is(b, ErrFailed) {
				t.Errorf("told %v: %v, want %v", b.Cause, b, c.cause)
			}
			if err := s.Close(); err == nil {
				t.Error("closed without an error")
			}
			cfg.Backend = live.Clone()
			s = mustOpen(t, cfg)
			defer mustClose(t, s)
			wantValues(t, s, testKey(1), "safe")
			if lossTold(t, s) || s.Unsynced() != nil {
				t.Error("nothing was lost")
			}
			select {
			case err := <-s.Broken():
				t.Errorf("told again: %v", err)
			default:
			}
		})
	}
}

// What nobody reads a compaction may meet: the store says so without waiting for a write to fail.
func TestDamageMetByACompaction(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	cfg.BlockCacheBytes = 1
	s := mustOpen(t, cfg)
	for i := range 60 {
		mustPut(t, s, testKey(i), strings.Repeat("x", 500))
	}
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeTable {
			live.Rot(fd, func(b []byte) { b[len(b)/4] ^= 1 })
		}
	}
	deadline := time.Now().Add(time.Minute)
	for i := 0; !s.breakage.told.Load(); i++ {
		if _, err := put(s, testKey(i), strings.Repeat("y", 500)); err != nil && !errors.Is(err, ErrFailed) && !isDamage(err) {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was told")
		}
	}
	if b := brokenBy(t, s); b.Cause != Damage {
		t.Errorf("told %v: %v", b.Cause, b)
	}
	if err := s.Close(); err != nil {
		t.Log(err)
	}
	healed := mustOpen(t, cfg)
	defer mustClose(t, healed)
	healed.background.Wait()
	if !lossTold(t, healed) {
		t.Error("the loss is not told")
	}
	for i := range 60 {
		mustGet(t, healed, testKey(i))
	}
}

// A block that the device cannot read is damage; an error that passes is none.
func TestUnreadableBlockIsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{"input/output error": {syscall.EIO, true}, "no memory": {syscall.ENOMEM, false}} {
		t.Run(name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			cfg.BlockCacheBytes = 1
			s := mustOpen(t, cfg)
			for i := range 60 {
				mustPut(t, s, testKey(i), strings.Repeat("x", 500))
			}
			mustClose(t, s)
			s = mustOpen(t, cfg)
			s.background.Wait()
			remove := live.Inject(func(op memdisk.Op, fd storage.FileDesc) error {
				if op == memdisk.OpRead && fd.Type == storage.TypeTable {
					return fmt.Errorf("read: %w", c.err)
				}
				return nil
			})
			_, _, err := s.Get(testKey(7))
			if err == nil || errors.Is(err, ErrCorrupt) != c.want || s.breakage.told.Load() != c.want {
				t.Errorf("read: %v; told %v, want %v", err, s.breakage.told.Load(), c.want)
			}
			remove()
			mustClose(t, s)
			s = mustOpen(t, cfg) // all can be read again
			defer mustClose(t, s)
			for i := range 60 {
				wantValues(t, s, testKey(i), strings.Repeat("x", 500))
			}
			if lossTold(t, s) != c.want {
				t.Errorf("loss told: %v", !c.want)
			}
		})
	}
}

// Another node's nonsense is not this store's damage.
func TestNonsenseFromOthersIsNoDamage(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	for what, err := range map[string]error{"merge": s.Merge(testKey(1), []byte("nonsense")), "hint": s.Hint(wreckTarget, testKey(1), []byte("nonsense"))} {
		if err == nil || isDamage(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s.breakage.told.Load() {
		t.Errorf("told %v", <-s.Broken())
	}
}
