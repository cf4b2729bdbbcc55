package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// What fits stays, however often it is overwritten, also where values grow and shrink a little.
func TestOverwritingKeepsWhatFits(t *testing.T) {
	size, keys := 128<<20, 100_000
	if testing.Short() {
		size, keys = size/16, keys/18 // few shards are filled less evenly
	}
	memory, err := mapMemory(size)
	if err != nil {
		t.Fatal(err)
	}
	a := newArena(memory)
	rng := rand.New(rand.NewPCG(2, 2))
	value := make([]byte, 1100+slack)
	for i := range keys {
		hash, k := arenaKey(i)
		a.set(hash, k, value[:1100])
	}
	hits := 0
	space := make([]byte, 0, len(value))
	for range 3 * keys {
		hash, k := arenaKey(rng.IntN(keys))
		if _, ok := a.get(hash, space, k); ok {
			hits++
		}
		a.set(hash, k, value[:1100-slack+rng.IntN(2*slack+1)])
	}
	used, entries := a.usage()
	t.Logf("%d of %d writes hit; %d entries in %d bytes", hits, 3*keys, entries, used)
	if hits != 3*keys || entries != uint64(keys) {
		t.Errorf("%d of %d writes hit, %d of %d keys are left", hits, 3*keys, entries, keys)
	}
	a.release()
	if err := unmapMemory(memory); err != nil {
		t.Error(err)
	}
}

// Keys that are in use all the time survive others that are met once, be they ten times as many as fit; and they give way once
// they are no longer in use.
func TestHotSetSurvivesAScan(t *testing.T) {
	const size, fits, hot = 8 << 20, 7000, 2800
	value := make([]byte, 1000)
	for name, touch := range map[string]func(a *arena, hash uint64, k []byte){
		"read":        func(a *arena, hash uint64, k []byte) { a.get(hash, nil, k) },
		"overwritten": func(a *arena, hash uint64, k []byte) { a.set(hash, k, value) },
	} {
		t.Run(name, func(t *testing.T) {
			a := testArena(size)
			rng := rand.New(rand.NewPCG(3, 3))
			there := func(i int) bool { // without a trace
				hash, k := arenaKey(i)
				s, tag := a.at(hash)
				_, entry, _ := s.find(tag, k)
				return entry != 0
			}
			meet := func(i int) bool {
				hash, k := arenaKey(i)
				if there(i) {
					touch(a, hash, k)
					return true
				}
				a.set(hash, k, value)
				return false
			}
			for i := range hot { // side by side in the ring, which is the hard case
				meet(i)
				meet(i)
			}
			hits, uses := 0, 0
			for i := range 10 * fits {
				meet(hot + i)
				for range 3 {
					uses++
					if meet(rng.IntN(hot)) {
						hits++
					}
				}
			}
			rate := float64(hits) / float64(uses)
			t.Logf("%.2f %% of the uses of hot keys hit", 100*rate)
			if rate < 0.97 {
				t.Errorf("%.2f %% of the uses of hot keys hit, want 97 %%", 100*rate)
			}
			for i := range 3 * fits {
				meet(100_000 + i)
			}
			for i := range hot {
				if there(i) {
					t.Fatalf("key %d is still there, unused for three times what fits", i)
				}
			}
		})
	}
}

func TestArenaSizes(t *testing.T) {
	a := testArena(1 << 20)
	hash, k := arenaKey(1)
	for _, c := range []struct {
		size int
		kept bool
	}{{0, true}, {1, true}, {64<<10 + 100, true}, {maxCached, true}, {maxCached + 1, false}, {5, true}, {1 << 20, false}, {0, true}} {
		v := bytes.Repeat([]byte{7}, c.size)
		a.set(hash, k, v)
		got, ok := a.get(hash, nil, k)
		if ok != c.kept || ok && !bytes.Equal(got, v) {
			t.Errorf("%d bytes: hit %v with %d bytes, want %v", c.size, ok, len(got), c.kept)
		}
	}
	// An eighth of a small shard is the limit there.
	a = testArena(64 << 10)
	a.set(hash, k, make([]byte, 100))
	a.set(hash, k, make([]byte, 8<<10))
	if _, ok := a.get(hash, nil, k); ok {
		t.Error("a value of an eighth of the shard was kept, or the one before it")
	}
	a.set(hash, make([]byte, 64<<10), nil)
	if _, entries := a.usage(); entries != 0 {
		t.Errorf("%d entries, want none", entries)
	}
	for bytes, want := range map[int]int{64 << 10: 1, 1 << 20: 1, 4 << 20: 2, 32 << 20: 16, 128 << 20: 64, 512 << 20: 256, 1 << 30: 256} {
		if bytes > 128<<20 && testing.Short() {
			continue
		}
		memory, err := mapMemory(bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(newArena(memory).shards); got != want {
			t.Errorf("%d bytes are cut into %d shards, want %d", bytes, got, want)
		}
		if err := unmapMemory(memory); err != nil {
			t.Error(err)
		}
	}
}

// One more entry of a clock takes no new place.
func TestGrowthInPlace(t *testing.T) {
	a := testArena(1 << 20)
	for i := range 100 {
		hash, k := arenaKey(i)
		a.set(hash, k, make([]byte, 100+i))
	}
	before, _ := a.usage()
	for i := range 100 {
		hash, k := arenaKey(i)
		a.set(hash, k, make([]byte, 100+i+slack))
		a.set(hash, k, make([]byte, i))
		a.set(hash, k, make([]byte, 100+i+slack))
	}
	if after, entries := a.usage(); after != before || entries != 100 {
		t.Errorf("%d entries take %d bytes, were 100 and %d", entries, after, before)
	}
}

// Entries that have grown as far as they can are moved as they are: with new room to grow they would not fit where they go.
func TestSecondChanceOfGrownEntries(t *testing.T) {
	a := testArena(64 << 10)
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 100+i%granule+slack) }
	for i := range 5000 {
		hash, k := arenaKey(i)
		a.set(hash, k, value(i)[slack:])
		a.set(hash, k, value(i)) // in place, and counts as a use
		if err := a.shards[0].broken(); err != nil {
			t.Fatalf("after key %d: %v", i, err)
		}
		for j := max(0, i-50); j <= i; j++ {
			hash, k := arenaKey(j)
			if got, ok := a.get(hash, nil, k); ok && !bytes.Equal(got, value(j)) {
				t.Fatalf("after key %d: key %d holds %.10x", i, j, got)
			}
		}
	}
}

// Keys whose hashes are all the same cost each other room, but no more than a short chain of time.
func TestEqualHashes(t *testing.T) {
	a := testArena(1 << 20)
	for i := range 1000 {
		a.set(7, fmt.Append(nil, i), fmt.Append(nil, "value ", i))
	}
	if err := a.shards[0].broken(); err != nil {
		t.Fatal(err)
	}
	if _, entries := a.usage(); entries != maxChain {
		t.Errorf("%d entries, want %d", entries, maxChain)
	}
	for i := 1000 - maxChain; i < 1000; i++ {
		if got, ok := a.get(7, nil, fmt.Append(nil, i)); !ok || string(got) != fmt.Sprint("value ", i) {
			t.Errorf("key %d: hit %v with %q", i, ok, got)
		}
	}
}

// One goroutine writes a key, all read it. No hit is older than the last set that had returned, nor torn.
func TestArenaConcurrently(t *testing.T) {
	a := testArena(256 << 10)
	const keys, writers = 400, 4
	var returned [keys]atomic.Uint64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(4, uint64(w)))
			for n := uint64(1); n <= 20_000; n++ {
				i := rng.IntN(keys/writers)*writers + w
				hash, k := arenaKey(i)
				a.set(hash, k, bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(i)<<32|n), 1+rng.IntN(200)))
				returned[i].Store(n)

				i = rng.IntN(keys)
				least := returned[i].Load()
				hash, k = arenaKey(i)
				v, ok := a.get(hash, nil, k)
				if !ok {
					continue
				}
				have := binary.BigEndian.Uint64(v)
				if have>>32 != uint64(i) || have&(1<<32-1) < least || !bytes.Equal(v, bytes.Repeat(v[:8], len(v)/8)) {
					t.Errorf("key %d: got %.16x, want write %d or later", i, v, least)
					return
				}
				if rng.IntN(100) == 0 {
					a.delete(hash, k)
					a.usage()
				}
			}
		})
	}
	group.Wait()
	if err := a.shards[0].broken(); err != nil {
		t.Error(err)
	}
}

// The memory is unmapped while the arena is in use: whoever touched it would end the process.
func TestNothingTouchesReleasedMemory(t *testing.T) {
	for range 20 {
		memory, err := mapMemory(4 << 20)
		if err != nil {
			t.Fatal(err)
		}
		a := newArena(memory)
		var group sync.WaitGroup
		stop := make(chan struct{})
		var ready sync.WaitGroup
		for w := range 4 {
			ready.Add(1)
			group.Go(func() {
				for i := w; ; i += 4 {
					hash, k := arenaKey(i % 1000)
					a.set(hash, k, k)
					a.get(hash, nil, k)
					if i%16 == 0 {
						a.delete(hash, k)
					}
					if i == w+400 {
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
		a.release()
		if err := unmapMemory(memory); err != nil {
			t.Fatal(err)
		}
		hash, k := arenaKey(1)
		a.set(hash, k, k)
		if _, ok := a.get(hash, nil, k); ok {
			t.Error("a hit after release")
		}
		if used, entries := a.usage(); used != 0 || entries != 0 {
			t.Errorf("%d bytes, %d entries after release", used, entries)
		}
		close(stop)
		group.Wait()
	}
}
