package antientropy

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
)

// lose takes everything away, votes included, as a store does whose disk was lost.
func (s *ship) lose(t testing.TB) {
	t.Helper()
	fresh := newTreeStore(s.store.partitions)
	for p := range s.store.partitions {
		for n := 1; n <= maxReplicas; n++ {
			fresh.unsynced[ring.Class{Partition: p, N: n}] = true
		}
	}
	s.store = fresh
	s.config.Store = fresh
	s.reopen(t)
}

// alone tells whether a class has no other owner.
func alone(c ring.Class) bool { return c.N == 1 }

// A node that lost its disk votes again, class by class, once it has synced with every other owner, and never before.
func TestVotesComeBackAfterEveryOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, nil)
		a, c := ships[0], ships[2]
		everywhere(t, ships, 300)
		only := c.write(testKey(1000), "only on c")
		a.lose(t)
		c.dead.Store(true)
		stop := run(t, a)
		defer stop()
		time.Sleep(30 * time.Second)
		if got := len(a.store.dump()); got != 300 {
			t.Fatalf("%d objects, want what b holds", got)
		}
		// Classes with two owners, of which the other one is b, are synced; the others wait for c.
		for _, class := range a.store.Unsynced() {
			if owners := a.Layout().Owners(class.Partition, class.N); !alone(class) && slices.Contains(owners, a.id) && !slices.Contains(owners, c.id) {
				t.Errorf("%v has no vote", class)
			}
		}
		for _, class := range a.store.synced {
			if owners := a.Layout().Owners(class.Partition, class.N); slices.Contains(owners, c.id) || !slices.Contains(owners, a.id) {
				t.Errorf("%v has its vote without c", class)
			}
		}
		if s := a.Status(); s.Unsynced < 16*5 || len(s.Partitions) == 0 {
			t.Errorf("%d unsynced", s.Unsynced)
		}
		c.dead.Store(false)
		time.Sleep(12 * time.Second)
		if got := a.store.dump()[testKey(1000)]; got != string(only) {
			t.Error("what only c held has not come")
		}
		for _, class := range a.store.Unsynced() {
			if !alone(class) && a.Layout().Owns(a.id, class.Partition, class.N) {
				t.Errorf("%v has no vote", class)
			}
		}
		if s := a.Status(); s.Unsynced != 0 {
			t.Errorf("%d unsynced", s.Unsynced)
		}
	})
}

// Damage on the way keeps the votes of its class, and of no other.
func TestVotesOfADamagedClassWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships, 300)
		b.write(testKey(5), "newer on b, and nowhere else")
		b.store.damaged[testKey(5)] = true
		class := b.store.class(testKey(5))
		a.lose(t)
		stop := run(t, a)
		defer stop()
		time.Sleep(30 * time.Second)
		for c := range 16 {
			c := ring.Class{Partition: c, N: 3}
			if got, want := slices.Contains(a.store.Unsynced(), c), c == class; got != want {
				t.Errorf("%v: unsynced %v, want %v", c, got, want)
			}
		}
		for _, p := range a.Status().Partitions {
			for _, d := range p.Peers {
				if want := p.Class == class && d.Node == b.id; want != strings.Contains(d.Error, errDamaged.Error()) || want != d.Equal.IsZero() {
					t.Errorf("%v with %s: %+v", p.Class, d.Node, d)
				}
			}
		}
		b.store.mu.Lock()
		delete(b.store.damaged, testKey(5))
		b.store.mu.Unlock()
		time.Sleep(15 * time.Second)
		if slices.Contains(a.store.Unsynced(), class) {
			t.Error("the class has no vote, and nothing is damaged any more")
		}
	})
}

// A class that nobody else owns has its vote at once where nothing was lost, and for good none where something was.
func TestVotesOfClassesWithoutOtherOwners(t *testing.T) {
	for _, restored := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ships := fleet(t, 16, 3, func(c *Config) { c.NoExchange = true })
			a := ships[0]
			a.lose(t)
			a.store.restored = restored
			stop := run(t, a)
			defer stop()
			time.Sleep(5 * time.Second)
			left := set(a.store.Unsynced())
			for p := range 16 {
				c := ring.Class{Partition: p, N: 1}
				if got, want := left[c], !restored || !a.Layout().Owns(a.id, p, 1); got != want {
					t.Errorf("restored %v: %v unsynced: %v, want %v", restored, c, got, want)
				}
				if c.N = 3; !left[c] {
					t.Errorf("%v has its vote without an exchange", c)
				}
			}
		})
	}
}

// A node whose watermark is below what another owner has released was set back: it takes its votes away itself, whoever of the two asks,
// raises its fence at once, and has votes and watermark back only after it has synced with all other owners in exchanges that begin later.
func TestNodeThatWasSetBackDistrustsItself(t *testing.T) {
	for _, asks := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b, c := ships[0], ships[1], ships[2]
		everywhere(t, ships, 200)
		class := ring.Class{Partition: 4, N: 3}
		marks := Marks{Fence: 100, Watermark: 100, Released: 100}
		b.store.marks[class], c.store.marks[class] = marks, marks
		a.store.marks[class] = Marks{Fence: 60, Watermark: 60, Released: 60}
		mustExchange(t, ships[asks], ships[1-asks])
		if got := a.store.Unsynced(); !slices.Equal(got, []ring.Class{class}) || len(a.store.why) != 1 || len(b.store.why)+len(c.store.why) != 0 {
			t.Fatalf("unsynced: %v, distrusted: %v, others %v %v", got, a.store.why, b.store.why, c.store.why)
		}
		if got, want := a.store.Marks(class), (Marks{Fence: 100}); got != want {
			t.Errorf("marks %+v, want %+v", got, want)
		}
		mustExchange(t, a, c) // b has not been compared since
		if got := a.store.Unsynced(); len(got) != 1 {
			t.Fatalf("unsynced: %v", got)
		}
		mustExchange(t, b, a) // what b finds is not known to a
		if got := a.store.Unsynced(); len(got) != 1 {
			t.Fatalf("unsynced: %v", got)
		}
		mustExchange(t, a, b)
		if got := a.store.Unsynced(); len(got) != 0 {
			t.Fatalf("unsynced: %v", got)
		}
		if got, want := a.store.Marks(class), (Marks{Fence: 100, Watermark: 100}); got != want {
			t.Errorf("marks %+v, want %+v", got, want)
		}
		mustExchange(t, a, b)
		mustExchange(t, c, a)
		if got := a.store.Unsynced(); len(got) != 0 || len(a.store.why) != 1 {
			t.Errorf("distrusts itself again: %v", a.store.why)
		}
	}
}

// A class that a node has collected wholly is compared all the same: who was set back may hold something in it.
func TestSetBackIsSeenInAClassThatIsEmptyElsewhere(t *testing.T) {
	for _, asks := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		o := a.write(testKey(1), "long deleted")
		at := decoded(t, o).MaxTime() + 10
		class := a.store.class(testKey(1))
		b.store.marks[class] = Marks{Fence: at, Watermark: at, Released: at}
		if bad := unequal(mustExchange(t, ships[asks], ships[1-asks])); len(bad) > 0 {
			t.Errorf("unequal: %v", bad)
		}
		if got := a.store.Unsynced(); !slices.Equal(got, []ring.Class{class}) {
			t.Errorf("unsynced: %v", got)
		}
		if len(a.store.dump())+len(b.store.dump()) != 0 {
			t.Error("it is back, or was not forgotten")
		}
	}
}

// An exchange that began before the votes were lost does not count, even if somebody else took them away.
func TestOlderExchangesDoNotCountForLostVotes(t *testing.T) {
	ships := fleet(t, 16, 2, nil)
	a, b := ships[0], ships[1]
	everywhere(t, ships, 100)
	class := ring.Class{Partition: 4, N: 3}
	mustExchange(t, a, b)
	var lost atomic.Bool
	a.sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
		if !lost.Swap(true) {
			if err := a.store.Distrust("another reason", []ring.Class{class}); err != nil {
				t.Error(err)
			}
		}
		return 0, false, nil
	}
	mustExchange(t, a, b)
	if got := a.store.Unsynced(); len(got) != 1 {
		t.Fatal("the vote is back by an exchange that began before it was lost")
	}
	mustExchange(t, a, b)
	if got := a.store.Unsynced(); len(got) != 0 {
		t.Fatalf("unsynced: %v", got)
	}
}

// Trees that turn out to have been wrong take back what was found with them, even by an exchange that is under way.
func TestWrongTreesTakeEqualityBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships, 100)
		wrong := ring.Class{Partition: 4, N: 3}
		a.store.verify = func(partition int, pace func(int) error) (VerifyResult, error) {
			return VerifyResult{Objects: 6, WrongLeaves: 1}, nil
		}
		mustExchange(t, a, b)
		if a.debts.of(wrong, b.id).seq == 0 {
			t.Fatal("not equal")
		}
		a.sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			a.verifyPartition(t.Context(), wrong.Partition, time.Second)
			return 0, false, nil
		}
		result := mustExchange(t, a, b)
		if bad := unequal(result); len(bad) != 1 || bad[0].Class != wrong {
			t.Errorf("unequal: %v, want %v", bad, wrong)
		}
		if got := a.debts.of(wrong, b.id); got.seq != 0 || got.err == "" {
			t.Errorf("got %+v", got)
		}
		if s := a.Status(); s.WrongLeaves != 1 || s.VerifiedObjects != 6 {
			t.Errorf("got %+v", s)
		}
	})
}

// While a node resyncs, others that differ do not make it wait; the pace is once a second at first, and then slower.
func TestUnsyncedNodeKeepsTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, func(c *Config) { c.Interval = 10 * time.Minute })
		a, b := ships[0], ships[1]
		everywhere(t, ships, 50)
		a.lose(t)
		var tries []time.Duration
		start := time.Now()
		a.sea.fault = func(_, to ring.NodeID, _ []byte) (time.Duration, bool, error) {
			if to == b.id {
				tries = append(tries, time.Since(start).Round(time.Second))
				return 0, false, fmt.Errorf("connection broke")
			}
			return 0, false, nil
		}
		stop := run(t, a)
		time.Sleep(2 * time.Minute)
		stop()
		var starts []time.Duration // each exchange tries its message three times
		for i := 0; i < len(tries); i += 3 {
			starts = append(starts, tries[i])
		}
		if len(starts) < 6 || len(starts) > 9 || starts[1] > 3*time.Second {
			t.Errorf("exchanges began at %v", starts)
		}
	})
}
