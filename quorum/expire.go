package quorum

import (
	"slices"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/vclock"
)

// live tells whether the object has a version to show at a time, in nanoseconds since 1970.
func live(o vclock.Object, now uint64) bool {
	return slices.ContainsFunc(o.Siblings, func(s vclock.Sibling) bool { return !s.Tombstone && !expired(&s, now) })
}

func expired(s *vclock.Sibling, now uint64) bool { return s.Expiry != 0 && s.Expiry <= now }

// shown is the object as readers see it: versions whose time has come are tombstones. What is stored stays as it is, and so do digests.
func shown(o vclock.Object, now uint64) vclock.Object {
	first := -1
	for i := range o.Siblings {
		if s := &o.Siblings[i]; !s.Tombstone && expired(s, now) {
			first = i
			break
		}
	}
	if first < 0 || plant.On(plant.ExpiryIgnoredByReads) {
		return o
	}
	o.Siblings = slices.Clone(o.Siblings) // what was decoded may be shared
	for i := first; i < len(o.Siblings); i++ {
		if s := &o.Siblings[i]; expired(s, now) {
			*s = vclock.Sibling{Dot: s.Dot, Time: s.Time, Tombstone: true}
		}
	}
	return o
}

// now is the time by which versions expire here: never behind a timestamp that this node has issued.
func (c *Coordinator) now() uint64 { return c.clock.now(c.config.Now()) }
