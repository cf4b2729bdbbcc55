package check

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// Whatever is found can be shrunk: to operations of the history, which still show it, none of which can go.
func TestShrink(t *testing.T) {
	bugs := []string{
		"lost write", "lww", "wide token", "zombie", "stale read", "no write-back", "session ignored", "diverged", "phantom",
		"rejected", "answered too early", "hidden difference", "sibling left out",
	}
	for _, bug := range bugs {
		t.Run(bug, func(t *testing.T) {
			found := map[Rule]int{}
			before, after := 0, 0
			for seed := range uint64(15) {
				m := newModel(seed)
				m.bug, m.weak, m.sets, m.deletes = bug, true, bug == "sibling left out", bug == "zombie"
				ops := m.run(300)
				noise := newModel(seed + 1000).run(50) // of another key
				for i := range noise {
					noise[i].Key = "other"
				}
				all := slices.Concat(ops, noise)
				for _, v := range History(ops).Violations {
					if found[v.Rule]++; found[v.Rule] > 5 {
						continue
					}
					part := Shrink(all, v)
					checkShrunk(t, ops, part, v)
					if again := Shrink(all, v); fmt.Sprint(again) != fmt.Sprint(part) {
						t.Fatalf("seed %d: %d operations, and then %d", seed, len(part), len(again))
					}
					before, after = before+len(ops), after+len(part)
				}
			}
			t.Logf("%v: %d operations, %d after", found, before, after)
			if len(found) == 0 || after*2 > before {
				t.Errorf("%v: %d operations, %d after", found, before, after)
			}
		})
	}
}

func checkShrunk(t *testing.T, ops, part []Op, v Violation) {
	t.Helper()
	next := 0 // they are in order, so each is found after the one before
	for _, o := range part {
		i := slices.IndexFunc(ops[next:], func(p Op) bool {
			if o.Kind == Read && o.ContextIn == "" {
				p.ContextIn = ""
			}
			return reflect.DeepEqual(p, o)
		})
		if i < 0 {
			t.Fatalf("%v is no operation of the history, or not at this place", o)
		}
		next += i + 1
	}
	shows := func(part []Op) bool { return newShrinking(ops, v).shows(part) }
	if !shows(part) {
		t.Fatalf("what is left does not show %v:\n%v", v, History(part))
	}
	if slices.Contains(rules(History(part)), Malformed) {
		t.Fatalf("what is left makes no sense: %v", History(part))
	}
	for i, o := range part {
		had := ops[slices.IndexFunc(ops, func(p Op) bool { return p.ID == o.ID })].ContextIn
		if whole := slices.Clone(part); o.ContextIn != had {
			if whole[i].ContextIn = had; shows(whole) {
				t.Fatalf("%v need not have forgotten its context for %v", o, v)
			}
		}
		if slices.ContainsFunc(v.Ops, func(e Op) bool { return e.ID == o.ID }) {
			continue
		}
		if shows(slices.Delete(slices.Clone(part), i, i+1)) {
			t.Fatalf("%v could have been dropped for %v", o, v)
		}
	}
}

// Dropping operations must not make up another violation: here y is what replaced x, and only z is lost.
func TestShrinkKeepsTheTruth(t *testing.T) {
	ops := []Op{
		put(0, "a", "x", Fresh, "1"),
		put(10, "b", "z", Fresh, "2"),
		put(20, "a", "y", "1", "3"),
		final(with(get(30, "c", "3", "y"), func(o *Op) { o.Strict = false })),
	}
	r := History(ops)
	if len(r.Violations) != 1 {
		t.Fatal(r)
	}
	// x has to stay, since y sent the context that came with it, and so does y, which the final read shows.
	if got := Shrink(ops, r.Violations[0]); len(got) != 4 {
		t.Errorf("shrank to %v", got)
	}
	other := r.Violations[0]
	other.Rule = Zombie
	if got := Shrink(ops, other); len(got) != len(ops) {
		t.Errorf("what the history does not break shrank to %v", got)
	}
}
