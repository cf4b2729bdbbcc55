package storage

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
)

// readLeaf reads a leaf of a key's class to its end.
func readLeaf(t testing.TB, s *Store, c ring.Class, leaf int) (keys []ring.Key, sound bool) {
	t.Helper()
	sound, err := s.ReadLeaf(c, leaf, func(key ring.Key, object []byte, digest uint64) bool {
		if ring.Digest(object) != digest {
			t.Errorf("%q: digest %x of %x", key.Name, digest, object)
		}
		keys = append(keys, key)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, sound
}

func TestReadLeaf(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), Replicas: func(b string) int {
		if b == "two" {
			return 2
		}
		return 3
	}})
	defer mustClose(t, s)
	key := testKey(1)
	leaf := ring.Leaf(key.Token)
	neighbour := sameLeaf(t, key)
	foreign := sameLeaf(t, ring.Key{Bucket: "two", Token: key.Token})
	for _, k := range []ring.Key{key, neighbour, foreign, testKey(2), testKey(3)} {
		mustPut(t, s, k, "v")
	}
	want := []ring.Key{key, neighbour}
	slices.SortFunc(want, func(a, b ring.Key) int { return int(a.Token>>32) - int(b.Token>>32) })
	c := classOf(s, key)[0]
	if got, sound := readLeaf(t, s, c, leaf); !slices.Equal(got, want) || !sound {
		t.Fatalf("got %v, sound %v; want %v", got, sound, want)
	}
	if got, sound := readLeaf(t, s, ring.Class{Partition: c.Partition, N: 2}, leaf); !slices.Equal(got, []ring.Key{foreign}) || !sound {
		t.Fatalf("got %v, sound %v; want %v", got, sound, foreign)
	}
	if got, sound := readLeaf(t, s, ring.Class{Partition: c.Partition, N: 7}, leaf); got != nil || !sound {
		t.Fatalf("an empty class has %v, sound %v", got, sound)
	}
	n := 0
	if sound, err := s.ReadLeaf(c, leaf, func(ring.Key, []byte, uint64) bool { n++; return false }); sound || err != nil || n != 1 {
		t.Fatalf("stopped after %d: sound %v, %v", n, sound, err)
	}
	if _, err := s.ReadLeaf(ring.Class{Partition: c.Partition + 1, N: 3}, leaf, nil); err == nil {
		t.Fatal("a leaf of another partition was read")
	}

	s.trees.sound[c.Partition].Store(false)
	if got, sound := readLeaf(t, s, c, leaf); len(got) != 2 || sound {
		t.Fatalf("while trees are computed: got %v, sound %v", got, sound)
	}
	s.trees.sound[c.Partition].Store(true)
	if err := s.db.Delete(appendDataKey(nil, neighbour), nil); err != nil {
		t.Fatal(err)
	}
	if got, sound := readLeaf(t, s, c, leaf); !slices.Equal(got, []ring.Key{key}) || sound {
		t.Fatalf("where an object has vanished: got %v, sound %v", got, sound)
	}
	if err := s.db.Put(appendDataKey(nil, neighbour), append(make([]byte, digestLen), object1...), nil); err != nil {
		t.Fatal(err)
	}
	if got, sound := readLeaf(t, s, c, leaf); !slices.Equal(got, []ring.Key{key}) || sound {
		t.Fatalf("where an object is damaged: got %v, sound %v", got, sound)
	}
}

// A leaf is read as it was at one instant, whatever is written meanwhile, by the reader too.
func TestReadLeafIsASnapshot(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	neighbour := sameLeaf(t, key)
	mustPut(t, s, key, "v")
	mustPut(t, s, neighbour, "v")
	n := 0
	sound, err := s.ReadLeaf(classOf(s, key)[0], ring.Leaf(key.Token), func(_ ring.Key, object []byte, _ uint64) bool {
		n++
		if got := values(t, object); !slices.Equal(got, []string{"v"}) {
			t.Errorf("read %q", got)
		}
		mustPut(t, s, key, "w")
		mustPut(t, s, neighbour, "w")
		return true
	})
	if !sound || err != nil || n != 2 {
		t.Fatalf("%d objects, sound %v, %v", n, sound, err)
	}
}

// damagedStore holds keys in a table of which some blocks are damaged.
func damagedStore(t *testing.T, keys int) *Store {
	t.Helper()
	live := memdisk.New()
	cfg := small(t, live)
	cfg.WriteBuffer = 4 << 20
	s := mustOpen(t, cfg)
	for i := range keys {
		mustPut(t, s, testKey(i), strings.Repeat("x", 300+i%100))
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, cfg))
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeTable {
			live.Edit(fd, func(b []byte) []byte {
				for at := 1000; at < len(b)/2; at += 5000 {
					b[at] ^= 1
				}
				return b
			})
		}
	}
	return mustOpen(t, cfg)
}

// What lies behind a block that cannot be read is found all the same, and nothing is called sound that has lost anything.
func TestReadingGoesOnBehindDamage(t *testing.T) {
	const keys = 1000
	s := damagedStore(t, keys)
	defer s.Close()
	readable := map[ring.Key]bool{}
	for i := range keys {
		if _, _, err := s.Get(testKey(i)); err == nil {
			readable[testKey(i)] = true
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	if len(readable) == 0 || len(readable) == keys {
		t.Fatalf("%d keys can be read: nothing is tested", len(readable))
	}
	found, unsound := 0, 0
	for i := range keys {
		key := testKey(i)
		got, sound := readLeaf(t, s, classOf(s, key)[0], ring.Leaf(key.Token))
		if there := slices.Contains(got, key); there != readable[key] {
			t.Fatalf("%q: in its leaf %v, can be read %v", key.Name, there, readable[key])
		} else if there {
			found++
		} else if sound {
			t.Fatalf("the leaf of %q is called sound", key.Name)
		}
		if !sound {
			unsound++
		}
	}
	t.Logf("%d of %d keys found, %d read in leaves that are not sound", found, keys, unsound)

	var v VerifyResult
	for p := range testPartitions {
		got, err := s.VerifyPartition(p, func(int) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		v.Objects += got.Objects
		v.Damaged += got.Damaged
		v.WrongLeaves += got.WrongLeaves
	}
	if v.Objects != int64(len(readable)) || v.Damaged == 0 || v.WrongLeaves != 0 {
		t.Fatalf("verification %+v, want %d objects, damage and no wrong leaf", v, len(readable))
	}
}
