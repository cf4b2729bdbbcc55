package ring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// testMembers makes members n0, n1, … in zones z0, z1, …, with weights 1 to heaviest.
func testMembers(seed uint64, count, zones, heaviest int) []Member {
	r := rand.New(rand.NewPCG(seed, 0))
	var members []Member
	for i := range count {
		members = append(members, testMember(r, i, fmt.Sprintf("z%d", i%zones), 1+r.IntN(heaviest)))
	}
	return members
}

func mustFirst(t testing.TB, partitions int, members []Member) *Layout {
	t.Helper()
	l, err := First("c", partitions, members)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustNext(t testing.TB, l *Layout, members []Member) *Layout {
	t.Helper()
	next, err := l.Next(members)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAccessors(t *testing.T) {
	members := testMembers(1, 5, 2, 3)
	l, err := First("random identity", 64, members)
	if err != nil {
		t.Fatal(err)
	}
	if l.Version() != 1 || l.Cluster() != "random identity" || l.Partitions() != 64 || len(l.Members()) != 5 {
		t.Errorf("version %d, cluster %q, %d partitions, %d members", l.Version(), l.Cluster(), l.Partitions(), len(l.Members()))
	}
	if !slices.IsSortedFunc(l.Members(), func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
		t.Error("members are not sorted by id")
	}
	for _, want := range members {
		if got, ok := l.Member(want.ID); !ok || got != want {
			t.Errorf("member %s: got %v, %v", want.Name, got, ok)
		}
	}
	if got, ok := l.Member("nobody"); ok {
		t.Errorf("found %v for an id that is no member", got)
	}
	for p := range 64 {
		for n := 1; n <= 7; n++ {
			owners := l.Owners(p, n)
			if got, want := owners, l.Preference(p)[:min(n, 5)]; !slices.Equal(got, want) {
				t.Fatalf("partition %d, n=%d: owners %v, want %v", p, n, got, want)
			}
			for _, m := range members {
				if got, want := l.Owns(m.ID, p, n), slices.Contains(owners, m.ID); got != want {
					t.Fatalf("partition %d, n=%d: %s owns it: %v, want %v", p, n, m.Name, got, want)
				}
			}
		}
	}
	next := mustNext(t, l, members[1:])
	if next.Version() != 2 || next.Cluster() != l.Cluster() || next.Partitions() != 64 || len(next.Members()) != 4 {
		t.Errorf("next: version %d, cluster %q, %d partitions, %d members", next.Version(), next.Cluster(), next.Partitions(), len(next.Members()))
	}
}

// The caller's slice stays the caller's.
func TestMembersAreCopied(t *testing.T) {
	members := testMembers(1, 4, 1, 1)
	slices.Reverse(members)
	kept := slices.Clone(members)
	l := mustFirst(t, 16, members)
	if !slices.Equal(members, kept) {
		t.Error("First reordered its argument")
	}
	hash := l.Hash()
	members[0].Name = "changed"
	if got := mustNext(t, l, kept); len(Diff(l, got, 7)) != 0 || l.Hash() != hash {
		t.Error("a change of the argument reached the layout")
	}
}

// Equal input gives equal layouts, in whatever order the members come.
func TestOrderOfMembersDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		members := testMembers(seed, rapid.IntRange(1, 15).Draw(t, "members"), rapid.IntRange(1, 4).Draw(t, "zones"), 5)
		shuffled := rapid.Permutation(members).Draw(t, "order")
		a, err := First("c", 32, members)
		if err != nil {
			t.Fatal(err)
		}
		b, err := First("c", 32, shuffled)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Equal(b) {
			t.Fatal("first layouts differ")
		}
		joiner := testMember(rand.New(rand.NewPCG(seed, 9)), 99, "z1", 2)
		a, err = a.Next(append(slices.Clone(members), joiner))
		if err != nil {
			t.Fatal(err)
		}
		b, err = b.Next(append([]Member{joiner}, shuffled...))
		if err != nil {
			t.Fatal(err)
		}
		if !a.Equal(b) {
			t.Fatal("next layouts differ")
		}
	})
}

// Who changes nothing moves nothing; and the version still counts.
func TestNextWithTheSameMembers(t *testing.T) {
	for _, count := range []int{1, 2, 3, 12, 40} {
		l := mustFirst(t, 128, testMembers(3, count, 3, 4))
		next := mustNext(t, l, l.Members())
		for n := 1; n <= 7; n++ {
			if got := Diff(l, next, n); len(got) != 0 {
				t.Errorf("%d members, n=%d: %d partitions move, want none", count, n, len(got))
			}
		}
	}
}

func TestLimits(t *testing.T) {
	good := func() []Member { return testMembers(1, 3, 1, 1) }
	with := func(change func(m *Member)) []Member {
		members := good()
		change(&members[1])
		return members
	}
	tests := map[string]struct {
		cluster    string
		partitions int
		members    []Member
		want       string // in the error; "" = fine
	}{
		"fine":             {"c", 256, good(), ""},
		"one partition":    {"c", 1, good(), ""},
		"most partitions":  {"c", MaxPartitions, good(), ""},
		"no partitions":    {"c", 0, good(), "0 partitions"},
		"negative":         {"c", -4, good(), "-4 partitions"},
		"no power of two":  {"c", 100, good(), "power of two"},
		"many partitions":  {"c", 2 * MaxPartitions, good(), "131072 partitions"},
		"no cluster":       {"", 256, good(), "cluster identity"},
		"long cluster":     {strings.Repeat("c", 65), 256, good(), "cluster identity"},
		"no members":       {"c", 256, nil, "0 members"},
		"many members":     {"c", 1, testMembers(1, 1001, 1, 1), "1001 members"},
		"many slots":       {"c", 65536, testMembers(1, 65, 1, 1), "at most 64 members"},
		"short id":         {"c", 256, with(func(m *Member) { m.ID = m.ID[1:] }), "hexadecimal"},
		"upper-case id":    {"c", 256, with(func(m *Member) { m.ID = "A" + m.ID[1:] }), "hexadecimal"},
		"id twice":         {"c", 256, with(func(m *Member) { m.ID = good()[0].ID }), "there twice"},
		"no name":          {"c", 256, with(func(m *Member) { m.Name = "" }), "name"},
		"longest name":     {"c", 256, with(func(m *Member) { m.Name = strings.Repeat("n", 64) }), ""},
		"long name":        {"c", 256, with(func(m *Member) { m.Name = strings.Repeat("n", 65) }), "name"},
		"name not UTF-8":   {"c", 256, with(func(m *Member) { m.Name = "\xff" }), "UTF-8"},
		"name twice":       {"c", 256, with(func(m *Member) { m.Name = "n0" }), "same name"},
		"no zone":          {"c", 256, with(func(m *Member) { m.Zone = "" }), ""},
		"long zone":        {"c", 256, with(func(m *Member) { m.Zone = strings.Repeat("z", 65) }), "zone"},
		"no weight":        {"c", 256, with(func(m *Member) { m.Weight = 0 }), "weight 0"},
		"most weight":      {"c", 256, with(func(m *Member) { m.Weight = 1000 }), ""},
		"more than weight": {"c", 256, with(func(m *Member) { m.Weight = 1001 }), "weight 1001"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, err := First(test.cluster, test.partitions, test.members)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkSpread(t, l)
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if base := mustFirst(t, 256, good()); test.partitions == 256 && test.cluster == "c" {
				if _, err := base.Next(test.members); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("next: got %v, want an error with %q", err, test.want)
				}
			}
		})
	}
}

// The placement of three small clusters, pinned. Nodes of different builds and processors must agree on it, so a change here
// breaks clusters that are running.
func TestPlacementIsPinned(t *testing.T) {
	members := testMembers(42, 8, 3, 4)
	a := mustFirst(t, 16, members[:7])
	b := mustNext(t, a, members)
	c := mustNext(t, b, members[2:])
	got := fmt.Sprintf("%016x %016x %016x %016x", a.Hash(), b.Hash(), c.Hash(), Digest(fmt.Append(nil, a.preference, b.preference, c.preference)))
	if want := "9bd42af7893cfe0d f4fdfc6c587727b1 7f4f395e721c4b19 19af31948b470f17"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPreferenceDoesNotAllocate(t *testing.T) {
	l := mustFirst(t, 256, testMembers(1, 12, 3, 1))
	token := uint64(0)
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		token += 0x9e3779b97f4a7c15
		p := l.Partition(token)
		n += len(l.Preference(p)) + len(l.Owners(p, 3))
		if l.Owns(l.Members()[0].ID, p, 3) {
			n++
		}
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func BenchmarkPreference(b *testing.B) {
	l := mustFirst(b, 256, testMembers(1, 12, 3, 1))
	b.ReportAllocs()
	token := uint64(0)
	for b.Loop() {
		token += 0x9e3779b97f4a7c15
		if len(l.Owners(l.Partition(token), 3)) != 3 {
			b.Fatal("owners missing")
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, count := range []int{3, 12, 100} {
		b.Run(fmt.Sprintf("%dmembers", count), func(b *testing.B) {
			members := testMembers(1, count+1, 3, 1)
			l := mustFirst(b, 256, members[:count])
			for b.Loop() {
				mustNext(b, l, members)
			}
		})
	}
}
