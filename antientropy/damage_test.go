package antientropy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

// damagedExchange has objects damaged on either side among others that differ, and exchanges. It tells what is not as it should be.
func damagedExchange(t *testing.T) error {
	t.Helper()
	for _, at := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships[:2], 500)
		for i := range 100 {
			a.write(testKey(i), "newer on a")
			b.write(testKey(100+i), "newer on b")
		}
		bad := map[ring.Class]bool{}
		for _, i := range []int{3, 103, 300} { // the last one does not differ, so nobody reads it
			ships[at].store.damaged[testKey(i)] = true
			if i != 300 {
				bad[a.store.class(testKey(i))] = true
			}
		}
		result, err := a.exchangeWith(t.Context(), b.id, nil, nil)
		if err != nil {
			return fmt.Errorf("ended by damage: %w", err)
		}
		for _, c := range result.Classes {
			if c.Equal == bad[c.Class] {
				return fmt.Errorf("%v: equal %v, want %v: %s", c.Class, c.Equal, !bad[c.Class], c.Error)
			}
			if !c.Equal && !strings.Contains(c.Error, errDamaged.Error()) {
				return fmt.Errorf("%v: %q does not say what is damaged", c.Class, c.Error)
			}
		}
		x, y := a.store.dump(), b.store.dump()
		for i := range 200 {
			if k := testKey(i); i != 3 && i != 103 && x[k] != y[k] {
				return fmt.Errorf("%q differs, which is not damaged", k.Name)
			}
		}
	}
	return nil
}

func TestExchangeGoesOnBesideDamage(t *testing.T) {
	if err := damagedExchange(t); err != nil {
		t.Fatal(err)
	}
}

// A leaf whose tree is wrong is filled all the same, but proves nothing: the class is not equal.
func TestExchangeFillsUnsoundLeaves(t *testing.T) {
	for _, at := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships[:2], 200)
		lost := ships[at]
		lost.store.vanish(testKey(7))
		c := a.store.class(testKey(7))
		if bad := unequal(mustExchange(t, a, b)); len(bad) != 0 {
			t.Fatalf("the trees are still equal, so nothing can be seen yet: %v", bad)
		}
		// Something else in this leaf differs: now the leaf is read.
		other := ring.Key{}
		for i := 1000; other.Name == ""; i++ {
			if k := testKey(i); ring.Leaf(k.Token) == ring.Leaf(testKey(7).Token) {
				other = k
			}
		}
		ships[1-at].write(other, "new")
		bad := unequal(mustExchange(t, a, b))
		if len(bad) != 1 || bad[0].Class != c || !strings.Contains(bad[0].Error, lost.name(lost.id)) {
			t.Fatalf("unequal: %v, want %v", bad, c)
		}
		sameEverywhere(t, a, b)
	}
}

// Trees that are being computed anew prove nothing, even where they are equal.
func TestTreesBeingComputedProveNothing(t *testing.T) {
	for i := range 4 {
		at := i % 2
		ships := fleet(t, 16, 3, func(c *Config) {
			if i < 2 { // the store cannot be asked, so a leaf is read
				c.Sound = nil
			}
		})
		everywhere(t, ships[:2], 200)
		ships[at].store.recomputed = true
		result := mustExchange(t, ships[0], ships[1])
		if got := len(unequal(result)); got != 16 || result.Messages != 1 {
			t.Fatalf("%d unequal after %d messages, want all 16", got, result.Messages)
		}
		ships[at].store.recomputed = false
		if bad := unequal(mustExchange(t, ships[0], ships[1])); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
	}
}

// Trees that begin to be computed anew half way prove nothing below their roots, either.
func TestTreesThatBecomeUnsoundHalfWay(t *testing.T) {
	for _, at := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships[:2], 200)
		a.write(testKey(1), "changed")
		a.sea.fault = func(_, _ ring.NodeID, request []byte) (time.Duration, bool, error) {
			if request[0] == kindNodes {
				ships[at].store.recomputed = true
			}
			return 0, false, nil
		}
		result := mustExchange(t, a, b)
		if bad := unequal(result); len(bad) != 1 || bad[0].Class != a.store.class(testKey(1)) || !strings.Contains(bad[0].Error, ships[at].name(ships[at].id)) {
			t.Errorf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
	}
}

// What one node has collected the other one forgets, whoever asks; and what is stamped later stays.
func TestExchangeForgetsWhatWasCollected(t *testing.T) {
	for _, collector := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships[:2], 300)
		gone, late := ships[collector].store, ships[1-collector]
		var mark uint64
		for i := range 50 { // deleted, and collected on one node only; the other was set back
			late.write(testKey(i), "old")
			o, _, err := late.store.Get(testKey(i))
			if err != nil {
				t.Fatal(err)
			}
			mark = max(mark, decoded(t, o).MaxTime())
			gone.put(testKey(i), nil)
		}
		for c := range 16 {
			gone.marks[ring.Class{Partition: c, N: 3}] = Marks{Fence: mark, Watermark: mark}
		}
		fresh := late.write(ring.NewKey("b", "fresh"), "stays")
		if decoded(t, fresh).MaxTime() <= mark {
			t.Fatal("clock")
		}
		result := mustExchange(t, a, b)
		if bad := unequal(result); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
		if got := len(a.store.dump()); got != 251 {
			t.Errorf("%d objects, want 251", got)
		}
	}
}

// Absence in a leaf that is not sound is no proof that something was collected.
func TestNothingIsForgottenForAnUnsoundLeaf(t *testing.T) {
	for _, collector := range []int{0, 1} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		o := ships[1-collector].write(testKey(1), "alive")
		s := ships[collector].store
		s.unsound[ring.Leaf(testKey(1).Token)] = true
		at := decoded(t, o).MaxTime()
		s.marks[s.class(testKey(1))] = Marks{Fence: at, Watermark: at}
		if bad := unequal(mustExchange(t, a, b)); len(bad) != 1 {
			t.Fatalf("unequal: %v, want the class of the leaf", bad)
		}
		if got := len(ships[1-collector].store.dump()); got != 1 {
			t.Error("the last copy was forgotten")
		}
	}
}

// An error of the store ends nothing and is not hidden: not of a merge, nor of the fsync after it.
func TestExchangeTellsOfFailingStores(t *testing.T) {
	broken := errors.New("disk is gone")
	for name, test := range map[string]struct {
		at   int
		fail func(*treeStore)
	}{
		"merge here":  {0, func(s *treeStore) { s.mergeErr = broken }},
		"merge there": {1, func(s *treeStore) { s.mergeErr = broken }},
		"sync here":   {0, func(s *treeStore) { s.syncErr = broken }},
		"sync there":  {1, func(s *treeStore) { s.syncErr = broken }},
	} {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships[:2], 100)
		touched := []ring.Class{a.store.class(testKey(1)), a.store.class(testKey(2))}
		ships[1-test.at].write(testKey(1), "to be merged")
		ships[1-test.at].write(testKey(2), "to be merged")
		test.fail(ships[test.at].store)
		result, _ := a.exchangeWith(t.Context(), b.id, nil, nil)
		for _, c := range result.Classes {
			if want := !slices.Contains(touched, c.Class); c.Equal != want || !want && !strings.Contains(c.Error, broken.Error()) {
				t.Errorf("%s: %v: equal %v, want %v: %s", name, c.Class, c.Equal, want, c.Error)
			}
		}
		if len(result.Classes) != 16 {
			t.Errorf("%s: %d classes", name, len(result.Classes))
		}
	}
}
