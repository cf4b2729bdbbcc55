package storage

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// A damaged block of a table is an error for everything that needs it, never not-found and never a short listing.
func TestDamagedTableIsAnError(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	cfg.WriteBuffer = 1 << 20
	s := mustOpen(t, cfg)
	const keys = 400
	for i := range keys {
		mustPut(t, s, testKey(i), strings.Repeat("x", 500))
	}
	mustClose(t, s)
	s = mustOpen(t, cfg) // the journal has become a table
	mustClose(t, s)
	tables := 0
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeTable {
			tables++
			live.Edit(fd, func(b []byte) []byte {
				for at := 1000; at < len(b)/2; at += 5000 {
					b[at] ^= 1
				}
				return b
			})
		}
	}
	if tables == 0 {
		t.Fatal("there is no table")
	}
	s = mustOpen(t, cfg)
	damaged, sound := 0, 0
	for i := range keys {
		object, _, err := s.Get(testKey(i))
		switch {
		case err == nil && object != nil:
			sound++
		case errors.Is(err, ErrCorrupt):
			damaged++
			if err := s.Merge(testKey(i), object1); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("merge over a damaged object: %v", err)
			}
			if _, err := put(s, testKey(i), "v"); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("update of a damaged object: %v", err)
			}
		default:
			t.Fatalf("key %d: %x, %v", i, object, err)
		}
	}
	if damaged == 0 || sound == 0 {
		t.Fatalf("%d keys damaged, %d sound: nothing was tested", damaged, sound)
	}
	if err := s.Scan(0, math.MaxUint64, func(ring.Key, []byte) bool { return true }); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a scan over damaged blocks: %v", err)
	}
	if got := s.Stats().CorruptObjects; got < uint64(damaged) {
		t.Fatalf("%d damaged objects counted, met %d", got, damaged)
	}
	mustClose(t, s)
	before := s.Incarnation()
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	if s.Incarnation() == before {
		t.Fatal("the incarnation was used again after damage was met")
	}
	lost := 0 // the damaged blocks were left behind with the old database: what is left is sound, and what is not there does not count
	for i := range keys {
		if mustGet(t, s, testKey(i)) == nil {
			lost++
		}
	}
	if lost != damaged || !lossTold(t, s) {
		t.Fatalf("%d of %d objects are gone, %d of them were damaged; loss told: %v", lost, keys, damaged, lossTold(t, s))
	}
}

var object1 = object(1, 1, "v")

func TestDamagedIndexIsAnError(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	cfg.WriteBuffer = 4 << 20
	s := mustOpen(t, cfg)
	for i := range 3000 {
		if err := s.Merge(testKey(i), object1); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, cfg) // the journal has become a table
	defer mustClose(t, s)
	s.background.Wait()
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeTable {
			live.Rot(fd, func(b []byte) { // the index comes after the objects, and before the trees
				for at := len(b) * 42 / 100; at < len(b)*48/100; at += 1000 {
					b[at] ^= 1
				}
			})
		}
	}
	n := 0
	err := s.List("b", "", allPartitions(), -1, "", func(int, string, vclock.State) bool { n++; return true })
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a listing over damaged blocks gave %d keys and %v", n, err)
	}
	if err := brokenBy(t, s); err.Cause != Damage {
		t.Fatalf("told: %v", err)
	}
}

// The object's own digest finds what goleveldb's checksums cannot: bytes that were wrong when they were stored.
func TestWrongDigestIsAnError(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k := testKey(1)
	for name, value := range map[string][]byte{
		"digest": append(make([]byte, digestLen), object1...), "empty": {}, "no object": make([]byte, digestLen),
	} {
		if err := s.db.Put(appendDataKey(nil, k), value, nil); err != nil {
			t.Fatal(err)
		}
		if object, _, err := s.Get(k); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %x, %v; want ErrCorrupt", name, object, err)
		}
	}
	// A right digest over bytes that are no object.
	if err := s.db.Put(appendDataKey(nil, k), appendValue(nil, []byte("nonsense")), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(k, object1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("merge: %v, want ErrCorrupt", err)
	}
	if _, err := put(s, k, "v"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("update: %v, want ErrCorrupt", err)
	}
}
