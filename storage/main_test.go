package storage

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"
	"go.uber.org/goleak"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestMain(m *testing.M) {
	// The tests open thousands of stores. What must survive is tested on disks in memory that lose power, and on real ones elsewhere: here the
	// files need not wait for a disk.
	if memory, err := os.Stat("/dev/shm"); err == nil && memory.IsDir() && os.Getenv("TMPDIR") == "" {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	if raceDetector { // what models look for is found by the plain run
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	// goleveldb's pool drainer outlives Close by a second.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

const testPartitions = 16

// small is a configuration that rotates its journal often and keeps no cache.
func small(t testing.TB, disk *memdisk.Disk) Config {
	return Config{Dir: t.TempDir(), Backend: disk, WriteBuffer: 16 << 10, BlockCacheBytes: 1 << 20, CacheBytes: -1}
}

func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPartitions(testPartitions); err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// wait makes a Sync blocking.
func wait(s *Store) error {
	done := make(chan error, 1)
	s.Sync(func(err error) { done <- err })
	return <-done
}

// put writes a value over all that is there.
func put(s *Store, key ring.Key, value string) ([]byte, error) {
	object, _, err := s.Update(key, func(o vclock.Object, _ uint64) (vclock.Object, error) {
		o, _ = o.Put(s.Incarnation(), o.Clock, vclock.Sibling{Time: o.MaxTime() + 1, Value: []byte(value)})
		return o, nil
	})
	return object, err
}

func mustPut(t testing.TB, s *Store, key ring.Key, value string) []byte {
	t.Helper()
	object, err := put(s, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// object encodes one value written by actor as its n-th write of the key.
func object(actor vclock.Actor, n int, value string) []byte {
	var o vclock.Object
	for i := range n {
		o, _ = o.Put(actor, o.Clock, vclock.Sibling{Time: uint64(i + 1), Value: []byte(value)})
	}
	return vclock.AppendObject(nil, o)
}

// values are the values of an encoded object, newest first.
func values(t testing.TB, object []byte) []string {
	t.Helper()
	if object == nil {
		return nil
	}
	o, err := vclock.DecodeObject(object)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range o.Siblings {
		out = append(out, string(s.Value))
	}
	return out
}

func wantValues(t testing.TB, s *Store, key ring.Key, want ...string) {
	t.Helper()
	got, _, err := s.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(values(t, got)), fmt.Sprint(want); got != want {
		t.Fatalf("%q holds %.60s, want %.60s", key.Name, got, want)
	}
}

func testKey(i int) ring.Key { return ring.NewKey("b", fmt.Sprintf("key-%05d", i)) }

// lossTold tells whether the store says that it has lost something: no class has its vote, and the operator can see why.
func lossTold(t testing.TB, s *Store) bool {
	t.Helper()
	told, votes := s.Stats().Damage != "", 0
	for p := range testPartitions {
		for n := 1; n <= maxReplicas; n++ {
			if s.Votes(ring.Class{Partition: p, N: n}) {
				votes++
			}
		}
	}
	if told && votes > 0 || !told && votes < testPartitions*maxReplicas && !s.Restored() {
		t.Fatalf("loss told: %v, %d classes vote", told, votes)
	}
	if err := s.Healthy(); err != nil {
		t.Fatalf("a store that takes writes: %v", err)
	}
	return told
}

// brokenBy waits until the store says that it must be opened again.
func brokenBy(t testing.TB, s *Store) *BrokenError {
	t.Helper()
	select {
	case err := <-s.Broken():
		var broken *BrokenError
		if !errors.As(err, &broken) {
			t.Fatalf("told %v, want a BrokenError", err)
		}
		return broken
	case <-time.After(30 * time.Second):
		t.Fatal("the store does not say that it is broken")
	}
	return nil
}

// miscounted compares the figures of hints with the hints.
func (s *Store) miscounted(t testing.TB) string {
	t.Helper()
	s.background.Wait()
	stats, known := s.HintStats()
	if !known {
		return "the hints are not counted"
	}
	kept := map[int]int64{}
	for _, st := range stats {
		got := HintStat{Target: st.Target, Divergent: st.Divergent}
		it := s.db.NewIterator(util.BytesPrefix(appendHintPrefix(nil, st.Target)), nil)
		for it.Next() {
			_, key, err := parseHintKey(it.Key())
			if err != nil {
				t.Fatal(err)
			}
			got.Count++
			got.Bytes += hintSize(it.Key(), it.Value())
			if at := hintTime(it.Value()); got.Oldest == 0 || at < got.Oldest {
				got.Oldest = at
			}
			if isKept(it.Value()) {
				kept[partitionOf(key.Token, testPartitions)]++
			}
		}
		it.Release()
		if off := got.Oldest - st.Oldest; off < 0 || off > hintAge {
			return fmt.Sprintf("the oldest hint is from %d, told is %d", got.Oldest, st.Oldest)
		}
		got.Oldest = st.Oldest
		if !reflect.DeepEqual(got, st) {
			return fmt.Sprintf("counted %+v, there is %+v", st, got)
		}
	}
	for p := range testPartitions {
		if got, known := s.HintsIn(p); !known || got != kept[p] {
			return fmt.Sprintf("counted %d kept hints in partition %d (%v), there are %d", got, p, known, kept[p])
		}
	}
	return ""
}

// underFault asks fault before every operation of the disk, in one goroutine at a time, until end is called: from then on nobody is in it.
func underFault(d *memdisk.Disk, fault memdisk.Fault) (mu *sync.Mutex, end func()) {
	mu = &sync.Mutex{}
	ended := false
	remove := d.Inject(func(op memdisk.Op, fd storage.FileDesc) error {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return nil
		}
		return fault(op, fd)
	})
	return mu, func() {
		remove()
		mu.Lock()
		defer mu.Unlock()
		ended = true
	}
}
