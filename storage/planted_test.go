//go:build planted

package storage

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestPlantedAckBeforeSync(t *testing.T) {
	planttest.Catches(t, plant.AckBeforeSync, func(t *testing.T) error {
		for seed := range uint64(3) {
			for _, c := range crashes(t, seed+1, 31, nil) {
				if what := c.lost(t); what != "" {
					return fmt.Errorf("seed %d, crash before %s: %s", seed+1, c.op, what)
				}
			}
		}
		return nil
	})
}

// Nothing is said to be on disk after an fsync has failed.
func TestPlantedFsyncRetried(t *testing.T) {
	planttest.Catches(t, plant.FsyncRetried, func(t *testing.T) error {
		live := memdisk.New()
		fail := false
		live.Fault = func(op memdisk.Op, fd storage.FileDesc) error {
			if op == memdisk.OpSync && fd.Type == storage.TypeJournal && fail {
				fail = false
				return errors.New("input/output error")
			}
			return nil
		}
		s := mustOpen(t, small(t, live))
		defer s.Close() // fails, as it should, after a failed fsync
		mustPut(t, s, testKey(1), "v")
		fail = true
		if err := wait(s); err == nil {
			t.Fatal("the fsync has not failed")
		}
		if err := wait(s); err == nil {
			return errors.New("a write whose fsync failed was said to be on disk by the next one")
		}
		return nil
	})
}

// What was stored is there or is damaged; it is never missing.
func TestPlantedCorruptIsMissing(t *testing.T) {
	const keys = 400
	get := func(s *Store, key ring.Key) error {
		if object, _, err := s.Get(key); err == nil && object == nil {
			return fmt.Errorf("%q is not there, and nobody removed it", key.Name)
		}
		return nil
	}
	t.Run("block", func(t *testing.T) {
		planttest.Catches(t, plant.CorruptIsMissing, func(t *testing.T) error {
			live := memdisk.New()
			cfg := small(t, live)
			cfg.WriteBuffer = 1 << 20
			s := mustOpen(t, cfg)
			for i := range keys {
				mustPut(t, s, testKey(i), strings.Repeat("x", 500))
			}
			mustClose(t, s)
			mustClose(t, mustOpen(t, cfg)) // the journal becomes a table
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
			s = mustOpen(t, cfg)
			defer mustClose(t, s)
			for i := range keys {
				if err := get(s, testKey(i)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	t.Run("object", func(t *testing.T) {
		planttest.Catches(t, plant.CorruptIsMissing, func(t *testing.T) error {
			s := mustOpen(t, Config{Dir: t.TempDir()})
			defer mustClose(t, s)
			if err := s.db.Put(appendDataKey(nil, testKey(1)), append(make([]byte, digestLen), object1...), nil); err != nil {
				t.Fatal(err)
			}
			return get(s, testKey(1))
		})
	})
}

// A read shows the last write, whether the cache had heard of the key before or not.
func TestPlantedStaleCache(t *testing.T) {
	planttest.Catches(t, plant.StaleCache, func(t *testing.T) error {
		s := mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, s)
		for i := range 20 {
			key := testKey(i % 5)
			want := fmt.Sprint("value ", i)
			mustPut(t, s, key, want)
			if got := values(t, mustGet(t, s, key)); !slices.Equal(got, []string{want}) {
				return fmt.Errorf("%q holds %q, and %q was written last", key.Name, got, want)
			}
		}
		return nil
	})
}

// One replica hears of a delete, the other does not. Once they have heard from each other the key is deleted.
func TestPlantedTombstoneDropped(t *testing.T) {
	planttest.Catches(t, plant.TombstoneDropped, func(t *testing.T) error {
		a, b := mustOpen(t, Config{Dir: t.TempDir()}), mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, a)
		defer mustClose(t, b)
		key := testKey(1)
		if err := b.Merge(key, mustPut(t, a, key, "v")); err != nil {
			t.Fatal(err)
		}
		deleted, _, err := a.Update(key, func(o vclock.Object, _ uint64) (vclock.Object, error) {
			o, _ = o.Put(a.Incarnation(), o.Clock, vclock.Sibling{Time: o.MaxTime() + 1, Tombstone: true})
			return o, nil
		})
		if err != nil || len(deleted) == 0 {
			t.Fatalf("delete: %x, %v", deleted, err)
		}
		exchange(t, a, b, key)
		for _, s := range []*Store{a, b} {
			if o, err := vclock.DecodeObject(mustGet(t, s, key)); err != nil || o.Values() > 0 {
				return fmt.Errorf("the key was deleted, and holds %d values (%v)", o.Values(), err)
			}
		}
		return nil
	})
}

// exchange has both stores merge what the other holds.
func exchange(t *testing.T, a, b *Store, key ring.Key) {
	t.Helper()
	fromA, fromB := mustGet(t, a, key), mustGet(t, b, key)
	for _, m := range []struct {
		to     *Store
		object []byte
	}{{a, fromB}, {b, fromA}} {
		if m.object == nil {
			continue
		}
		if err := m.to.Merge(key, m.object); err != nil {
			t.Fatal(err)
		}
	}
}

// A store loses a write, which another replica has, to a power cut, and takes another one. Both are there in the end.
func TestPlantedReusedDot(t *testing.T) {
	planttest.Catches(t, plant.ReusedDot, func(t *testing.T) error {
		live := memdisk.New()
		cfg := small(t, live)
		a, b := mustOpen(t, cfg), mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, b)
		key := testKey(1)
		if err := b.Merge(key, mustPut(t, a, key, "before")); err != nil {
			t.Fatal(err)
		}
		after := live.Crash(memdisk.Nothing, nil)
		mustClose(t, a)
		cfg = small(t, after)
		a = mustOpen(t, cfg)
		defer func() { mustClose(t, a) }()
		mustPut(t, a, key, "after")
		exchange(t, a, b, key)
		exchange(t, a, b, key)
		for _, s := range []*Store{a, b} {
			got := values(t, mustGet(t, s, key))
			if slices.Sort(got); !slices.Equal(got, []string{"after", "before"}) {
				return fmt.Errorf("a replica holds %q: the writes %q and %q did not see each other", got, "before", "after")
			}
		}
		return nil
	})
}

// A store that has lost its journal casts no votes: what it does not find says nothing.
func TestPlantedAmnesiacVotes(t *testing.T) {
	planttest.Catches(t, plant.AmnesiacVotes, func(t *testing.T) error {
		live := memdisk.New()
		cfg := small(t, live)
		s := mustOpen(t, cfg)
		for i := range 100 {
			mustPut(t, s, testKey(i), strings.Repeat("x", 300))
		}
		mustClose(t, s)
		loseJournals(live)
		s = mustOpen(t, cfg)
		defer mustClose(t, s)
		return missingVotes(t, s, 100)
	})
}

// missingVotes tells of a key that is gone and for whose class the store votes.
func missingVotes(t *testing.T, s *Store, keys int) error {
	for i := range keys {
		c := ring.Class{Partition: partitionOf(testKey(i).Token, testPartitions), N: 3}
		if mustGet(t, s, testKey(i)) == nil && s.Votes(c) {
			return fmt.Errorf("%q is gone, and the store votes for %v", testKey(i).Name, c)
		}
	}
	return nil
}

// A store whose directory is an older copy casts no votes until it has synced; nor does one whose damaged database was salvaged.
func TestPlantedUnsyncedVotes(t *testing.T) {
	t.Run("copy", func(t *testing.T) {
		planttest.Catches(t, plant.UnsyncedVotes, func(t *testing.T) error {
			cfg := Config{Dir: filepath.Join(t.TempDir(), "data")}
			s := mustOpen(t, cfg)
			mustPut(t, s, testKey(1), "before")
			if err := wait(s); err != nil {
				t.Fatal(err)
			}
			older := Config{Dir: filepath.Join(t.TempDir(), "older")}
			copyDir(t, older.Dir, cfg.Dir)
			for i := range 50 {
				mustPut(t, s, testKey(i), "after")
			}
			mustClose(t, s)
			s = mustOpen(t, older)
			defer mustClose(t, s)
			return missingVotes(t, s, 50)
		})
	})
	t.Run("salvage", func(t *testing.T) {
		planttest.Catches(t, plant.UnsyncedVotes, func(t *testing.T) error {
			live := memdisk.New()
			cfg := small(t, live)
			s := mustOpen(t, cfg)
			for i := range 100 {
				mustPut(t, s, testKey(i), strings.Repeat("x", 500))
			}
			mustClose(t, s)
			for _, fd := range live.Files() {
				if fd.Type == storage.TypeTable {
					live.Edit(fd, func([]byte) []byte { return nil })
				}
			}
			s = mustOpen(t, cfg)
			defer mustClose(t, s)
			return missingVotes(t, s, 100)
		})
	})
}

// A store refuses client writes while there is still room for its own work.
func TestPlantedFullDiskAccepts(t *testing.T) {
	planttest.Catches(t, plant.FullDiskAccepts, func(t *testing.T) error {
		live := memdisk.New()
		cfg := small(t, live)
		cfg.Reserve = 1 << 20
		live.SetCapacity(2 << 20)
		s := mustOpen(t, cfg)
		defer func() { mustClose(t, s) }()
		mustPut(t, s, testKey(1), "v")
		live.SetCapacity(live.Used() + 900<<10)
		if _, err := s.space.look(); err != nil {
			t.Fatal(err)
		}
		if _, err := put(s, testKey(1), "w"); err == nil {
			return fmt.Errorf("a write was taken with %d bytes free, of which %d are to be kept free", 900<<10, cfg.Reserve)
		} else if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		return nil
	})
}

// What a store holds shows in its trees: two that were written the same have equal leaves, and what differs shows.
func TestPlantedTreeNotUpdated(t *testing.T) {
	planttest.Catches(t, plant.TreeNotUpdated, func(t *testing.T) error {
		a, b := mustOpen(t, Config{Dir: t.TempDir()}), mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, a)
		defer mustClose(t, b)
		key := testKey(1)
		mustPut(t, a, key, "v")
		c := a.class(key)
		if slices.Equal(a.Leaves(nil, c), b.Leaves(nil, c)) {
			return errors.New("one of two stores holds an object, and their trees are equal")
		}
		if v := mustVerify(t, a, c.Partition); v.WrongLeaves > 0 {
			return fmt.Errorf("%d leaves were wrong", v.WrongLeaves)
		}
		return nil
	})
}

// A value that was deleted and collected comes once more, late.
func TestPlantedWatermarkIgnored(t *testing.T) {
	planttest.Catches(t, plant.WatermarkIgnored, func(t *testing.T) error {
		s := mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, s)
		key := testKey(1)
		value := mustPut(t, s, key, "v")
		gone := update(t, s, key, vclock.Sibling{Tombstone: true})
		collect(t, s, classOf(s, key), gone.MaxTime())
		if err := s.Merge(key, value); err == nil {
			return errors.New("a late value was taken")
		}
		if o := stored(t, s, key); o.Values() > 0 {
			return errors.New("a deleted value is back")
		}
		return nil
	})
}

// A key is written again after it was collected; a replica that still has the tombstone hears of it.
func TestPlantedCounterFloorLost(t *testing.T) {
	planttest.Catches(t, plant.CounterFloorLost, func(t *testing.T) error {
		s := mustOpen(t, Config{Dir: t.TempDir()})
		defer mustClose(t, s)
		key := testKey(1)
		mustPut(t, s, key, "v")
		gone := update(t, s, key, vclock.Sibling{Tombstone: true})
		collect(t, s, classOf(s, key), gone.MaxTime())
		again := update(t, s, key, vclock.Sibling{Value: []byte("again")})
		if o := vclock.Merge(gone, again); o.Values() != 1 {
			return fmt.Errorf("the replica holds %+v: the new value is lost", o.Siblings)
		}
		return nil
	})
}
