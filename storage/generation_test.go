package storage

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// fill writes values, tombstones and values that expire.
func fill(t testing.TB, s *Store, keys int) {
	t.Helper()
	for i := range keys {
		v := vclock.Sibling{Value: []byte("v")}
		switch i % 3 {
		case 1:
			v = vclock.Sibling{Tombstone: true}
		case 2:
			v.Expiry = uint64(i + 1)
		}
		update(t, s, testKey(i), v)
	}
}

// spoil removes or changes records that are computed from objects, behind the store's back, and all that says so.
func spoil(t testing.TB, s *Store, spaces ...byte) {
	t.Helper()
	var b leveldb.Batch
	for i, space := range spaces {
		it := s.db.NewIterator(util.BytesPrefix([]byte{space}), nil)
		for n := 0; it.Next(); n++ {
			switch k := append([]byte(nil), it.Key()...); {
			case space == spaceTree && len(k) == 4: // the stamp of a partition
			case n%3 == i%3:
				b.Delete(k)
			case n%3 == 1 && space == spaceTree:
				b.Put(k, make([]byte, 8))
			}
		}
		it.Release()
	}
	for i := range 20 { // of objects that are not there
		key := testKey(100_000 + i)
		c := s.class(key)
		b.Put(appendIndexKey(nil, c.Partition, key.Bucket, key.Name), []byte{byte(vclock.Live)})
		b.Put(appendDueKey(nil, c, uint64(i+1), key.Bucket, key.Name), nil)
		b.Put(appendDueKey(nil, c, 9, testKey(i).Bucket, testKey(i).Name), nil)
		putLeaf(&b, c, ring.Leaf(key.Token), 7)
	}
	if err := s.db.Write(&b, nil); err != nil {
		t.Fatal(err)
	}
}

// A directory from before there were trees gets them, and one whose trees are distrusted gets them right.
func TestTreesAreComputedFromObjects(t *testing.T) {
	for name, distrust := range map[string]func(*testing.T, *Store){
		"from before trees": func(t *testing.T, s *Store) {
			var b leveldb.Batch
			for _, prefix := range [][]byte{{spaceTree}, {spaceDue}, storeKey(noteTrees)} {
				it := s.db.NewIterator(util.BytesPrefix(prefix), nil)
				for it.Next() {
					b.Delete(append([]byte(nil), it.Key()...))
				}
				it.Release()
			}
			if err := s.db.Write(&b, nil); err != nil {
				t.Fatal(err)
			}
		},
		"distrusted": func(t *testing.T, s *Store) {
			spoil(t, s, spaceTree, spaceIndex, spaceDue)
			if err := s.distrustTrees(); err != nil {
				t.Fatal(err)
			}
		},
		"distrusted twice": func(t *testing.T, s *Store) {
			for range 2 {
				spoil(t, s, spaceTree, spaceIndex, spaceDue)
				if err := s.distrustTrees(); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir()}
			s := mustOpen(t, cfg)
			fill(t, s, 500)
			distrust(t, s)
			mustClose(t, s) // maybe in the middle
			s = mustOpen(t, cfg)
			defer mustClose(t, s)
			for i := range 50 { // while they are computed
				update(t, s, testKey(i*3), vclock.Sibling{Value: []byte("w")})
			}
			wantConsistent(t, s)
		})
	}
}

// While the store is open trees that are distrusted are computed at once, under writes.
func TestDistrustedTreesAreComputedWhileOpen(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	fill(t, s, 500)
	s.background.Wait()
	spoil(t, s, spaceTree)
	for _, c := range s.Classes() {
		for leaf := range s.trees.get(c).leaves {
			s.trees.get(c).set(c.Partition*s.trees.width+leaf, 0)
		}
	}
	spoil(t, s, spaceTree)
	if err := s.distrustTrees(); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		update(t, s, testKey(i), vclock.Sibling{Value: []byte("w")})
	}
	s.background.Wait()
	if v := mustVerify(t, s, 3); v.WrongLeaves > 0 || s.unsound() > 0 {
		t.Fatalf("%+v, %d partitions unsound", v, s.unsound())
	}
}

// A store that is told to distrust its trees before it knows the partition count does so when it does.
func TestTreesAreDistrustedBeforeTheyAreKnown(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	if err := s.distrustTrees(); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPartitions(testPartitions); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, testKey(1), "v")
	if s.generation.current != 1 || s.generation.base != 0 {
		t.Fatalf("generation %d, base %d", s.generation.current, s.generation.base)
	}
	wantConsistent(t, s)
}

// A new store trusts its trees at once; nothing is computed.
func TestNewTreesAreSound(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	if n := s.unsound(); n > 0 {
		t.Fatalf("%d partitions are unsound", n)
	}
}

// The computing of trees is broken off anywhere, by a power cut or a kill: the next start goes on with it.
func TestRebuildBrokenOffAnywhere(t *testing.T) {
	live := memdisk.New()
	s := mustOpen(t, small(t, live))
	fill(t, s, 200)
	s.background.Wait()
	spoil(t, s, spaceTree, spaceIndex, spaceDue)
	var broken []*memdisk.Disk
	rng := rand.New(rand.NewPCG(5, 5))
	n := 0
	_, end := underFault(live, func(op memdisk.Op, _ storage.FileDesc) error {
		if op != memdisk.OpRead && op != memdisk.OpOpen {
			if n++; n%7 == 0 {
				broken = append(broken, live.Crash(memdisk.Residue(n%3), rng))
			}
		}
		return nil
	})
	if err := s.distrustTrees(); err != nil {
		t.Fatal(err)
	}
	s.background.Wait()
	end()
	mustClose(t, s)
	if len(broken) < 10 {
		t.Fatalf("%d crashes only", len(broken))
	}
	for i, disk := range broken {
		s := mustOpen(t, small(t, disk))
		s.background.Wait()
		if s.generation.current < 2 { // before the note was on disk: nothing had happened
			mustClose(t, s)
			continue
		}
		if bad := inconsistent(s); bad != "" {
			t.Errorf("crash %d of %d: %s", i, len(broken), bad)
		}
		mustClose(t, s)
	}
}

// Close does not wait until all trees are computed.
func TestCloseEndsTheComputingOfTrees(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	fill(t, s, 300)
	s.background.Wait()
	if err := s.distrustTrees(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if err := s.distrustTrees(); err == nil {
		t.Fatal("a closed store took a note")
	}
}

// All of it works in virtual time.
func TestTreesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, small(t, memdisk.New()))
		fill(t, s, 100)
		if err := s.distrustTrees(); err != nil {
			t.Fatal(err)
		}
		wantConsistent(t, s)
		mustClose(t, s)
		time.Sleep(3 * time.Second) // goleveldb leaves a goroutine for a while
	})
}

// A power cut after which records in the middle of the journal are torn leaves trees and index that agree with what is there.
func TestTreesAfterTornJournals(t *testing.T) {
	lenient := 0
	for seed := range uint64(40) {
		live := memdisk.New()
		cfg := small(t, live)
		cfg.WriteBuffer = 1 << 20
		s := mustOpen(t, cfg)
		fill(t, s, 40)
		if err := wait(s); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 80)
		rng := rand.New(rand.NewPCG(seed, 7))
		after := live.Crash(memdisk.Something, rng)
		mustClose(t, s)
		for _, fd := range after.Files() {
			if fd.Type == storage.TypeJournal && seed%2 == 0 {
				after.Edit(fd, func(b []byte) []byte {
					if len(b) > 200 {
						b[len(b)-1-rng.IntN(len(b)/3)] ^= 0x55
					}
					return b
				})
			}
		}
		s, err := Open(small(t, after))
		if err != nil {
			if errors.Is(err, ErrCorrupt) {
				continue
			}
			t.Fatal(err)
		}
		if s.lenient {
			lenient++
		}
		if err := s.SetPartitions(testPartitions); err != nil {
			t.Fatal(err)
		}
		if bad := inconsistent(s); bad != "" {
			t.Errorf("seed %d, lenient %v: %s", seed, s.lenient, bad)
		}
		mustClose(t, s)
	}
	if lenient < 5 {
		t.Fatalf("only %d starts dropped anything", lenient)
	}
}
