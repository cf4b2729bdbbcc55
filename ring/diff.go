package ring

import "slices"

// Move is one partition whose owners change.
type Move struct {
	Partition    int
	Gained, Lost []NodeID // in preference order of the new and of the old layout
}

// Diff lists the partitions whose first n owners are not the same members in two layouts of one cluster, by partition. A
// change of their order alone is none. Where old is nil, or has another number of partitions, everything is gained.
func Diff(old, new *Layout, n int) []Move {
	var moves []Move
	for p := range new.partitions {
		m := Move{Partition: p}
		var before []NodeID
		if old != nil && old.partitions == new.partitions {
			before = old.Owners(p, n)
		}
		after := new.Owners(p, n)
		m.Gained = without(after, before)
		m.Lost = without(before, after)
		if len(m.Gained)+len(m.Lost) > 0 {
			moves = append(moves, m)
		}
	}
	return moves
}

func without(ids, taken []NodeID) []NodeID {
	var out []NodeID
	for _, id := range ids {
		if !slices.Contains(taken, id) {
			out = append(out, id)
		}
	}
	return out
}
