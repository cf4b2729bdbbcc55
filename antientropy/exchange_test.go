package antientropy

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

func TestExchangeOfEqualNodesIsRootsOnly(t *testing.T) {
	ships := fleet(t, 256, 3, nil)
	everywhere(t, ships, 5000)
	result := mustExchange(t, ships[0], ships[1])
	if bad := unequal(result); len(bad) > 0 || len(result.Classes) != 256 {
		t.Fatalf("%d classes, unequal: %v", len(result.Classes), bad)
	}
	if result.Messages != 1 || ships[0].sea.messages != 1 || ships[0].sea.kinds[kindRoots] != 1 {
		t.Errorf("%d messages, want one", result.Messages)
	}
	if got := int(result.Bytes); got > 256*13+512 || got != ships[0].sea.bytes {
		t.Errorf("%d bytes (%d on the wire), want roots only", got, ships[0].sea.bytes)
	}
	if result.Read+result.Sent+result.Received+int64(result.Different) != 0 {
		t.Errorf("got %+v", result.exchangeStep)
	}
}

func TestExchangeMovesWhatDiffers(t *testing.T) {
	for _, partitions := range []int{1, 2, 256, 4096, 65536} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			ships := fleet(t, partitions, 3, nil)
			a, b := ships[0], ships[1]
			everywhere(t, ships[:2], 2000)
			for i := range 30 {
				a.write(testKey(i), "newer on a")
				b.write(testKey(100+i), "newer on b")
				a.write(testKey(200+i), "concurrent a")
				b.write(testKey(200+i), "concurrent b")
				a.write(testKey(10000+i), "only on a")
				b.write(testKey(20000+i), "only on b")
				a.remove(testKey(300 + i))
			}
			result := mustExchange(t, a, b)
			if bad := unequal(result); len(bad) > 0 {
				t.Fatalf("unequal: %v", bad)
			}
			sameEverywhere(t, a, b)
			if result.Sent != 120 || result.Received != 150 || result.Compared != result.Total {
				t.Errorf("got %+v", result.exchangeStep)
			}
			again := mustExchange(t, b, a)
			if again.Messages != 1 && partitions < 65536 || again.Different != 0 {
				t.Errorf("once more: %+v", again.exchangeStep)
			}
		})
	}
}

// A node without anything is filled, and one that has everything fills another: both in about as many bytes as there are.
func TestExchangeFillsAnEmptyNode(t *testing.T) {
	for _, from := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[from], ships[1-from]
		size := 0
		for i := range 3000 {
			size += len(a.write(testKey(i), strings.Repeat("x", 1000))) + len(testKey(i).Name)
		}
		result := mustExchange(t, ships[0], ships[1])
		if bad := unequal(result); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
		if got := int(result.Bytes); got > size+size/10 {
			t.Errorf("%d bytes for %d", got, size)
		}
	}
}

// The cost follows the difference, not the data.
func TestExchangeCostFollowsTheDifference(t *testing.T) {
	const keys = 20000
	for _, differing := range []int{0, 10, 100, 1000, keys} {
		t.Run(fmt.Sprint(differing), func(t *testing.T) {
			ships := fleet(t, 256, 3, nil)
			a, b := ships[0], ships[1]
			everywhere(t, ships[:2], keys)
			for i := range differing {
				a.write(testKey(i*(keys/max(differing, 1))), "another value")
			}
			result := mustExchange(t, a, b)
			if bad := unequal(result); len(bad) > 0 {
				t.Fatalf("unequal: %v", bad)
			}
			sameEverywhere(t, a, b)
			// Up to two rows of 32 hashes for each object, what shares its leaf, the object itself both ways.
			if got, most := result.Bytes, int64(4096+900*differing); got > most {
				t.Errorf("%d bytes, want at most %d", got, most)
			}
			if got, most := result.Messages, 5+differing/100; got > most {
				t.Errorf("%d messages, want at most %d", got, most)
			}
			if got, most := result.Read, int64(10*differing); got > most {
				t.Errorf("%d objects read, want at most %d", got, most)
			}
			if result.Sent != int64(differing) {
				t.Errorf("%d sent, want %d", result.Sent, differing)
			}
			t.Logf("%d differing: %d bytes, %d messages, %d objects read", differing, result.Bytes, result.Messages, result.Read)
		})
	}
}

// No message is much larger than a megabyte, but for a single object that is; and what is large does not cost more than it weighs.
func TestExchangeBoundsItsMessages(t *testing.T) {
	for _, from := range []int{0, 1} {
		ships := fleet(t, 4, 3, nil)
		largest, total := 0, 0
		ships[0].sea.fault = func(_, _ ring.NodeID, request []byte) (time.Duration, bool, error) {
			largest = max(largest, len(request))
			return 0, false, nil
		}
		for i := range 100 {
			total += len(ships[from].write(testKey(i), strings.Repeat("x", 100_000)))
		}
		huge := ring.NewKey("b", "huge")
		total += len(ships[from].write(huge, strings.Repeat("x", 3<<20)))
		result := mustExchange(t, ships[0], ships[1])
		if bad := unequal(result); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, ships[:2]...)
		if largest > 3<<20+1000 {
			t.Errorf("a message of %d bytes", largest)
		}
		if got := int(result.Bytes); got > total+total/20 || result.Messages < 11 || result.Messages > 30 {
			t.Errorf("%d bytes in %d messages, for %d", got, result.Messages, total)
		}
	}
}

// collide makes two keys of one token: xxhash64 has two lanes of eight bytes here whose second word can undo what the first has done.
func collide(i int) (a, b ring.Key) {
	const p1, p2 uint64 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
	inverse := p2
	for range 6 {
		inverse *= 2 - p2*inverse
	}
	lane := func(acc, word uint64) uint64 { return bits.RotateLeft64(acc+word*p2, 31) * p1 }
	name := make([]byte, 70)
	for k := range name {
		name[k] = byte('a' + (i+k)%26)
	}
	other := slices.Clone(name)
	const first, second = 8 - 2, 40 - 2 // behind the bucket's name and the zero byte
	copy(other[first:], "zzzzzzzz")
	x := lane(p2, binary.LittleEndian.Uint64(name[first:]))
	y := lane(p2, binary.LittleEndian.Uint64(other[first:]))
	binary.LittleEndian.PutUint64(other[second:], binary.LittleEndian.Uint64(name[second:])+(x-y)*inverse)
	return ring.NewKey("b", string(name)), ring.NewKey("b", string(other))
}

func TestExchangeOfKeysWithOneToken(t *testing.T) {
	for _, budget := range []int{10, 600_000} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		for i := range 8 {
			x, y := collide(i)
			if x.Token != y.Token || x == y {
				t.Fatalf("%v and %v do not collide", x, y)
			}
			value := strings.Repeat("x", budget)
			switch i % 4 {
			case 0:
				a.write(x, value)
				b.write(y, value)
			case 1:
				b.write(x, value)
				b.write(y, value)
			case 2:
				o := a.write(x, value)
				if err := b.store.Merge(x, o); err != nil {
					t.Fatal(err)
				}
				b.write(y, value)
			case 3:
				a.write(x, value)
				b.write(x, value)
				b.write(y, value)
			}
		}
		if bad := unequal(mustExchange(t, a, b)); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
		if got := len(a.store.dump()); got != 16 {
			t.Errorf("%d objects, want 16", got)
		}
	}
}

// A leaf with more objects than a message holds is cut, by the asker where its window is small, and by the answer.
func TestExchangeOfACrowdedLeaf(t *testing.T) {
	var crowd []ring.Key
	for i := 0; len(crowd) < 16; i++ {
		if k := testKey(i); ring.Leaf(k.Token) == 77_777 {
			crowd = append(crowd, k)
		}
	}
	for _, window := range []int{1, 2, 5, 1000} {
		ships := fleet(t, 256, 3, nil)
		a, b := ships[0], ships[1]
		for i, k := range crowd {
			ships[i%2].write(k, strings.Repeat("x", 200_000))
			if i%3 == 0 {
				ships[(i+1)%2].write(k, "concurrent")
			}
		}
		x := &exchange{Repairer: a.Repairer, ctx: t.Context(), peer: b.id, window: window}
		if err := x.run(nil); err != nil {
			t.Fatal(err)
		}
		if bad := unequal(x.result(nil)); len(bad) > 0 || len(x.classes) != 1 || x.classes[0].waiting != 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
		if got := a.sea.kinds[kindLists]; got < 2 || got > 25 {
			t.Errorf("window %d: %d messages of lists", window, got)
		}
	}
}

// An item that is too large for a message is cut between two tokens, and its pieces together are what it was.
func TestItemsAreCutBetweenTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, last := ring.LeafTokens(9)
		it := &item{leaf: 9, from: first, to: last}
		for _, step := range rapid.SliceOfN(rapid.Uint64Range(0, 3), 1, 60).Draw(t, "steps") {
			token := first
			if n := len(it.held); n > 0 {
				token = it.held[n-1].key.Token
			}
			it.held = append(it.held, held{key: ring.Key{Token: token + step}})
		}
		all := slices.Clone(it.held)
		n := rapid.IntRange(1, 10).Draw(t, "n")
		var got []held
		from := first
		for it != nil {
			var rest *item
			if len(it.held) > n {
				rest = it.cut(n)
			}
			if it.from != from || it.to < it.from || rest != nil && rest.from != it.to+1 || rest == nil && it.to != last {
				t.Fatalf("piece from %d to %d, want it from %d", it.from, it.to, from)
			}
			for _, h := range it.held {
				if h.key.Token < it.from || h.key.Token > it.to {
					t.Fatalf("token %d in a piece from %d to %d", h.key.Token, it.from, it.to)
				}
			}
			got, from, it = append(got, it.held...), it.to+1, rest
		}
		if !slices.Equal(got, all) {
			t.Fatalf("got %v, want %v", got, all)
		}
	})
}

// Whatever two nodes hold, one exchange makes them equal, and a ring of exchanges makes three equal.
func TestExchangeModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		partitions := 1 << rapid.IntRange(6, 12).Draw(rt, "partition bits")
		ships := fleet(t, partitions, 3, nil)
		for i := range ships {
			ships[i].store.replicas = func(bucket string) int { return int(bucket[0]-'0') + 1 }
		}
		for range rapid.IntRange(0, 60).Draw(rt, "ops") {
			k := ring.NewKey(fmt.Sprint(rapid.IntRange(1, 4).Draw(rt, "n")), fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "key")))
			at := ships[rapid.IntRange(0, 2).Draw(rt, "node")]
			if !ships[0].layout.Load().Owns(at.id, at.store.class(k).Partition, at.store.class(k).N) {
				continue
			}
			var o []byte
			if rapid.IntRange(0, 3).Draw(rt, "op") == 0 {
				o = at.remove(k)
			} else {
				o = at.write(k, strings.Repeat("v", rapid.IntRange(0, 2000).Draw(rt, "size")))
			}
			if to := ships[rapid.IntRange(0, 2).Draw(rt, "to")]; rapid.Bool().Draw(rt, "replicated") && to.layout.Load().Owns(to.id, to.store.class(k).Partition, to.store.class(k).N) {
				if err := to.store.Merge(k, o); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for _, pair := range [][2]int{{0, 1}, {2, 1}, {0, 2}, {1, 0}} {
			if bad := unequal(mustExchange(t, ships[pair[0]], ships[pair[1]])); len(bad) > 0 {
				rt.Fatalf("unequal: %v", bad)
			}
		}
		for i := range ships {
			for j := range ships {
				if i == j {
					continue
				}
				if got := mustExchange(t, ships[i], ships[j]); got.Different != 0 || got.Messages != 1 {
					rt.Fatalf("n%d and n%d still differ: %+v", i+1, j+1, got.exchangeStep)
				}
			}
		}
	})
}

// What an exchange costs this process, both sides, with a hundred thousand objects.
func BenchmarkExchange(b *testing.B) {
	const keys = 100_000
	for _, differing := range []int{0, 10, 1000} {
		b.Run(fmt.Sprint(differing), func(b *testing.B) {
			ships := fleet(b, 256, 3, nil)
			everywhere(b, ships[:2], keys)
			var bytes, messages int64
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range differing {
					ships[0].write(testKey(i*(keys/differing)), "changed")
				}
				b.StartTimer()
				result := mustExchange(b, ships[0], ships[1])
				bytes, messages = bytes+result.Bytes, messages+int64(result.Messages)
			}
			b.ReportMetric(float64(bytes)/float64(b.N), "wire-B/op")
			b.ReportMetric(float64(messages)/float64(b.N), "messages/op")
		})
	}
}
