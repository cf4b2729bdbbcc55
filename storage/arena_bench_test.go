package storage

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkArena measures the arena and, over the same keys in the same run, the least that any cache costs: a Go map of
// slices under one mutex, which drops nothing. "x-map" is the ratio of the
// medians.
func BenchmarkArena(b *testing.B) {
	const keys, size = 100_000, 1100
	memory, err := mapMemory(128 << 20)
	if err != nil {
		b.Fatal(err)
	}
	a := newArena(memory)
	b.Cleanup(func() {
		a.release()
		if err := unmapMemory(memory); err != nil {
			b.Error(err)
		}
	})
	var mu sync.Mutex
	plain := map[string][]byte{}
	type hashed struct {
		hash uint64
		key  []byte
	}
	all := make([]hashed, 2*keys)
	value := make([]byte, size)
	for i := range all {
		all[i].hash, all[i].key = arenaKey(i)
		if i < keys {
			a.set(all[i].hash, all[i].key, value)
			plain[string(all[i].key)] = make([]byte, size)
		}
	}
	space := make([]byte, 0, 2*size)
	plainGet := func(dst []byte, k hashed) ([]byte, bool) {
		mu.Lock()
		defer mu.Unlock()
		v, ok := plain[string(k.key)]
		return append(dst, v...), ok
	}
	for _, c := range []struct {
		name         string
		from         int
		arena, plain func(hashed) bool
	}{
		{
			"hit", 0,
			func(k hashed) bool { _, ok := a.get(k.hash, nil, k.key); return ok },
			func(k hashed) bool { _, ok := plainGet(nil, k); return ok },
		},
		{
			"hit-into-space", 0,
			func(k hashed) bool { _, ok := a.get(k.hash, space, k.key); return ok },
			func(k hashed) bool { _, ok := plainGet(space, k); return ok },
		},
		{
			"miss", keys,
			func(k hashed) bool { _, ok := a.get(k.hash, nil, k.key); return !ok },
			func(k hashed) bool { _, ok := plainGet(nil, k); return !ok },
		},
		{
			"overwrite", 0,
			func(k hashed) bool { a.set(k.hash, k.key, value); return true },
			func(k hashed) bool {
				mu.Lock()
				defer mu.Unlock()
				copy(plain[string(k.key)], value)
				return true
			},
		},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var took, floor []time.Duration // per operation, of blocks in turn: the median is what noise disturbs least
			block := func(from, n int, op func(hashed) bool) time.Duration {
				start := time.Now()
				for i := from; i < from+n; i++ {
					if !op(all[c.from+i*7919%keys]) {
						b.Fatal("not as expected")
					}
				}
				return time.Since(start) / time.Duration(n)
			}
			for i := 0; i < b.N; i += 500 {
				took = append(took, block(i, min(500, b.N-i), c.arena))
				b.StopTimer()
				floor = append(floor, block(i+keys/2, min(500, b.N-i), c.plain)) // others: no help from the processor's caches
				b.StartTimer()
			}
			slices.Sort(took)
			slices.Sort(floor)
			mid := len(took) / 2
			b.ReportMetric(float64(took[mid]), "median-ns/op")
			b.ReportMetric(float64(floor[mid]), "map-median-ns/op")
			b.ReportMetric(float64(took[mid])/float64(floor[mid]), "x-map")
		})
	}
	// Twice as many keys as fit: each insert drops about one.
	b.Run("insert", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			k := all[i*7919%len(all)]
			if _, ok := a.get(k.hash, space, k.key); !ok {
				a.set(k.hash, k.key, value)
			}
		}
	})
}
