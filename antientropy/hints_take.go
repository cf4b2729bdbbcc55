package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// latestTime is the last timestamp that is taken for one, in the year 2250, as for writes of clients.
const latestTime = 280 * 365 * 24 * 3600 * uint64(1e9)

// take merges what another node kept for this one, and answers once it is on disk: with the answer the other side forgets it. An
// object that cannot be taken does not hold up those beside it.
func (d *delivery) take(ctx context.Context, layout *ring.Layout, items []handed) ([]receipt, error) {
	receipts := make([]receipt, len(items))
	merged := false
	for i, it := range items {
		if err := ctx.Err(); err != nil {
			return nil, err // nobody waits for the answer any more; what was merged comes again
		}
		receipts[i] = d.takeOne(layout, it)
		merged = merged || receipts[i].fate == handedOver
	}
	if !merged {
		return receipts, nil
	}
	if err := d.sync(ctx); err != nil {
		return nil, fmt.Errorf("take objects that were handed over: %w", err)
	}
	return receipts, nil
}

func (d *delivery) takeOne(layout *ring.Layout, it handed) receipt {
	if !slices.Contains(d.config.owners(layout, it.key), d.config.Membership.Self()) {
		return receipt{handedNotOwner, fmt.Sprintf("this node does not own partition %d (n=%d)", layout.Partition(it.key.Token), d.config.Replicas(it.key.Bucket))}
	}
	if err := checkObject(it.object); err != nil {
		return receipt{handedFailed, err.Error()}
	}
	return d.merge(it)
}

// merge is Store.Merge with its error told apart.
func (d *delivery) merge(it handed) receipt {
	err := d.config.Store.Merge(it.key, it.object)
	switch {
	case err == nil:
		return receipt{fate: handedOver}
	case isPurged(err):
		d.late(1)
		return receipt{fate: handedPurged}
	}
	return receipt{handedFailed, err.Error()}
}

// checkObject refuses what must not come into any store.
func checkObject(object []byte) error {
	o, err := vclock.DecodeObject(object)
	switch {
	case err != nil:
		return err
	case o.Empty():
		return errors.New("an empty object")
	case o.MaxTime() > latestTime:
		return fmt.Errorf("a version is stamped %d ns after 1970, beyond the year 2250", o.MaxTime())
	}
	return nil
}
