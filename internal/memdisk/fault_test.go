package memdisk

import (
	"errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// every calls each operation once, and yields its error.
func (s script) every(w storage.Writer, r storage.Reader) map[string]error {
	got := map[string]error{}
	_, got["create"] = s.Create(storage.FileDesc{Type: storage.TypeTemp, Num: 7})
	_, got["open"] = s.Open(table)
	_, got["write"] = w.Write([]byte("x"))
	_, got["read"] = r.ReadAt(make([]byte, 1), 0)
	_, got["lock"] = s.Lock()
	_, got["list"] = s.List(storage.TypeAll)
	_, got["getmeta"] = s.GetMeta()
	got["sync"] = w.Sync()
	got["setmeta"] = s.SetMeta(manifest)
	got["rename"] = s.Rename(manifest, storage.FileDesc{Type: storage.TypeManifest, Num: 8})
	got["remove"] = s.Remove(table)
	got["syncdir"] = s.SyncDir()
	return got
}

// full is a disk with one of each, to try every operation on.
func full(t *testing.T) (s script, w storage.Writer, r storage.Reader) {
	s = script{t, New()}
	s.saved(table, "table")
	s.saved(manifest, "manifest")
	s.ok(s.SetMeta(manifest))
	w = s.create(journal)
	r, err := s.Open(table)
	s.ok(err)
	return s, w, r
}

func TestEveryOperationWorks(t *testing.T) {
	s, w, r := full(t)
	for op, err := range s.every(w, r) {
		if err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestDetach(t *testing.T) {
	s, w, r := full(t)
	before := s.Clone()
	s.Detach()
	for op, err := range s.every(w, r) {
		if !errors.Is(err, ErrDetached) {
			t.Errorf("%s: %v", op, err)
		}
	}
	after := s.Clone()
	for _, fd := range []storage.FileDesc{journal, table, manifest} {
		s.want(after, fd, s.content(before, fd))
	}
	if len(after.Files()) != len(before.Files()) {
		t.Errorf("%v, want %v", after.Files(), before.Files())
	}
}

func TestInject(t *testing.T) {
	s, w, r := full(t)
	mine, other := errors.New("mine"), errors.New("other")
	asked := map[Op]int{}
	s.Fault = func(op Op, _ storage.FileDesc) error {
		asked[op]++
		return nil
	}
	remove := s.Inject(func(Op, storage.FileDesc) error { return mine })
	s.Inject(func(op Op, fd storage.FileDesc) error {
		if op == OpWrite && fd == journal {
			return other
		}
		return nil
	})
	for op, err := range s.every(w, r) {
		if hooked := op != "lock" && op != "list" && op != "getmeta"; errors.Is(err, mine) != hooked {
			t.Errorf("%s: %v", op, err)
		}
	}
	remove()
	remove()
	if _, err := w.Write([]byte("x")); !errors.Is(err, other) {
		t.Errorf("got %v", err)
	}
	s.want(s.Disk, journal, "")
	s.ok(s.Remove(table))
	if asked[OpWrite] != 2 || asked[OpRemove] != 2 {
		t.Errorf("asked %v", asked)
	}
}

// Faults come and go while the disk is used.
func TestInjectAtRunTime(t *testing.T) {
	s := script{t, New()}
	var wg sync.WaitGroup
	for n := range int64(4) {
		wg.Go(func() {
			w, err := s.Create(storage.FileDesc{Type: storage.TypeJournal, Num: n})
			for i := 0; err == nil && i < 1000; i++ {
				_, err = w.Write([]byte("x"))
			}
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for range 1000 {
				s.Inject(func(Op, storage.FileDesc) error { return nil })()
			}
		})
	}
	wg.Wait()
	if got := s.Used(); got != 4000 {
		t.Errorf("%d bytes, want 4000", got)
	}
}

// After a failed sync the page cache shows what the disk will never have.
func TestFailSync(t *testing.T) {
	s := script{t, New()}
	w, other := s.create(journal), s.create(table)
	s.ok(s.SyncDir())
	s.FailSync(storage.TypeJournal, 2)
	s.FailSync(storage.TypeAll, 4)
	s.write(w, "safe ")
	s.ok(w.Sync())
	s.ok(other.Sync())
	s.write(w, "lost ")
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	s.write(w, "safe")
	if err := w.Sync(); !errors.Is(err, syscall.EIO) { // the fourth of all
		t.Fatalf("got %v", err)
	}
	s.write(w, " again")
	s.ok(w.Sync())
	s.want(s.Disk, journal, "safe lost safe again")
	s.want(s.Crash(Everything, nil), journal, "safe lost safe again")
	want := "safe " + strings.Repeat("\x00", len("lost safe")) + " again"
	s.want(s.Crash(Nothing, nil), journal, want)
	s.want(s.Crash(Something, rand.New(rand.NewPCG(1, 1))), journal, want)
	s.want(s.Clone().Crash(Nothing, nil), journal, want)
	m := s.create(manifest)
	s.FailSync(storage.TypeManifest, 1)
	if err := m.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	s.want(s.Crash(Nothing, nil), manifest, "none") // the directory is not synced either
}

func TestCapacity(t *testing.T) {
	s := script{t, New()}
	s.SetCapacity(10)
	w := s.create(journal)
	s.write(w, "123456")
	if n, err := w.Write([]byte("78901")); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.ENOSPC) || s.Used() != 10 {
		t.Errorf("wrote %d, %v; %d used", n, err, s.Used())
	}
	s.want(s.Disk, journal, "1234567890")
	other := s.create(table) // a name costs nothing
	if err := s.SetMeta(manifest); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if _, err := s.GetMeta(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s.ok(w.Sync())
	s.ok(s.SyncDir())
	for name, d := range map[string]*Disk{"crash": s.Crash(Nothing, nil), "clone": s.Clone()} {
		w, err := d.Create(manifest)
		s.ok(err)
		if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the capacity is gone after a %s: %v", name, err)
		}
	}
	s.ok(s.Remove(journal))
	s.write(w, "nobody's") // it has no name any more
	s.write(other, "1234567890")
	s.ok(s.Rename(table, journal))
	s.ok(s.Rename(journal, journal))
	if got := s.Used(); got != 10 {
		t.Errorf("%d used, want 10", got)
	}
	s.create(journal) // replaces it
	if got := s.Used(); got != 0 {
		t.Errorf("%d used, want 0", got)
	}
	s.saved(table, "12345")
	s.Edit(table, func([]byte) []byte { return []byte("123") })
	s.SetCapacity(2) // below what is used
	w = s.create(manifest)
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.ENOSPC) || s.Used() != 3 {
		t.Errorf("wrote %d, %v; %d used", n, err, s.Used())
	}
	s.SetCapacity(0)
	s.write(w, "x")
	s.Edit(table, func([]byte) []byte { return nil })
	if got := s.Used(); got != 1 {
		t.Errorf("%d used, want 1", got)
	}
}

func TestFlipBit(t *testing.T) {
	s := script{t, New()}
	rng := rand.New(rand.NewPCG(1, 1))
	s.create(journal)
	if _, _, ok := s.FlipBit(rng, storage.TypeJournal); ok {
		t.Error("an empty file has a bit")
	}
	zeroes := strings.Repeat("\x00", 10)
	s.saved(table, zeroes)
	second := storage.FileDesc{Type: storage.TypeTable, Num: 9}
	s.saved(second, zeroes)
	open, err := s.Open(table)
	s.ok(err)
	before, files := s.Crash(Nothing, nil), map[storage.FileDesc]int{}
	for range 50 {
		was := map[storage.FileDesc]string{table: s.content(s.Disk, table), second: s.content(s.Disk, second)}
		fd, bit, ok := s.FlipBit(rng, storage.TypeTable)
		if !ok || fd.Type != storage.TypeTable {
			t.Fatalf("got %v, %v", fd, ok)
		}
		files[fd]++
		for each, old := range was {
			got, flipped := s.content(s.Disk, each), 0
			for i := range got {
				if d := got[i] ^ old[i]; d != 0 {
					flipped += bits.OnesCount8(d)
					if int64(i)*8+int64(bits.TrailingZeros8(d)) != bit {
						t.Errorf("bit %d of byte %d is flipped, not %d", bits.TrailingZeros8(d), i, bit)
					}
				}
			}
			if want := map[bool]int{true: 1}[each == fd]; flipped != want {
				t.Errorf("%d bits of %s are flipped, want %d", flipped, each, want)
			}
		}
	}
	if files[table] < 5 || files[second] < 5 {
		t.Errorf("drew %v", files)
	}
	s.want(before, table, zeroes) // another disk
	s.want(s.Crash(Nothing, nil), table, s.content(s.Disk, table))
	got, err := io.ReadAll(open)
	s.ok(err)
	if string(got) != s.content(s.Disk, table) || string(got) == zeroes {
		t.Errorf("an open file shows %x", got)
	}
}
