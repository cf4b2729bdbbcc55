package storage

import (
	"math"
	"strings"
	"sync"
	"testing"
)

func TestCacheSizes(t *testing.T) {
	for _, c := range []struct{ bytes, want int64 }{
		{-1, 0}, {0, 128 << 20}, {1, 1 << 20}, {1 << 20, 1 << 20}, {5<<20 + 1, 5 << 20},
	} {
		cfg := Config{Dir: "d", CacheBytes: c.bytes}
		if err := cfg.validate(); err != nil {
			t.Fatal(err)
		}
		cache, err := newObjectCache(cfg.CacheBytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(len(cache.memory)); got != c.want {
			t.Errorf("CacheBytes %d take %d bytes, want %d", c.bytes, got, c.want)
		}
		if err := cache.close(); err != nil {
			t.Error(err)
		}
	}
	cfg := Config{Dir: "d", CacheBytes: math.MaxInt64}
	if err := cfg.validate(); err == nil && math.MaxInt > 1<<40 {
		t.Error("a cache of all the memory there can be was accepted")
	}
}

// The smallest cache is full long before all is written. Every read is right, and the memory stays within its bound.
func TestSmallCache(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: 1 << 20})
	defer mustClose(t, s)
	const keys = 2000
	for i := range keys {
		mustPut(t, s, testKey(i), strings.Repeat("x", 1000)+testKey(i).Name)
	}
	for i := range keys {
		wantValues(t, s, testKey(i), strings.Repeat("x", 1000)+testKey(i).Name)
	}
	st := s.Stats()
	if st.CacheBytes == 0 || st.CacheBytes > 1<<20 || st.CacheEntries == 0 || st.CacheEntries >= keys {
		t.Errorf("%d bytes and %d objects are cached", st.CacheBytes, st.CacheEntries)
	}
	wantValues(t, s, testKey(keys-1), strings.Repeat("x", 1000)+testKey(keys-1).Name)
	if got := s.Stats().CacheHits; got <= st.CacheHits {
		t.Error("what was read last was not in the cache")
	}
}

// An answer from the cache costs the allocation of the bytes that it gives away, and nothing else.
func TestTryGetAllocatesOnce(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k := testKey(1)
	mustPut(t, s, k, strings.Repeat("x", 1000))
	if got := testing.AllocsPerRun(100, func() {
		if _, _, ok := s.TryGet(k); !ok {
			t.Error("not cached")
		}
	}); got != 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}

// TryGet races with Close, which takes the memory away under it.
func TestTryGetWhileClosing(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: 1 << 20})
	const keys = 100
	for i := range keys {
		mustPut(t, s, testKey(i), strings.Repeat("x", 1000))
	}
	var group, ready sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		ready.Add(1)
		group.Go(func() {
			for i := 0; ; i++ {
				if object, _, ok := s.TryGet(testKey(i % keys)); ok && len(object) < 1000 {
					t.Errorf("key %d: got %d bytes", i%keys, len(object))
				}
				s.Stats()
				if i == keys {
					ready.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	ready.Wait()
	mustClose(t, s)
	if _, _, ok := s.TryGet(testKey(1)); ok {
		t.Error("a closed store answered from its cache")
	}
	close(stop)
	group.Wait()
}
