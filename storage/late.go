package storage

import (
	"errors"
	"fmt"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// lateError is why an object was not merged that comes from before a watermark.
type lateError struct {
	key    ring.Key
	purged bool
}

// Error says what was found.
func (e *lateError) Error() string {
	if e.purged {
		return fmt.Sprintf("%q of bucket %q: every version was collected here as deleted or expired", e.key.Name, e.key.Bucket)
	}
	return fmt.Sprintf("%q of bucket %q: whether the versions were collected here is not known yet: %v", e.key.Name, e.key.Bucket, ErrUnsound)
}

// Unwrap is ErrUnsound where it is too early to tell.
func (e *lateError) Unwrap() error {
	if e.purged {
		return nil
	}
	return ErrUnsound
}

// Purged tells that the sender may forget what it sent: all owners had it, and collected it.
func (e *lateError) Purged() bool { return e.purged }

// NotApplied tells that nothing was stored.
func (e *lateError) NotApplied() bool { return true }

// errVanished stops withoutCollected where nothing can be concluded.
var errVanished = errors.New("objects have vanished")

// withoutCollected takes the versions out of an object that were collected here: those from before the watermark whose dots the stored
// object has not seen. At that time all owners had all such versions, so this one had them too, and what it has not seen any more it has
// dropped with the object that had replaced or deleted them. They count as replaced: the dots stay in the clock.
//
// That conclusion is drawn only where the tree proves that the leaf is whole. Where it is not, objects have vanished, errVanished is
// returned, and the object is to be taken as it is: it may be what is missing. Nothing is collected here, and there is no error, where the
// object would be replacing what is stored with versions that were collected: then this store was set back to before they came.
//
// The caller holds the stripe.
func (s *Store) withoutCollected(t *merkleTree, key ring.Key, old, incoming vclock.Object) (vclock.Object, error) {
	watermark := t.marks.watermark.Load()
	late := func(v *vclock.Sibling) bool { return v.Time <= watermark && !old.Clock.Contains(v.Dot) }
	n := 0
	for i := range incoming.Siblings {
		if late(&incoming.Siblings[i]) {
			n++
		}
	}
	if n == 0 || watermark <= s.filing.get(key.Bucket).since || plant.On(plant.WatermarkIgnored) {
		return incoming, nil
	}
	if !s.trusted(t.class.Partition) {
		return incoming, &lateError{key: key}
	}
	whole, err := s.proven(t.class, ring.Leaf(key.Token))
	if err != nil {
		return incoming, err
	}
	if !whole {
		return incoming, errVanished
	}
	left := vclock.Object{Clock: incoming.Clock}
	for i := range incoming.Siblings {
		if !late(&incoming.Siblings[i]) {
			left.Siblings = append(left.Siblings, incoming.Siblings[i])
		}
	}
	merged := vclock.Merge(old, left)
	switch {
	case len(merged.Siblings) == 0 && !old.Empty():
		return incoming, nil
	case len(left.Siblings) > 0:
		s.count.late.Add(uint64(n))
		return left, nil
	case len(merged.Siblings) < len(old.Siblings):
		return incoming, nil
	}
	s.count.late.Add(uint64(n))
	return incoming, &lateError{key: key, purged: true}
}
