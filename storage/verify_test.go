package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func mustVerify(t testing.TB, s *Store, partition int) VerifyResult {
	t.Helper()
	v, err := s.VerifyPartition(partition, func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyPutsLeavesRight(t *testing.T) {
	key := testKey(1)
	leaf := ring.Leaf(key.Token)
	for name, harm := range map[string]func(*testing.T, *Store, ring.Class){
		"on disk": func(t *testing.T, s *Store, c ring.Class) {
			if err := s.db.Put(appendLeafKey(nil, c, leaf), binary.BigEndian.AppendUint64(nil, 7), nil); err != nil {
				t.Fatal(err)
			}
		},
		"on disk, gone": func(t *testing.T, s *Store, c ring.Class) {
			if err := s.db.Delete(appendLeafKey(nil, c, leaf), nil); err != nil {
				t.Fatal(err)
			}
		},
		"on disk, of nothing": func(t *testing.T, s *Store, c ring.Class) {
			if err := s.db.Put(appendLeafKey(nil, c, leaf+1), binary.BigEndian.AppendUint64(nil, 7), nil); err != nil {
				t.Fatal(err)
			}
		},
		"in memory":       func(_ *testing.T, s *Store, c ring.Class) { s.trees.of(c).set(leaf, 7) },
		"in memory, gone": func(_ *testing.T, s *Store, c ring.Class) { s.trees.of(c).set(leaf, 0) },
		"of nothing":      func(_ *testing.T, s *Store, c ring.Class) { s.trees.of(c).set(leaf+1, 7) },
		"of another class too": func(_ *testing.T, s *Store, c ring.Class) {
			s.trees.of(ring.Class{Partition: c.Partition, N: 5}).set(leaf, 7)
		},
		"an object gone": func(t *testing.T, s *Store, _ ring.Class) {
			k := appendDataKey(nil, key)
			if err := s.db.Delete(k, nil); err != nil {
				t.Fatal(err)
			}
			s.cache.set(k, absent)
			k = appendIndexKey(nil, s.class(key).Partition, key.Bucket, key.Name)
			if err := s.db.Delete(k, nil); err != nil {
				t.Fatal(err)
			}
			s.live.changed(vclock.Live, vclock.Absent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustOpen(t, Config{Dir: t.TempDir()})
			defer mustClose(t, s)
			for i := range 50 {
				mustPut(t, s, testKey(i), "v")
			}
			c := s.class(key)
			collect(t, s, []ring.Class{c, {Partition: c.Partition, N: 5}}, 1000)
			if v := mustVerify(t, s, c.Partition); v.WrongLeaves != 0 || v.Objects == 0 || v.Bytes == 0 {
				t.Fatalf("before: %+v", v)
			}
			harm(t, s, c)
			if v := mustVerify(t, s, c.Partition); v.WrongLeaves != 1 || v.Damaged != 0 {
				t.Fatalf("%+v, want one wrong leaf", v)
			}
			wantConsistent(t, s)
			if v := mustVerify(t, s, c.Partition); v.WrongLeaves != 0 {
				t.Fatalf("again: %+v", v)
			}
			marked := c
			if name == "of another class too" {
				marked.N = 5
			}
			if m := s.Marks(marked); m.Watermark != 0 || m.Released != 0 || m.Fence != 1000 {
				t.Fatalf("marks %+v, want the fence only", m)
			}
		})
	}
}

func TestVerifyFindsDamagedObjects(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: -1})
	defer s.Close()
	key := testKey(1)
	for i := range 50 {
		mustPut(t, s, testKey(i), "v")
	}
	before := mustVerify(t, s, s.class(key).Partition)
	v, err := s.db.Get(appendDataKey(nil, key), nil)
	if err != nil {
		t.Fatal(err)
	}
	v[len(v)-1] ^= 1
	if err := s.db.Put(appendDataKey(nil, key), v, nil); err != nil {
		t.Fatal(err)
	}
	got := mustVerify(t, s, s.class(key).Partition)
	if got.Objects != before.Objects-1 || got.Damaged != 1 || got.WrongLeaves != 0 {
		t.Fatalf("%+v, before %+v", got, before)
	}
	if s.Stats().CorruptObjects == 0 {
		t.Fatal("not counted")
	}
}

// Verification goes in steps, and ends where it is told to.
func TestVerifyIsPaced(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	for i := range 40 {
		mustPut(t, s, testKey(i), strings.Repeat("x", verifyStep/2))
	}
	steps, total := 0, int64(0)
	var v VerifyResult
	for p := range testPartitions {
		got, err := s.VerifyPartition(p, func(bytes int) error {
			if bytes > 0 {
				steps++
			}
			if bytes > 3*verifyStep {
				t.Errorf("a step of %d bytes", bytes)
			}
			total += int64(bytes)
			mustPut(t, s, testKey(1000), "w") // writes go on between steps
			return nil
		})
		if err != nil || got.WrongLeaves > 0 || got.Damaged > 0 {
			t.Fatalf("%+v, %v", got, err)
		}
		v.Bytes += got.Bytes
		v.Objects += got.Objects
	}
	if v.Objects < 40 || total != v.Bytes || steps < 2*testPartitions {
		t.Fatalf("%+v in %d steps of %d bytes in all", v, steps, total)
	}
	stop := errors.New("enough")
	if _, err := s.VerifyPartition(0, func(int) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.VerifyPartition(testPartitions, func(int) error { return nil }); !errors.Is(err, ErrPartitions) {
		t.Fatalf("got %v", err)
	}
}

// Objects that were written before a bucket's replica count changed are found and filed anew, without a write.
func TestVerifyFindsMisfiledObjects(t *testing.T) {
	n := 3
	s := mustOpen(t, Config{Dir: t.TempDir(), Replicas: func(string) int { return n }})
	defer mustClose(t, s)
	for i := range 20 {
		mustPut(t, s, testKey(i), fmt.Sprint(i))
	}
	n = 5
	mustVerify(t, s, s.class(testKey(1)).Partition)
	wantConsistent(t, s)
	for _, c := range s.Classes() {
		if c.N != 5 {
			t.Fatalf("class %v holds something", c)
		}
	}
}
