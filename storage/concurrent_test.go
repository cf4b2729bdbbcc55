package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Readers that fill the cache from disk race with writers of the same few keys. No reader may ever see less than a write that
// had returned before it began.
func TestCacheIsNeverOlderThanTheStore(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), WriteBuffer: 64 << 10}
	s := mustOpen(t, cfg)
	defer mustClose(t, s)
	const keys = 4
	var returned [keys]atomic.Uint64 // counter of the last write that has returned
	var group sync.WaitGroup
	stop := make(chan struct{})
	for i := range keys {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				size := rng.IntN(200)
				if rng.IntN(50) == 0 {
					size = 70 << 10 // too large for the cache: must push the older one out
				}
				if _, err := put(s, testKey(i), strings.Repeat("v", size)); err != nil {
					t.Error(err)
					return
				}
				returned[i].Store(n)
			}
		})
		group.Go(func() {
			rng := rand.New(rand.NewPCG(2, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if rng.IntN(3) == 0 {
					k := appendDataKey(nil, testKey(i))
					s.cache.arena.delete(cacheHash(k), k) // as an eviction
				}
				least := returned[i].Load()
				object, _, err := s.Get(testKey(i))
				if err != nil {
					t.Error(err)
					return
				}
				var o vclock.Object
				if object != nil {
					if o, err = vclock.DecodeObject(object); err != nil {
						t.Error(err)
						return
					}
				}
				if have := o.Clock.Next(s.Incarnation()) - 1; have < least {
					t.Errorf("key %d: write %d had returned, a read saw %d", i, least, have)
					return
				}
			}
		})
	}
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := wait(s); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	length := 2 * time.Second
	if testing.Short() {
		length = 300 * time.Millisecond
	}
	time.AfterFunc(length, func() { close(stop) })
	group.Wait()
}

// Close under load: every operation either works or says ErrClosed, every Sync is answered once, and what was acknowledged is there.
func TestCloseUnderLoad(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), WriteBuffer: 64 << 10}
	s := mustOpen(t, cfg)
	var acked sync.Map
	var answers, asked atomic.Int64
	var group sync.WaitGroup
	started := make(chan struct{}, 16)
	for w := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				k := testKey(w*1000 + i%1000)
				if _, err := put(s, k, fmt.Sprint(i)); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				asked.Add(1)
				s.Sync(func(err error) {
					answers.Add(1)
					switch {
					case err == nil:
						acked.Store(k, true)
					case !errors.Is(err, ErrClosed):
						t.Error(err)
					}
				})
				err := s.List("b", "key", []int{w % testPartitions}, -1, "", func(int, string, vclock.State) bool { return true })
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if i == 50 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	mustClose(t, s)
	group.Wait()
	if answers.Load() != asked.Load() {
		t.Fatalf("%d syncs asked for, %d answers", asked.Load(), answers.Load())
	}
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	acked.Range(func(k, _ any) bool {
		if mustGet(t, s, k.(ring.Key)) == nil {
			t.Errorf("%v is gone", k)
		}
		return true
	})
}

// One fsync serves all that wait.
func TestSyncsAreShared(t *testing.T) {
	live := memdisk.New()
	inSync, release := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	live.Fault = func(op memdisk.Op, fd storage.FileDesc) error {
		if op == memdisk.OpSync && fd.Type == storage.TypeJournal && hold.CompareAndSwap(true, false) {
			inSync <- struct{}{}
			<-release
		}
		return nil
	}
	cfg := small(t, live)
	cfg.WriteBuffer = 4 << 20
	s := mustOpen(t, cfg)
	defer mustClose(t, s)
	hold.Store(true)
	mustPut(t, s, testKey(0), "v")
	done := make(chan error, 101)
	s.Sync(func(err error) { done <- err })
	<-inSync
	before := s.Stats().JournalSyncs.Count
	for i := range 100 {
		mustPut(t, s, testKey(i+1), "v") // not hindered by the fsync under way
		s.Sync(func(err error) { done <- err })
	}
	if got := s.Stats().SyncWaiting; got != 100 {
		t.Fatalf("%d wait, want 100", got)
	}
	close(release)
	for range 101 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Stats().JournalSyncs.Count - before; got != 2 {
		t.Fatalf("%d fsyncs for the one under way and the 100 that waited, want 2", got)
	}
}

// Unsynced bytes do not gather without bound even if nobody asks for a sync.
func TestBacklogIsSyncedUnasked(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	before := s.Stats().JournalSyncs.Count
	for i := range 10 {
		mustPut(t, s, testKey(i), strings.Repeat("x", 1<<20))
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.Stats().JournalSyncs.Count == before {
		if time.Now().After(deadline) {
			t.Fatal("10 MiB were written and nothing was synced")
		}
		time.Sleep(time.Millisecond)
	}
}
