package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestDiffOfLeave(t *testing.T) {
	members := testMembers(1, 4, 1, 1)
	old := mustFirst(t, 64, members)
	next := mustNext(t, old, members[1:])
	for _, m := range Diff(old, next, 3) {
		if got, want := m.Lost, []NodeID{members[0].ID}; !slices.Equal(got, want) {
			t.Errorf("partition %d: lost by %v, want %v", m.Partition, got, want)
		}
		if len(m.Gained) != 1 || old.Owns(m.Gained[0], m.Partition, 3) {
			t.Errorf("partition %d: gained by %v", m.Partition, m.Gained)
		}
	}
	if got, want := len(Diff(old, next, 3)), slots(old, 3)[members[0].ID]; got != want {
		t.Errorf("%d partitions move, want %d", got, want)
	}
}

func TestDiffOfEqualOwners(t *testing.T) {
	l := mustFirst(t, 64, testMembers(1, 3, 1, 1))
	if got := Diff(l, l, 3); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
	again := mustNext(t, l, l.Members())
	again.preference = slices.Clone(again.preference)
	again.preference[5] = slices.Clone(again.preference[5])
	slices.Reverse(again.preference[5])
	if got := Diff(l, again, 3); got != nil {
		t.Errorf("another order of the same owners: got %v, want nothing", got)
	}
	if got := Diff(l, again, 1); len(got) != 1 || got[0].Partition != 5 {
		t.Errorf("another first owner: got %v, want partition 5", got)
	}
}

// Without a layout before, or with another number of partitions, everything is gained.
func TestDiffOfNothing(t *testing.T) {
	members := testMembers(1, 4, 1, 1)
	l := mustFirst(t, 16, members)
	for _, old := range []*Layout{nil, mustFirst(t, 32, members)} {
		moves := Diff(old, l, 2)
		if got, want := len(moves), 16; got != want {
			t.Fatalf("%d moves, want %d", got, want)
		}
		for p, m := range moves {
			if m.Partition != p || !slices.Equal(m.Gained, l.Owners(p, 2)) || m.Lost != nil {
				t.Errorf("got %+v", m)
			}
		}
	}
}

// Old owners without the lost and with the gained ones are the new owners.
func TestDiffLeadsFromOldToNew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := drawLayout(t)
		members := append(slices.Clone(old.Members()[1:]), Member{ID: "ffffffffffffffffffffffffffffffff", Name: "newcomer", Zone: "z0", Weight: 1})
		next, err := old.Next(members)
		if err != nil {
			t.Fatal(err)
		}
		n := rapid.IntRange(1, 7).Draw(t, "n")
		moves := Diff(old, next, n)
		for p := range old.Partitions() {
			owners := slices.Clone(old.Owners(p, n))
			if len(moves) > 0 && moves[0].Partition == p {
				owners = append(without(owners, moves[0].Lost), moves[0].Gained...)
				moves = moves[1:]
			}
			want := slices.Clone(next.Owners(p, n))
			slices.Sort(owners)
			slices.Sort(want)
			if !slices.Equal(owners, want) {
				t.Fatalf("partition %d: got %v, want %v", p, owners, want)
			}
		}
		if len(moves) > 0 {
			t.Fatalf("moves left: %v", moves)
		}
	})
}
