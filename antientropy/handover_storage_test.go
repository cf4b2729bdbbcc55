package antientropy

import (
	"fmt"
	"testing"
	"time"

	"github.com/rondodb/rondo/vclock"
)

// Hints and collection on real stores: what was deleted while one of three was away goes everywhere, and is collected, and stays gone.
func TestHandoverOfRealStores(t *testing.T) {
	ships := realFleet(t)
	for _, s := range ships {
		s.config.NoHints, s.config.NoPurge = false, false
		s.config.Now = func() time.Time { return time.Now().Add(roundLag + time.Second) } // all that was written is old enough
		s.reopen(t)
	}
	text := func(v string) vclock.Sibling {
		return vclock.Sibling{ContentType: vclock.TypeText, Value: []byte(v)}
	}
	const keys = 400
	var old [keys][]byte
	for i := range keys {
		by := ships[i%3]
		old[i] = by.put(t, testKey(i), text(fmt.Sprint("value ", i)))
		for _, s := range ships {
			if s != by {
				if err := s.config.Store.Merge(testKey(i), old[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// The third is away while the first two delete half of it.
	a, b, away := ships[0], ships[1], ships[2]
	away.dead.Store(true)
	for i := range keys {
		if i%2 == 0 {
			continue
		}
		by, other := ships[i/2%2], ships[1-i/2%2]
		o := by.put(t, testKey(i), vclock.Sibling{Tombstone: true})
		if err := other.config.Store.Merge(testKey(i), o); err != nil {
			t.Fatal(err)
		}
		if err := by.config.Store.(diskStore).Hint(away.id, testKey(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	collect := func() (left int64) {
		for _, s := range ships {
			if !s.dead.Load() {
				s.purges.collect(t.Context())
			}
		}
		for _, s := range ships {
			s.purges.dropReleased(t.Context())
			for _, w := range s.config.Store.Tombstones() {
				left += w.Count
			}
		}
		return left
	}
	if left := collect(); left != keys {
		t.Fatalf("%d tombstones while a member is away, want %d", left, keys)
	}
	away.dead.Store(false)
	for _, s := range []*ship{a, b} {
		for _, start := range s.hints.due() {
			start(t.Context())
		}
		if stats, _ := s.hintStatus(); len(stats) != 1 || stats[0].Count != 0 || stats[0].Delivered != keys/4 {
			t.Fatalf("hints of %s: %+v", s.name(s.id), stats)
		}
	}
	for i := range keys {
		if x, y := a.stored(t, testKey(i)), away.stored(t, testKey(i)); x != y {
			t.Fatalf("key %d differs after all hints were delivered", i)
		}
	}
	time.Sleep(3 * time.Millisecond) // clocks of a coarse grain
	collect()
	for i := range keys {
		for _, s := range ships {
			got := s.stored(t, testKey(i))
			if (got != "") != (i%2 == 0) {
				t.Fatalf("key %d on %s: %q; blocker %q", i, s.name(s.id), got, s.tombstoneStatus().Blocker)
			}
			if i%2 == 1 {
				if err := s.config.Store.Merge(testKey(i), old[i]); !isPurged(err) {
					t.Fatalf("%s takes the late value of key %d: %v", s.name(s.id), i, err)
				}
			}
		}
	}
	// Written again, by whoever.
	for i := 1; i < keys; i += 2 {
		by := ships[i%3]
		o := by.put(t, testKey(i), text("again"))
		if err := ships[(i+1)%3].config.Store.Merge(testKey(i), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range ships {
		for _, other := range ships {
			if s != other {
				if bad := unequal(mustExchange(t, s, other)); len(bad) > 0 {
					t.Errorf("unequal: %v", bad)
				}
			}
		}
	}
	for i := range keys {
		for _, s := range ships {
			if o := decoded(t, []byte(s.stored(t, testKey(i)))); o.Values() != 1 || len(o.Siblings) != 1 {
				t.Fatalf("key %d on %s: %+v", i, s.name(s.id), o)
			}
		}
	}
	for _, s := range ships {
		if got := s.tombstoneStatus(); got.Waiting != 0 || got.Collected == 0 {
			t.Errorf("%s: %+v", s.name(s.id), got)
		}
	}
}
