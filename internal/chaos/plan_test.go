package chaos

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// mostDown is the largest number of nodes that are down at one time in a round.
func mostDown(r Round) int {
	most := 0
	for _, at := range r.Faults { // it can only rise where a fault begins
		down := 0
		for _, f := range r.Faults {
			if f.After <= at.After && at.After < f.After+f.For {
				down++
			}
		}
		most = max(most, down)
	}
	return most
}

// Whatever the seed: gentle plans break one node at a time, harsh ones any number; no node breaks twice in a round, every fault
// ends, and every node gets its turn.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]Level{Gentle, Harsh}).Draw(t, "level")
		least := map[Level]int{Gentle: 3, Harsh: 1}[level]
		nodes := rapid.IntRange(least, 9).Draw(t, "nodes")
		every := time.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(time.Minute)).Draw(t, "every"))
		seed := rapid.Uint64().Draw(t, "seed")
		p, err := NewPlan(level, nodes, every, seed)
		if err != nil {
			t.Fatal(err)
		}
		turns := make([]int, nodes)
		for range 20 * nodes {
			r := p.Next()
			if r.Wait < 0 || r.Wait > 2*every {
				t.Fatalf("waits %v with a fault every %v", r.Wait, every)
			}
			if level == Gentle && mostDown(r) != 1 {
				t.Fatalf("%d nodes are down at once: %+v", mostDown(r), r)
			}
			var seen []int
			for _, f := range r.Faults {
				if f.Node < 0 || f.Node >= nodes || slices.Contains(seen, f.Node) {
					t.Fatalf("node %d of %d, after %v: %+v", f.Node, nodes, seen, r)
				}
				if f.For < every/8 || f.For > every+every/4 || f.After < 0 || !slices.Contains(ways, f.What) {
					t.Fatalf("fault %+v with a fault every %v", f, every)
				}
				seen = append(seen, f.Node)
				turns[f.Node]++
			}
			if most := slices.Max(turns); len(seen) == 1 && level == Gentle && most > slices.Min(turns)+1 {
				t.Fatalf("a node comes again before each had its turn: %v", turns)
			}
		}
		if slices.Max(turns) > slices.Min(turns)+2 {
			t.Fatalf("some nodes break more than others: %v", turns)
		}
	})
}

// The same seed gives the same plan, another seed another one.
func TestPlanFollowsFromItsSeed(t *testing.T) {
	rounds := func(seed uint64) (out []Round) {
		p, err := NewPlan(Harsh, 5, time.Second, seed)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			out = append(out, p.Next())
		}
		return out
	}
	equal := func(a, b []Round) bool {
		return slices.EqualFunc(a, b, func(a, b Round) bool { return a.Wait == b.Wait && slices.Equal(a.Faults, b.Faults) })
	}
	if !equal(rounds(7), rounds(7)) {
		t.Error("two plans of one seed differ")
	}
	if equal(rounds(7), rounds(8)) {
		t.Error("plans of two seeds are equal")
	}
}

// Over many rounds faults come as often as they should, in every way; harsh plans break two of three, and all at one instant.
func TestPlanMixes(t *testing.T) {
	for _, level := range []Level{Gentle, Harsh} {
		p, err := NewPlan(level, 3, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		const rounds = 2000
		var total time.Duration
		used, most := map[What]int{}, map[int]int{}
		together := 0
		for range rounds {
			r := p.Next()
			end := time.Duration(0)
			for _, f := range r.Faults {
				used[f.What]++
				end = max(end, f.After+f.For)
			}
			most[mostDown(r)]++
			if len(r.Faults) == 3 && r.Faults[0].After == r.Faults[1].After && r.Faults[1].After == r.Faults[2].After {
				together++
			}
			total += r.Wait + end
		}
		if got := total / rounds; level == Gentle && (got < DefaultEvery*9/10 || got > DefaultEvery*11/10) {
			t.Errorf("a fault every %v, want about %v", got, DefaultEvery)
		}
		for _, w := range ways {
			if used[w] < rounds/6 {
				t.Errorf("%s: %d of %d rounds are %q", level, used[w], rounds, w)
			}
		}
		want := map[Level][]int{Gentle: {1}, Harsh: {1, 2, 3}}[level]
		for n := 1; n <= 3; n++ {
			if got, want := most[n] > rounds/20, slices.Contains(want, n); got != want {
				t.Errorf("%s: %d nodes down at once in %d of %d rounds", level, n, most[n], rounds)
			}
		}
		if (together > rounds/10) != (level == Harsh) {
			t.Errorf("%s: all at one instant in %d of %d rounds", level, together, rounds)
		}
	}
}

func TestPlanRejects(t *testing.T) {
	for _, test := range []struct {
		level Level
		nodes int
		every time.Duration
	}{
		{"wild", 3, 0}, {Gentle, 2, 0}, {"", 1, 0}, {Harsh, 0, 0}, {Harsh, 3, -1},
	} {
		if _, err := NewPlan(test.level, test.nodes, test.every, 1); err == nil {
			t.Errorf("%+v: no error", test)
		}
	}
}
