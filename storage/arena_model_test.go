package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

// testArena has its memory from the Go heap, where the race detector sees it.
func testArena(bytes int) *arena { return newArena(make([]byte, bytes)) }

func arenaKey(i int) (hash uint64, key []byte) {
	key = appendDataKey(nil, testKey(i))
	return cacheHash(key), key
}

// broken says what is wrong with the shard's structure; nil = nothing.
func (s *shard) broken() error {
	if s.base > s.head || s.head > len(s.mem) || s.tail < s.base || s.end > len(s.mem) {
		return fmt.Errorf("ring from %d: head %d, tail %d, end %d", s.base, s.head, s.tail, s.end)
	}
	if s.end == 0 && s.tail != s.base || s.end != 0 && (s.head > s.tail || s.tail >= s.end) {
		return fmt.Errorf("ring from %d: head %d, tail %d, end %d", s.base, s.head, s.tail, s.end)
	}
	live := map[int]bool{}
	walk := func(from, to int) error {
		for at := from; at < to; at += s.size(at) {
			if s.size(at) < headerLen+len(s.key(at))+len(s.value(at)) || at+s.size(at) > to {
				return fmt.Errorf("entry at %d has %d bytes, of %d to %d", at, s.size(at), from, to)
			}
			if s.flag(at)&flagDead == 0 {
				live[at] = true
			}
		}
		return nil
	}
	if err := walk(s.base, s.head); err != nil {
		return err
	}
	if s.end != 0 {
		if err := walk(s.tail, s.end); err != nil {
			return err
		}
	}
	if len(live) != s.entries {
		return fmt.Errorf("%d live entries in the ring, %d counted", len(live), s.entries)
	}
	for slot := range int(s.slots) {
		length := 0
		for link := slot * slotLen; s.follow(link) != 0; length++ {
			entry := s.follow(link)
			if !live[entry] || s.slot(s.load(entry+atTag)) != slot*slotLen {
				return fmt.Errorf("slot %d leads to %d", slot, entry)
			}
			delete(live, entry)
			link = entry + atNext
		}
		if length > maxChain {
			return fmt.Errorf("slot %d has %d entries", slot, length)
		}
	}
	if len(live) != 0 {
		return fmt.Errorf("no slot leads to %v", live)
	}
	return nil
}

func TestArenaIsTheModel(t *testing.T) {
	rounds, saves, chains := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		const size = 4 << 10 // of which 16 values of the largest size fit
		a := testArena(size)
		s := &a.shards[0]
		spread := rapid.SampledFrom([]uint64{1, 3, 1 << 63}).Draw(t, "hashes") // few of them: chains
		sizes := rapid.OneOf(rapid.IntRange(0, 40), rapid.IntRange(0, 200), rapid.IntRange(0, 600), rapid.Just(maxCached+1))
		last := map[string][]byte{}
		for n := range rapid.SampledFrom([]int{20, 100, 500}).Draw(t, "steps") {
			i := int(rapid.Byte().Draw(t, "key")) % 100
			k := bytes.Repeat([]byte{byte(i)}, 1+i%8)
			hash := ring.Digest(k) % spread * 0x9e3779b97f4a7c15
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			default:
				v := bytes.Repeat([]byte{byte(n)}, sizes.Draw(t, "size"))
				if old := last[string(k)]; old != nil && rapid.Bool().Draw(t, "grow") {
					v = bytes.Repeat([]byte{byte(n)}, len(old)+rapid.IntRange(0, slack+granule).Draw(t, "by"))
				}
				head, end, entries := s.head, s.end, s.entries
				a.set(hash, k, v)
				last[string(k)] = v
				got, ok := a.get(hash, nil, k)
				if want := entrySize(len(k), len(v)) <= a.limit && len(v) <= maxCached; ok != want || ok && !bytes.Equal(got, v) {
					t.Fatalf("after a set of %d bytes: hit %v with %d bytes, want %v", len(v), ok, len(got), want)
				}
				if s.head < head {
					rounds++
				}
				if end != 0 && s.head > head+entrySize(len(k), len(v)) {
					saves++
				}
				if spread == 1 && entries == maxChain {
					chains++
				}
			case 0:
				a.delete(hash, k)
				delete(last, string(k))
			case 1, 2, 3, 4:
				got, ok := a.get(hash, []byte("before"), k)
				want, set := last[string(k)]
				if ok && (!set || string(got) != "before"+string(want)) || !ok && string(got) != "before" {
					t.Fatalf("hit %v with %.20x, want %.20x", ok, got, want)
				}
			}
			if err := s.broken(); err != nil {
				t.Fatal(err)
			}
			if used, entries := a.usage(); used > size || entries > uint64(len(last)) {
				t.Fatalf("%d bytes and %d entries, of %d and %d", used, entries, size, len(last))
			}
		}
	})
	t.Logf("the ring came around %d times, %d inserts saved entries, %d met a full chain", rounds, saves, chains)
	if !testing.Short() && (rounds == 0 || saves == 0 || chains == 0) {
		t.Error("not everything was met")
	}
}

// The same, with a real load: every size, all shards, more than fits.
func TestArenaUnderLoad(t *testing.T) {
	const size = 16 << 20
	a := testArena(size)
	rng := rand.New(rand.NewPCG(1, 1))
	last := map[int][]byte{}
	hits := 0
	for n := range 200_000 {
		i := rng.IntN(20_000)
		hash, k := arenaKey(i)
		switch rng.IntN(8) {
		case 0, 1, 2:
			v := make([]byte, 8+rng.IntN(1<<rng.IntN(13)))
			binary.BigEndian.PutUint64(v, uint64(n))
			a.set(hash, k, v)
			last[i] = v
		case 3:
			a.delete(hash, k)
			delete(last, i)
		default:
			got, ok := a.get(hash, nil, k)
			if want, set := last[i]; ok && (!set || !bytes.Equal(got, want)) {
				t.Fatalf("key %d: got %.10x, want %.10x", i, got, want)
			}
			if ok {
				hits++
			}
		}
	}
	for i := range a.shards {
		if err := a.shards[i].broken(); err != nil {
			t.Errorf("shard %d: %v", i, err)
		}
	}
	if used, entries := a.usage(); len(a.shards) != 8 || used < size*9/10 || used > size || entries == 0 || hits == 0 {
		t.Errorf("%d shards, %d bytes, %d entries, %d hits", len(a.shards), used, entries, hits)
	}
}
