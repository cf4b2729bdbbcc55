package antientropy

import (
	"context"
	"errors"
)

// isPurged tells whether a merge was refused because all of the object had been collected.
func isPurged(err error) bool {
	var p interface{ Purged() bool }
	return errors.As(err, &p) && p.Purged()
}

// syncStore returns once what had been merged before is on disk.
func syncStore(ctx context.Context, s Store) error {
	done := make(chan error, 1)
	s.Sync(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Syncing counts the partitions in which this node casts no read votes until it has exchanged with other owners. It is cheap where
// there is none.
func (r *Repairer) Syncing() int {
	unsynced, l := r.config.Store.Unsynced(), r.config.Membership.Layout()
	if l == nil {
		return 0
	}
	n, last, self := 0, -1, r.config.Membership.Self()
	for _, c := range unsynced { // in order
		if c.Partition != last && c.Partition < l.Partitions() && l.Owns(self, c.Partition, c.N) && len(l.Owners(c.Partition, c.N)) > 1 {
			n, last = n+1, c.Partition
		}
	}
	return n
}
