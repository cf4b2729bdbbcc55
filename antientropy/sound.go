package antientropy

import (
	"fmt"

	"github.com/rondodb/rondo/ring"
)

// sound tells whether the tree of a class tells what the class holds. A store that had to drop records, or that files a bucket under
// another replica count, computes its trees anew in the background; until then leaves may tell of objects that are gone, and equal roots
// would prove nothing. Where the store cannot be asked, one leaf of the class is read: it says so, too.
func (r *Repairer) sound(c ring.Class) bool {
	if r.config.Sound != nil {
		return r.config.Sound(c)
	}
	l := r.config.Membership.Layout()
	if l == nil || c.Partition >= l.Partitions() {
		return false
	}
	sound, err := r.config.Store.ReadLeaf(c, c.Partition*(ring.Leaves/l.Partitions()), func(ring.Key, []byte, uint64) bool { return true })
	return err == nil && sound
}

// leafReader builds the trees of classes, one at a time, in room of its own.
type leafReader struct {
	*Repairer
	shape  shape
	leaves []uint64
	tree   tree
}

func (r *Repairer) leafReader(l *ring.Layout) leafReader {
	return leafReader{Repairer: r, shape: shapeOf(ring.Leaves / l.Partitions())}
}

// read builds the tree of a class as it is now. It is sound if it was so before and after: to compute one anew takes far longer. Where
// that costs reading, it is asked afterwards only.
func (t *leafReader) read(c ring.Class) (sound bool, err error) {
	sound = t.config.Sound == nil || t.sound(c)
	if err := t.build(c); err != nil {
		return false, err
	}
	return sound && t.sound(c), nil
}

// build is read for those who only look.
func (t *leafReader) build(c ring.Class) error {
	t.leaves = t.config.Store.Leaves(t.leaves[:0], c)
	if got, want := len(t.leaves), t.shape.nodes(t.shape.levels()); got != want {
		return fmt.Errorf("the store has %d leaves in partition %d, the ring has %d", got, c.Partition, want)
	}
	t.tree.build(t.shape, t.leaves)
	return nil
}
