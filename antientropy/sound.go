package antientropy

import (
	"sync"

	"github.com/rondodb/rondo/ring"
)

// soundness remembers which trees are known to tell what is stored.
type soundness struct {
	mu    sync.Mutex
	known map[ring.Class]bool
}

// sound tells whether the tree of a class tells what the class holds. A store that had to drop records computes its trees anew in
// the background; until then leaves may tell of objects that are gone, and equal roots would prove nothing. It says so for each leaf: so one
// is asked for, until it is sound once. Only a start of the store makes it unsound again.
func (r *Repairer) sound(c ring.Class) bool {
	r.soundness.mu.Lock()
	defer r.soundness.mu.Unlock()
	if r.soundness.known[c] {
		return true
	}
	l := r.config.Membership.Layout()
	if l == nil || c.Partition >= l.Partitions() {
		return false
	}
	sound, err := r.config.Store.ReadLeaf(c, c.Partition*(ring.Leaves/l.Partitions()), func(ring.Key, []byte, uint64) bool { return true })
	if err != nil || !sound {
		return false
	}
	if r.soundness.known == nil {
		r.soundness.known = make(map[ring.Class]bool)
	}
	r.soundness.known[c] = true
	return true
}

// forget has the trees of a partition looked at anew.
func (s *soundness) forget(partition int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := 1; n <= maxReplicas; n++ {
		delete(s.known, ring.Class{Partition: partition, N: n})
	}
}
