package vclock

import (
	"cmp"
	"slices"
)

// Actor identifies one store incarnation: a random 64-bit id minted for a new data directory and at every start that was
// not preceded by a clean stop. It is never a node name and never a client, so that a dot is never issued twice
// ("Dotted Version Vectors", Preguiça et al. 2010, section 4; riak_kv#679 is what happens otherwise).
type Actor uint64

// Dot names one write event: the Counter-th write of one key by Actor. Counters are per key and start at 1; the zero Dot
// names nothing.
type Dot struct {
	Actor   Actor
	Counter uint64
}

// Compare orders dots by actor, then counter: the canonical order of clocks.
func (d Dot) Compare(o Dot) int {
	if c := cmp.Compare(d.Actor, o.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, o.Counter)
}

// Clock is a set of dots: a version vector (for each actor, every counter from 1 up to the entry) and a cloud of single
// dots beyond it that are not contiguous. Clocks are immutable values: every method returns a new one, and the slices
// may be shared. The zero Clock is the empty set. Safe for concurrent use.
//
// The representation is canonical: both slices are sorted, no vector entry is 0, and no cloud dot is covered by the
// vector or extends it by one. Equal sets therefore have equal representations and equal encodings.
type Clock struct {
	vector []Dot // per actor, all counters up to and including Counter
	cloud  []Dot // dots with a gap before them
}

// Empty tells whether the clock holds no dot.
func (c Clock) Empty() bool { return len(c.vector) == 0 && len(c.cloud) == 0 }

// Len is the number of entries (vector plus cloud): what its encoding costs.
func (c Clock) Len() int { return len(c.vector) + len(c.cloud) }

// base is the highest counter of a up to which there is no gap, 0 where there is none.
func (c Clock) base(a Actor) uint64 {
	if i, found := find(c.vector, a); found {
		return c.vector[i].Counter
	}
	return 0
}

// find is a's place in a sorted vector, and whether it has an entry there.
func find(vector []Dot, a Actor) (int, bool) {
	low, high := 0, len(vector)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if vector[mid].Actor < a {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(vector) && vector[low].Actor == a
}

// Contains tells whether the clock has seen d.
func (c Clock) Contains(d Dot) bool {
	if d.Counter == 0 {
		return false
	}
	if d.Counter <= c.base(d.Actor) {
		return true
	}
	if len(c.cloud) == 0 {
		return false
	}
	_, found := slices.BinarySearchFunc(c.cloud, d, Dot.Compare)
	return found
}

// Covers tells whether c has seen every dot of o.
func (c Clock) Covers(o Clock) bool {
	mine := c.vector
	for _, d := range o.vector {
		for len(mine) > 0 && mine[0].Actor < d.Actor {
			mine = mine[1:]
		}
		// The counter that follows an entry is never in the cloud, so an entry that is lower lacks at least that one.
		if len(mine) == 0 || mine[0].Actor != d.Actor || mine[0].Counter < d.Counter {
			return false
		}
	}
	for _, d := range o.cloud {
		if !c.Contains(d) {
			return false
		}
	}
	return true
}

// Equal tells whether both clocks hold the same dots.
func (c Clock) Equal(o Clock) bool {
	return slices.Equal(c.vector, o.vector) && slices.Equal(c.cloud, o.cloud)
}

// Next is the counter that actor's next dot for this key has: one more than any counter the clock has seen from it.
func (c Clock) Next(a Actor) uint64 {
	n := c.base(a)
	for _, d := range c.cloud { // sorted, so the last one of an actor is its highest
		if d.Actor == a {
			n = d.Counter
		}
	}
	return n + 1
}

// highest is the highest counter of any actor.
func (c Clock) highest() uint64 {
	n := uint64(0)
	for _, dots := range [2][]Dot{c.vector, c.cloud} {
		for _, d := range dots {
			n = max(n, d.Counter)
		}
	}
	return n
}

// With returns the clock with d added.
func (c Clock) With(d Dot) Clock {
	switch {
	case d.Counter == 0 || c.Contains(d):
		return c
	case len(c.cloud) == 0 && d.Counter == c.base(d.Actor)+1:
		return Clock{vector: joinVectors(c.vector, []Dot{d})}
	}
	return normalise(c.vector, append(slices.Clone(c.cloud), d))
}

// Seen returns the clock with d and every earlier dot of its actor added.
func (c Clock) Seen(d Dot) Clock {
	if c.base(d.Actor) >= d.Counter {
		return c
	}
	return c.Join(Clock{vector: []Dot{d}})
}

// Join is the union of both clocks. It is commutative, associative and idempotent. It allocates only where neither
// covers the other.
func (c Clock) Join(o Clock) Clock {
	switch {
	case c.Covers(o):
		return c
	case o.Covers(c):
		return o
	case len(c.cloud) == 0 && len(o.cloud) == 0:
		return Clock{vector: joinVectors(c.vector, o.vector)}
	}
	return normalise(joinVectors(c.vector, o.vector), append(slices.Clone(c.cloud), o.cloud...))
}

// Dots calls yield for each entry of the clock: first the vector (each entry standing for all counters up to its own),
// then the cloud. For display only.
func (c Clock) Dots(yield func(d Dot, contiguous bool) bool) {
	for _, d := range c.vector {
		if !yield(d, true) {
			return
		}
	}
	for _, d := range c.cloud {
		if !yield(d, false) {
			return
		}
	}
}

// joinVectors merges two sorted vectors, keeping the higher counter of each actor.
func joinVectors(a, b []Dot) []Dot {
	out := make([]Dot, 0, max(len(a), len(b))+1)
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Actor < b[0].Actor:
			out, a = append(out, a[0]), a[1:]
		case a[0].Actor > b[0].Actor:
			out, b = append(out, b[0]), b[1:]
		default:
			out = append(out, Dot{a[0].Actor, max(a[0].Counter, b[0].Counter)})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// normalise folds a cloud (in any order, with repeats; its array is reused) into a sorted vector wherever gaps close. The
// vector is copied before it is changed.
func normalise(vector, cloud []Dot) Clock {
	slices.SortFunc(cloud, Dot.Compare)
	cloud = slices.Compact(cloud)
	owned := false
	keep := cloud[:0]
	for _, d := range cloud {
		i, found := find(vector, d.Actor)
		base := uint64(0)
		if found {
			base = vector[i].Counter
		}
		switch {
		case d.Counter <= base:
			continue
		case d.Counter == base+1:
			if !owned {
				vector, owned = slices.Clone(vector), true
			}
			if found {
				vector[i].Counter = d.Counter
			} else {
				vector = slices.Insert(vector, i, d)
			}
		default:
			keep = append(keep, d)
		}
	}
	if len(keep) == 0 {
		keep = nil
	}
	return Clock{vector: vector, cloud: keep}
}
