package vclock

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawn(t *rapid.T) func(n int) int {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
}

// Every state that a history reaches is exactly what the model of full causal histories says, at every step.
func TestHistoriesKeepExactlyTheMaximalSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := newHistory(genuine(), drawn(t)).run(rapid.IntRange(1, 60).Draw(t, "steps")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestManySeededHistories(t *testing.T) {
	for seed := range uint64(2000) {
		if err := newHistory(genuine(), rand.New(rand.NewPCG(seed, 1)).IntN).run(40); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// The model must be strong enough to find the classic mistakes. Each variant here has one of them.
func TestHistoriesCatchPlantedBugs(t *testing.T) {
	flatten := func(c Clock) Clock {
		v := slices.Clone(c.vector)
		for _, d := range c.cloud {
			v = joinVectors(v, []Dot{d})
		}
		return Clock{vector: v}
	}
	bugs := map[string]func(*system){
		"cloud flattened into the vector": func(s *system) {
			s.putToken = func(ctx Context, d Dot, time uint64, _ Object) Context {
				out := ctx.With(d, time)
				out.Clock = flatten(out.Clock)
				return out
			}
		},
		"PUT token covers siblings that were not shown": func(s *system) {
			s.putToken = func(_ Context, _ Dot, _ uint64, after Object) Context { return after.Context() }
		},
		"put drops what the replica holds in spite of a context": func(s *system) {
			s.put = func(o Object, a Actor, ctx Clock, w Sibling) (Object, Dot) { return o.Put(a, o.Clock.Join(ctx), w) }
		},
		"put keeps what the context covers": func(s *system) {
			s.put = func(o Object, a Actor, ctx Clock, w Sibling) (Object, Dot) {
				out, d := o.Put(a, Clock{}, w)
				out.Clock = out.Clock.Join(ctx)
				return out, d
			}
		},
		"merge ignores what the other side has replaced": func(s *system) {
			s.merge = func(a, b Object) Object {
				out := Object{Clock: a.Clock.Join(b.Clock), Siblings: slices.Clone(a.Siblings)}
				for _, w := range b.Siblings {
					if !a.holds(w.Dot) {
						out.Siblings = append(out.Siblings, w)
					}
				}
				slices.SortFunc(out.Siblings, compareNewest)
				return out
			}
		},
		"last writer wins": func(s *system) {
			s.merge = func(a, b Object) Object { return Merge(a, b).LastWriter() }
		},
		"dot reused after a loss of state": func(s *system) {
			s.restart = func(old, _ Actor) Actor { return old }
		},
	}
	for name, plant := range bugs {
		t.Run(name, func(t *testing.T) {
			const seeds = 300
			caught := 0
			for seed := range uint64(seeds) {
				sys := genuine()
				plant(&sys)
				if newHistory(sys, rand.New(rand.NewPCG(seed, 2)).IntN).run(40) != nil {
					caught++
				}
			}
			t.Logf("caught in %d of %d histories", caught, seeds)
			if caught < seeds/20 {
				t.Errorf("the model caught it in %d of %d histories", caught, seeds)
			}
		})
	}
}

// A context that is cut down to what was shown, because it would not fit a token, may leave a stale sibling for a while,
// but loses nothing, and the replicas end with exactly the same maximal set.
func TestCutContextsLoseNothing(t *testing.T) {
	for seed := range uint64(2000) {
		limit := 25 + int(seed%3)*10 // bytes: one to three entries
		h := newHistory(genuine(), rand.New(rand.NewPCG(seed, 3)).IntN)
		h.sys.readToken = func(o Object) Context { return o.contextWithin(limit) }
		h.sys.putToken = func(ctx Context, d Dot, time uint64, _ Object) Context { return ctx.within(limit, d, time) }
		h.cut = true
		if err := h.run(40); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(genuine(), drawn(t))
		if err := h.run(rapid.IntRange(1, 40).Draw(t, "steps")); err != nil {
			t.Fatal(err)
		}
		h.seen = append(h.seen, Object{})
		one := rapid.SampledFrom(h.seen)
		a, b, c := one.Draw(t, "a"), one.Draw(t, "b"), one.Draw(t, "c")
		sameBytes(t, "commutative", Merge(a, b), Merge(b, a))
		sameBytes(t, "associative", Merge(Merge(a, b), c), Merge(a, Merge(b, c)))
		sameBytes(t, "idempotent", Merge(a, a), a)
		sameBytes(t, "absorbing", Merge(Merge(a, b), b), Merge(a, b))
		if m := Merge(a, b); !m.Clock.Covers(a.Clock) || !m.Clock.Covers(b.Clock) {
			t.Fatalf("the merge of %+v and %+v forgot a dot: %+v", a, b, m)
		}
		if a.State() == Live && b.State() == Live && Merge(a, b).State() != Live {
			t.Fatalf("two live objects merge into %v: %+v, %+v", Merge(a, b).State(), a, b)
		}
		// Decoding what was encoded changes nothing.
		e := AppendObject(nil, a)
		d, err := DecodeObject(e)
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "round trip", d, a)
		if len(e) > EncodedSize(a) {
			t.Fatalf("encoded to %d bytes, the bound is %d", len(e), EncodedSize(a))
		}
	})
}

// With the last writer winning, every order of merges ends with the newest write of all.
func TestLastWriterIsTheNewestInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(genuine(), drawn(t))
		h.sys.put = func(o Object, a Actor, ctx Clock, s Sibling) (Object, Dot) {
			out, d := o.Put(a, ctx, s)
			return out.LastWriter(), d
		}
		h.sys.merge = func(a, b Object) Object { return Merge(a, b).LastWriter() }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			_ = h.step() // the model keeps siblings: its complaints are what this mode is for
		}
		if len(h.writes) == 0 {
			return
		}
		all := append(slices.Clone(h.replicas), h.mail...)
		known, newest := ids{}, write{}
		for _, s := range all {
			known = known.add(s.known)
		}
		for id := range known {
			if w := h.writes[id]; w.time > newest.time || w.time == newest.time && w.dot.Compare(newest.dot) > 0 {
				newest = w
			}
		}
		for range 4 {
			var got Object
			for _, i := range rapid.Permutation(order(len(all))).Draw(t, "order") {
				got = h.sys.merge(got, all[i].object)
			}
			if len(known) == 0 {
				continue
			}
			if len(got.Siblings) != 1 || got.Siblings[0].Dot != newest.dot {
				t.Fatalf("the winner is %+v, want only %v", got.Siblings, newest.dot)
			}
		}
	})
}

func order(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
