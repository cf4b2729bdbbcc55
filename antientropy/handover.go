package antientropy

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// callTimeout bounds one message of hints or collection, its answer included.
const callTimeout = 10 * time.Second

// runHints delivers hints until ctx ends.
func (r *Repairer) runHints(ctx context.Context) { r.hints.run(ctx) }

// runPurges collects tombstones until ctx ends.
func (r *Repairer) runPurges(ctx context.Context) { r.purges.run(ctx) }

// wakeHints has what waits for a node that is back delivered without waiting for the next try.
func (r *Repairer) wakeHints(id ring.NodeID) { r.hints.wakeFor(id) }

// hintStatus is how the delivery to each node goes; known is false while the store still counts.
func (r *Repairer) hintStatus() (progress []HintProgress, known bool) { return r.hints.status() }

func (r *Repairer) tombstoneStatus() TombstoneStatus { return r.purges.status() }

// hintsPaused tells whether an operator has stopped the delivery.
func (r *Repairer) hintsPaused() bool { return r.hints.isPaused() }

// PauseHints stops the delivery of hints, or lets it go on. They are kept all the same. It is not remembered over a restart.
func (r *Repairer) PauseHints(paused bool) { r.hints.pause(paused) }

// becameEqual is told that a class was found equal with another owner, or made so.
func (r *Repairer) becameEqual(peer ring.NodeID, c ring.Class) { r.hints.becameEqual(peer, c) }

// level makes classes equal with another owner, and tells for each that is not known to be equal why.
func (r *Repairer) level(ctx context.Context, peer ring.NodeID, classes []ring.Class) (unequal map[ring.Class]string) {
	result, err := r.exchangeWith(ctx, peer, classes, nil)
	unequal = make(map[ring.Class]string)
	for _, c := range classes {
		got := result.of(c)
		switch {
		case got.Equal:
		case err != nil:
			unequal[c] = err.Error()
		default:
			unequal[c] = got.Error
		}
	}
	return unequal
}

// handleHandover answers the messages of hints and collection. The layout is the one under which the message was sent, and this
// node's.
func (r *Repairer) handleHandover(ctx context.Context, from ring.NodeID, layout *ring.Layout, kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case kindHints:
		items, err := decodeHints(payload)
		if err != nil {
			return nil, fmt.Errorf("read hints of %s: %w", r.config.Name(from), err)
		}
		receipts, err := r.hints.take(ctx, layout, items)
		if err != nil {
			return nil, err
		}
		return encodeReceipts(receipts), nil
	case kindFence, kindCommit, kindRelease:
		m, err := decodeOrder(kind, payload)
		if err != nil {
			return nil, fmt.Errorf("read an order of %s to collect: %w", r.config.Name(from), err)
		}
		return r.purges.obey(layout, from, m).encode(), nil
	}
	return nil, fmt.Errorf("message kind %d is unknown to this version", kind)
}

// pressed is how long background work that took so long waits for the requests of clients: the slower these are than usual, the
// longer.
func (c *Config) pressed(took time.Duration) time.Duration {
	return min(time.Duration(float64(took)*min(max(0, c.Pressure()-1), 100)), 2*time.Second)
}

// owners of a key under a layout.
func (c *Config) owners(l *ring.Layout, key ring.Key) []ring.NodeID {
	return l.Owners(l.Partition(key.Token), c.Replicas(key.Bucket))
}

// ago says how long ago an instant was, for people.
func ago(t, now time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format("15:04:05"), now.Sub(t).Round(time.Second))
}
