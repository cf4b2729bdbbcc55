package memdisk

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

var (
	journal  = storage.FileDesc{Type: storage.TypeJournal, Num: 1}
	table    = storage.FileDesc{Type: storage.TypeTable, Num: 2}
	manifest = storage.FileDesc{Type: storage.TypeManifest, Num: 3}
)

// script runs operations of which none may fail.
type script struct {
	t *testing.T
	*Disk
}

func (s script) create(fd storage.FileDesc) storage.Writer {
	s.t.Helper()
	w, err := s.Create(fd)
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s script) write(w storage.Writer, text string) {
	s.t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		s.t.Fatalf("wrote %d of %q: %v", n, text, err)
	}
}

func (s script) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// saved writes a file that a crash does not touch.
func (s script) saved(fd storage.FileDesc, text string) {
	s.t.Helper()
	w := s.create(fd)
	s.write(w, text)
	s.ok(w.Sync())
	s.ok(w.Close())
	s.ok(s.SyncDir())
}

// content is a file as it is read, or "none".
func (s script) content(d *Disk, fd storage.FileDesc) string {
	s.t.Helper()
	r, err := d.Open(fd)
	if errors.Is(err, os.ErrNotExist) {
		return "none"
	}
	s.ok(err)
	got, err := io.ReadAll(r)
	s.ok(err)
	s.ok(r.Close())
	return string(got)
}

func (s script) want(d *Disk, fd storage.FileDesc, want string) {
	s.t.Helper()
	if got := s.content(d, fd); got != want {
		s.t.Errorf("%s has %q, want %q", fd, got, want)
	}
}

func TestCrash(t *testing.T) {
	s := script{t, New()}
	s.saved(table, "old")
	w := s.create(journal)
	s.write(w, "synced")
	s.ok(w.Sync())
	s.want(s.Crash(Nothing, nil), journal, "none") // the name is not
	s.ok(s.SyncDir())
	s.write(w, " not")
	s.ok(s.Remove(table))
	gone := s.Crash(Nothing, nil)
	s.want(gone, journal, "synced")
	s.want(gone, table, "old")
	all := s.Crash(Everything, nil)
	s.want(all, journal, "synced not")
	s.want(all, table, "none")
	seen := map[string]bool{}
	for seed := range uint64(100) {
		some := s.Crash(Something, rand.New(rand.NewPCG(seed, 1)))
		got := s.content(some, journal)
		if !bytes.HasPrefix([]byte(got), []byte("synced")) || len(got) > len("synced not") {
			t.Fatalf("found %q", got)
		}
		seen[got+s.content(some, table)] = true
	}
	if len(seen) < 10 {
		t.Errorf("100 crashes left %d kinds of disk", len(seen))
	}
	if got, want := gone.Used(), int64(len("synced")+len("old")); got != want {
		t.Errorf("%d bytes are found, want %d", got, want)
	}
}

func TestManifestSyncsTheDirectory(t *testing.T) {
	s := script{t, New()}
	s.create(journal)
	w := s.create(manifest)
	s.ok(w.Sync())
	s.want(s.Crash(Nothing, nil), journal, "")
	s.ok(s.SetMeta(manifest))
	if got, err := s.Crash(Nothing, nil).GetMeta(); got != manifest || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	s.ok(s.Rename(manifest, storage.FileDesc{Type: storage.TypeManifest, Num: 9}))
	if _, err := s.GetMeta(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestOps(t *testing.T) {
	s := script{t, New()}
	w := s.create(journal)
	s.write(w, "abc")
	r, err := s.Open(journal)
	s.ok(err)
	s.write(w, "def") // after the reader's end
	got := make([]byte, 10)
	if n, err := r.ReadAt(got, 1); string(got[:n]) != "bc" || !errors.Is(err, io.EOF) {
		t.Errorf("read %q, %v", got[:n], err)
	}
	s.ok(w.Close())
	for what, err := range map[string]error{"close": w.Close(), "sync": w.Sync()} {
		if !errors.Is(err, errClosed) {
			t.Errorf("%s of a closed file: %v", what, err)
		}
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("write to a closed file: %v", err)
	}
	if err := errors.Join(s.Remove(table)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := s.Rename(table, journal); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Create(storage.FileDesc{}); !errors.Is(err, storage.ErrInvalidFile) {
		t.Errorf("got %v", err)
	}
	s.saved(table, "t")
	if got, err := s.List(storage.TypeTable); !slices.Equal(got, []storage.FileDesc{table}) || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	lock, err := s.Lock()
	s.ok(err)
	if _, err := s.Lock(); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	lock.Unlock()
	_, err = s.Lock()
	s.ok(err)
	for range 2500 {
		s.Log("line")
	}
	if got := len(s.LogLines()); got == 0 || got > 1000 {
		t.Errorf("%d lines are kept", got)
	}
}

// A killed process's unsynced bytes are there for the next one, and still not safe.
func TestClone(t *testing.T) {
	s := script{t, New()}
	s.saved(table, "saved")
	s.ok(s.Rename(table, journal))
	w := s.create(table)
	s.write(w, "new")
	next := script{t, s.Clone()}
	s.write(w, " and more")
	s.ok(w.Sync())
	s.ok(s.SyncDir())
	next.want(next.Disk, table, "new")
	next.want(next.Disk, journal, "saved")
	lost := next.Crash(Nothing, nil)
	next.want(lost, table, "saved")
	next.want(lost, journal, "none")
	if got, want := next.Used(), int64(len("new")+len("saved")); got != want {
		t.Errorf("%d bytes used, want %d", got, want)
	}
	next.ok(next.SyncDir())
	next.want(next.Crash(Nothing, nil), table, "") // named, and empty
	next.want(next.Crash(Nothing, nil), journal, "saved")
}

// goleveldb lives on it, through the death of its process.
func TestDatabase(t *testing.T) {
	disk := New()
	db, err := leveldb.Open(disk, &opt.Options{WriteBuffer: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	key := func(i int) []byte { return []byte{byte(i >> 8), byte(i)} }
	for i := range 1000 {
		if err := db.Put(key(i), bytes.Repeat(key(i), 50), nil); err != nil {
			t.Fatal(err)
		}
	}
	found := disk.Crash(Everything, nil) // goleveldb alone does not sync the name of a new journal
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = leveldb.Open(found, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if got, err := db.Get(key(i), nil); err != nil || !bytes.Equal(got, bytes.Repeat(key(i), 50)) {
			t.Fatalf("%d: %d bytes, %v", i, len(got), err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, fd := range found.Files() {
		sum += int64(len(script{t, found}.content(found, fd)))
	}
	if got := found.Used(); got != sum || sum == 0 {
		t.Errorf("%d bytes used, the files have %d", got, sum)
	}
}
