package vclock

import (
	"cmp"
	"slices"

	"github.com/rondodb/rondo/internal/plant"
)

// Sibling is one version of a key: a value, or a tombstone where it was deleted.
type Sibling struct {
	Dot         Dot
	Time        uint64 // hybrid logical timestamp of the write, nanoseconds since 1970
	Expiry      uint64 // hybrid logical time at which it ends, nanoseconds since 1970; 0 = never
	Tombstone   bool   // a delete; Value and ContentType are empty
	ContentType string
	Value       []byte // the bytes as they were sent; may alias the buffer it was decoded from
}

// Expired tells whether the version has ended by now (nanoseconds since 1970). From then on readers take it for a tombstone.
func (s *Sibling) Expired(now uint64) bool { return s.Expiry != 0 && now >= s.Expiry }

// compareNewest orders siblings newest first: by time, then by dot, so that every node shows one order.
func compareNewest(a, b Sibling) int {
	if c := cmp.Compare(b.Time, a.Time); c != 0 {
		return c
	}
	return b.Dot.Compare(a.Dot)
}

// Object is all a replica knows of one key: a dotted version vector set ("Scalable and Accurate Causality Tracking for
// Eventually Consistent Stores", Gonçalves et al. 2014, sections 3 and 4). Clock holds every dot that was ever seen;
// a dot in Clock without a sibling is a version that was replaced. The zero Object is a key never written: not-found is an
// empty object, never an error. Objects are immutable values; methods share slices with their receivers.
type Object struct {
	Clock    Clock
	Siblings []Sibling // newest first
}

// State says what an object holds, as far as listing keys is concerned.
type State uint8

// The states of an object. A merge of objects that are all Live is Live; Mixed objects must be read to be known.
const (
	Absent  State = iota // never written
	Live                 // every sibling is a value
	Deleted              // every sibling is a tombstone
	Mixed                // values and tombstones
)

// String names the state as logs and JSON do.
func (s State) String() string {
	return [...]string{"absent", "live", "deleted", "mixed"}[s&3]
}

// Empty tells whether the key was never written, as far as this object knows.
func (o Object) Empty() bool { return o.Clock.Empty() && len(o.Siblings) == 0 }

// State tells which kinds of siblings the object holds, expired or not.
func (o Object) State() State { return o.StateAt(0) }

// StateAt is the state at a time (nanoseconds since 1970): a value that has expired by then counts as a tombstone.
func (o Object) StateAt(now uint64) State {
	live, dead := false, false
	for i := range o.Siblings {
		if o.Siblings[i].Tombstone || o.Siblings[i].Expired(now) {
			dead = true
		} else {
			live = true
		}
	}
	switch {
	case live && dead:
		return Mixed
	case live:
		return Live
	case dead || !o.Clock.Empty():
		return Deleted
	}
	return Absent
}

// Collectable tells whether the object needs nothing more but time to be worth nothing: each sibling is a tombstone, or a value that
// expires. at is the hybrid time from which that is so; whoever knows that all versions up to it are everywhere may drop the object.
func (o Object) Collectable() (at uint64, ok bool) {
	for i := range o.Siblings {
		s := &o.Siblings[i]
		if !s.Tombstone && s.Expiry == 0 {
			return 0, false
		}
		at = max(at, s.Time, s.Expiry)
	}
	return at, len(o.Siblings) > 0
}

// Values counts the siblings that are not tombstones: what a reader is shown.
func (o Object) Values() int {
	n := 0
	for i := range o.Siblings {
		if !o.Siblings[i].Tombstone {
			n++
		}
	}
	return n
}

// MaxTime is the newest timestamp among the siblings, 0 where there is none.
func (o Object) MaxTime() uint64 {
	if len(o.Siblings) == 0 {
		return 0
	}
	return o.Siblings[0].Time // newest first
}

// Put returns the object after a write by actor with causal context ctx, and the dot it minted: the siblings that ctx
// covers are gone, everything concurrent stays, and s is added under a new dot. The caller sets every field of s but Dot;
// s.Time must be greater than every timestamp of what it replaces (the object's and the context's).
func (o Object) Put(actor Actor, ctx Clock, s Sibling) (Object, Dot) {
	clock := o.Clock.Join(ctx)
	s.Dot = Dot{actor, clock.Next(actor)}
	out := Object{Clock: clock.With(s.Dot), Siblings: make([]Sibling, 0, len(o.Siblings)+1)}
	for _, old := range o.Siblings {
		if !ctx.Contains(old.Dot) {
			out.Siblings = append(out.Siblings, old)
		}
	}
	out.Siblings = append(out.Siblings, s)
	slices.SortFunc(out.Siblings, compareNewest)
	return out, s.Dot
}

// Merge joins what two replicas know. A sibling stays if both hold it, or if one holds it and the other has never seen its
// dot; one that the other has seen and no longer holds was replaced. Commutative, associative and idempotent. Where one side
// adds nothing to the other, that other is returned as it is, without allocating.
func Merge(a, b Object) Object {
	switch {
	case plant.On(plant.MergeNotIdempotent): // no way out early
	case a.includes(b):
		return a
	case b.includes(a):
		return b
	}
	out := Object{Clock: a.Clock.Join(b.Clock), Siblings: make([]Sibling, 0, len(a.Siblings)+len(b.Siblings))}
	for _, s := range a.Siblings {
		if b.holds(s.Dot) || !b.Clock.Contains(s.Dot) {
			out.Siblings = append(out.Siblings, s)
		}
	}
	for _, s := range b.Siblings {
		if !a.Clock.Contains(s.Dot) || plant.On(plant.MergeNotIdempotent) && !a.holds(s.Dot) {
			out.Siblings = append(out.Siblings, s)
		}
	}
	slices.SortFunc(out.Siblings, compareNewest)
	if plant.On(plant.LWWTieBreak) {
		return out.LastWriter()
	}
	return out
}

// includes tells whether merging b into o changes nothing: o has seen all that b has, and b has replaced nothing that o
// still holds.
func (o Object) includes(b Object) bool {
	if !o.Clock.Covers(b.Clock) {
		return false
	}
	for i := range o.Siblings {
		if d := o.Siblings[i].Dot; b.Clock.Contains(d) && !b.holds(d) {
			return false
		}
	}
	return true
}

// holds tells whether d is the dot of a sibling.
func (o Object) holds(d Dot) bool {
	for i := range o.Siblings {
		if o.Siblings[i].Dot == d {
			return true
		}
	}
	return false
}

// LastWriter keeps only the newest sibling, for buckets that resolve conflicts by the last writer. The clock keeps covering
// the losers, so they stay gone. Every node picks the same winner, and since a write is always later than what it
// replaces, the newest of all is never dropped by anyone: the order of merges does not matter.
func (o Object) LastWriter() Object {
	if len(o.Siblings) <= 1 {
		return o
	}
	return Object{Clock: o.Clock, Siblings: o.Siblings[:1:1]}
}
