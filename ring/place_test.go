package ring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// testMember makes a member whose id is drawn from r.
func testMember(r *rand.Rand, i int, zone string, weight int) Member {
	return Member{ID: NodeID(fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())), Name: fmt.Sprintf("n%d", i), Zone: zone, Weight: weight}
}

// fairShares computes, apart from the code under test, what each member is entitled to: the slots by weight, as far as no
// member gets more than one replica of a partition and each zone stays within what the spread over zones leaves it.
// Within these limits the level of water, slots per weight, is one for all.
func fairShares(members []Member, partitions, n int) map[NodeID]float64 {
	zones := map[string][]Member{}
	for _, m := range members {
		zones[m.Zone] = append(zones[m.Zone], m)
	}
	n = min(n, len(members))
	p := float64(partitions)
	filled := func(ms []Member, level float64) float64 {
		sum := 0.0
		for _, m := range ms {
			sum += math.Min(p, level*float64(m.Weight))
		}
		return sum
	}
	limits := func(ms []Member) (lo, hi float64) {
		if n >= len(zones) {
			return p, p * float64(min(len(ms), 1+n-len(zones)))
		}
		return 0, p
	}
	bisect := func(reached func(level float64) bool) float64 {
		lo, hi := 0.0, 2*p
		for range 100 {
			if mid := (lo + hi) / 2; reached(mid) {
				hi = mid
			} else {
				lo = mid
			}
		}
		return hi
	}
	level := bisect(func(level float64) bool {
		sum := 0.0
		for _, ms := range zones {
			lo, hi := limits(ms)
			sum += math.Min(hi, math.Max(lo, filled(ms, level)))
		}
		return sum >= p*float64(n)*(1-1e-12)
	})
	fair := map[NodeID]float64{}
	for _, ms := range zones {
		lo, hi := limits(ms)
		at, want := level, math.Min(hi, math.Max(lo, filled(ms, level)))
		if want != filled(ms, level) {
			at = bisect(func(level float64) bool { return filled(ms, level) >= want*(1-1e-12) })
		}
		for _, m := range ms {
			fair[m.ID] = math.Min(p, at*float64(m.Weight))
		}
	}
	return fair
}

func slots(l *Layout, n int) map[NodeID]int {
	held := map[NodeID]int{}
	for p := range l.Partitions() {
		for _, id := range l.Owners(p, n) {
			held[id]++
		}
	}
	return held
}

// excess is how far the worst member is above its fair share: as a factor, where that is by more than one slot.
func excess(l *Layout, n int) float64 {
	worst := 1.0
	held := slots(l, n)
	for id, fair := range fairShares(l.Members(), l.Partitions(), n) {
		if float64(held[id]) > fair+1+1e-6 {
			worst = max(worst, float64(held[id])/fair)
		}
	}
	return worst
}

func moved(old, new *Layout, n int) int {
	total := 0
	for _, m := range Diff(old, new, n) {
		total += len(m.Gained)
	}
	return total
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkSpread checks what holds for every replica count: each list has all members once, and the first n are in as many
// zones as there are.
func checkSpread(t fataler, l *Layout) {
	t.Helper()
	zones := map[string]bool{}
	for _, m := range l.Members() {
		zones[m.Zone] = true
	}
	for p := range l.Partitions() {
		list := l.Preference(p)
		if got, want := len(list), len(l.Members()); got != want {
			t.Fatalf("partition %d: %d members in the preference list, want %d", p, got, want)
		}
		seen, met := map[NodeID]bool{}, map[string]bool{}
		for k, id := range list {
			m, ok := l.Member(id)
			if !ok || seen[id] {
				t.Fatalf("partition %d: %s at place %d is there twice or no member", p, id, k)
			}
			seen[id], met[m.Zone] = true, true
			if got, want := len(met), min(k+1, len(zones)); got != want {
				t.Fatalf("partition %d: the first %d are in %d zones, want %d", p, k+1, got, want)
			}
		}
	}
}

func checkBalance(t fataler, l *Layout, n int) {
	t.Helper()
	if got := excess(l, n); got > 1.1 {
		t.Fatalf("layout %d, %d members, n=%d: a member holds %.3f times its fair share", l.Version(), len(l.Members()), n, got)
	}
}

// The requirement: at 3, 5, 12, 30 and 100 members, with equal and unequal weights, in 1 to 3 zones.
func TestPlacement(t *testing.T) {
	weights := map[string]func(r *rand.Rand) int{
		"equal":   func(*rand.Rand) int { return 1 },
		"unequal": func(r *rand.Rand) int { return 1 + r.IntN(4) },
		"extreme": func(r *rand.Rand) int { return []int{1, 10, 100, 1000}[r.IntN(4)] },
	}
	for _, count := range []int{3, 5, 12, 30, 100} {
		for zones := 1; zones <= 3; zones++ {
			for name, weight := range weights {
				t.Run(fmt.Sprintf("%d/%dzones/%s", count, zones, name), func(t *testing.T) {
					t.Parallel()
					for seed := range uint64(4) {
						r := rand.New(rand.NewPCG(seed, uint64(count*10+zones)))
						even := seed%2 == 0 // else zones of random sizes
						zone := func(i int) string {
							if even || i < zones {
								return fmt.Sprintf("z%d", i%zones)
							}
							return fmt.Sprintf("z%d", r.IntN(zones))
						}
						var members []Member
						for i := range count {
							members = append(members, testMember(r, i, zone(i), weight(r)))
						}
						joinAndLeave(t, r, members, testMember(r, count, zone(count), weight(r)))
					}
				})
			}
		}
	}
}

// joinAndLeave checks a first layout, the join of one member, and from both the leave of one.
func joinAndLeave(t *testing.T, r *rand.Rand, members []Member, joiner Member) {
	first, err := First("c", 256, members)
	if err != nil {
		t.Fatal(err)
	}
	joined, err := first.Next(append(slices.Clone(members), joiner))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Layout{first, joined} {
		checkSpread(t, l)
		checkBalance(t, l, 3)
	}
	checkMoved(t, "join", first, joined, slots(joined, 3)[joiner.ID])
	for _, from := range []*Layout{first, joined} {
		at := r.IntN(len(from.Members()))
		leaver := from.Members()[at]
		left, err := from.Next(slices.Delete(slices.Clone(from.Members()), at, at+1))
		if err != nil {
			t.Fatal(err)
		}
		checkSpread(t, left)
		checkBalance(t, left, 3)
		if len(left.Members()) >= 3 { // else there are fewer slots
			checkMoved(t, "leave", from, left, slots(from, 3)[leaver.ID])
		}
	}
}

// checkMoved checks that at most 1.3 times the least number of slots moved, or one slot more than that number.
func checkMoved(t fataler, what string, old, new *Layout, least int) {
	t.Helper()
	if got := moved(old, new, 3); float64(got) > max(1.3*float64(least), float64(least)+1) {
		t.Fatalf("%s at %d members: %d slots moved, the least is %d", what, len(old.Members()), got, least)
	}
}

// Any members, any number of partitions, a long history of changes.
func TestPlacementHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		partitions := 1 << rapid.IntRange(0, 8).Draw(t, "partition bits")
		zones := rapid.IntRange(1, 5).Draw(t, "zones")
		heaviest := rapid.SampledFrom([]int{1, 4, MaxWeight}).Draw(t, "heaviest")
		made := 0
		fresh := func() Member {
			made++
			return testMember(r, made, fmt.Sprintf("z%d", r.IntN(zones)), 1+r.IntN(heaviest))
		}
		var members []Member
		for range rapid.IntRange(1, 20).Draw(t, "members") {
			members = append(members, fresh())
		}
		l, err := First("c", partitions, members)
		if err != nil {
			t.Fatal(err)
		}
		checkSpread(t, l)
		checkBalance(t, l, 3)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			members = slices.Clone(l.Members())
			at := r.IntN(len(members))
			switch rapid.SampledFrom([]string{"join", "leave", "replace", "weight", "zone", "many"}).Draw(t, "change") {
			case "join":
				members = append(members, fresh())
			case "leave":
				if len(members) > 1 {
					members = slices.Delete(members, at, at+1)
				}
			case "replace":
				id := fresh()
				members[at].ID, members[at].Name = id.ID, id.Name
			case "weight":
				members[at].Weight = 1 + r.IntN(heaviest)
			case "zone":
				members[at].Zone = fmt.Sprintf("z%d", r.IntN(zones+1))
			case "many":
				members = append(members[at/2:], fresh(), fresh(), fresh())
			}
			next, err := l.Next(members)
			if err != nil {
				t.Fatal(err)
			}
			checkSpread(t, next)
			checkBalance(t, next, 3)
			l = next
		}
	})
}

// With as many members as replicas, or fewer, everybody owns everything; a member far heavier than the others is cut to one
// replica of each partition.
func TestSharesAreCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	heavy := []Member{testMember(r, 0, "", 1000), testMember(r, 1, "", 1), testMember(r, 2, "", 1), testMember(r, 3, "", 2)}
	l, err := First("c", 256, heavy)
	if err != nil {
		t.Fatal(err)
	}
	held := slots(l, 3)
	got := []int{held[heavy[0].ID], held[heavy[1].ID], held[heavy[2].ID], held[heavy[3].ID]}
	if want := []int{256, 128, 128, 256}; !slices.Equal(got, want) {
		t.Errorf("slots %v, want %v", got, want)
	}
}

// Every prefix of the preference lists that can own partitions is balanced too, not only the default n; moving as little
// as possible is best effort there.
func TestBalanceOfEveryN(t *testing.T) {
	for _, count := range []int{3, 5, 12, 30, 100} {
		for zones := 1; zones <= 3; zones++ {
			r := rand.New(rand.NewPCG(7, uint64(count)))
			var members []Member
			for i := range count {
				members = append(members, testMember(r, i, fmt.Sprintf("z%d", i%zones), 1))
			}
			joiner := testMember(r, count, "z0", 1)
			first, err := First("c", 256, members)
			if err != nil {
				t.Fatal(err)
			}
			next, err := first.Next(append(members, joiner))
			if err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= tableDepth; n++ {
				t.Logf("%3d members, %d zones, n=%d: excess %.3f, after a join %.3f with %d slots moved for %d",
					count, zones, n, excess(first, n), excess(next, n), moved(first, next, n), slots(next, n)[joiner.ID])
				checkBalance(t, first, n)
				checkBalance(t, next, n)
			}
		}
	}
}
