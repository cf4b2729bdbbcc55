package quorum

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Stand-ins take the place of owners that are down, where a request allows it (DeCandia et al., section 4.6). They are the next usable nodes of
// the preference list behind the owners, one for each owner that is down. What one keeps is a hint for that owner: it is handed over when the
// owner is back, and is no replica of the key until then.

// behind is the nodes behind the owners of a key, in order, to be taken one after the other. Safe for concurrent use.
type behind struct {
	preference []ring.NodeID
	next       atomic.Int32 // place in preference
}

func newBehind(t *target) *behind {
	b := &behind{preference: t.layout.Preference(t.partition)}
	b.next.Store(int32(t.n))
	return b
}

// take gives the next node that can be asked now and its place in the preference list; false where there is none left.
func (b *behind) take(c *Coordinator, now time.Time) (place int32, id ring.NodeID, ok bool) {
	for {
		place = b.next.Add(1) - 1
		if int(place) >= len(b.preference) {
			b.next.Store(int32(len(b.preference))) // it must not run away
			return 0, "", false
		}
		if id = b.preference[place]; c.answers(id, now) == nil {
			return place, id, true
		}
	}
}

// standins counts the nodes behind the owners that can be asked now, up to most.
func (c *Coordinator) standins(t *target, most int, now time.Time) (n int) {
	for _, id := range t.layout.Preference(t.partition)[t.n:] {
		if n >= most {
			break
		}
		if c.answers(id, now) == nil {
			n++
		}
	}
	return n
}

// askStandin sends one message to a stand-in and blocks for the answer.
func (c *Coordinator) askStandin(ctx context.Context, layout uint64, id ring.NodeID, request []byte) ([]byte, error) {
	now := time.Now()
	state := c.table.get(id)
	if err := state.acquire(now); err != nil {
		return nil, err
	}
	answer, err := c.config.Peers.Standin(ctx, id, layout, request)
	c.settled(state, id, "standin", now, err)
	return answer, err
}

// standinError is why neither an owner nor a stand-in took a write. It is classified by the stand-in's.
type standinError struct{ owner, standin error }

func (e *standinError) Error() string { return e.owner.Error() + "; stand-in: " + e.standin.Error() }
func (e *standinError) Unwrap() error { return e.standin }

// sloppyWrite is what the stand-ins of one write need. It outlives the request.
type sloppyWrite struct {
	c       *Coordinator
	t       target
	key     ring.Key
	object  []byte
	sync    bool
	behind  *behind
	client  time.Time // until when the client waits
	until   time.Time // until when anything is tried
	replies chan<- spreadReply
}

// standIn has a node behind the owners keep the object for owner i, which is down for the reason cause. It returns false where there is none;
// else one reply follows.
func (w *sloppyWrite) standIn(i int, cause error) bool {
	place, id, ok := w.behind.take(w.c, time.Now())
	if !ok {
		return false
	}
	w.c.life.more()
	go func() {
		defer w.c.life.end()
		began := time.Now()
		request := encodeKeep(w.t.owners[i], w.key, w.object, w.sync)
		for {
			err := w.ask(id, request)
			if err == nil {
				reply := writeAcked
				if w.sync {
					reply = writeDurable
				}
				w.c.config.Observer.Event("standin_write", 1)
				w.replies <- spreadReply{index: i, reply: reply, standin: place, err: cause, took: time.Since(began)}
				return
			}
			next, other, ok := w.behind.take(w.c, time.Now())
			if !ok || !time.Now().Before(w.until) {
				w.replies <- spreadReply{index: i, reply: writeFailed, standin: place, err: &standinError{cause, err}, took: time.Since(began)}
				w.c.leaveHint(w.t.owners[i], w.key)
				return
			}
			place, id = next, other
		}
	}()
	return true
}

// ask gives one stand-in half of the time that the client still waits, so that there is time for another one.
func (w *sloppyWrite) ask(id ring.NodeID, request []byte) error {
	now, until := time.Now(), w.until
	if left := w.client.Sub(now); left > 0 {
		until = now.Add(left / 2)
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	version := w.t.layout.Version()
	if id == w.c.self { // an owner no more: the ring has changed since the write began
		_, err := w.c.HandleStandin(ctx, id, version, request)
		return err
	}
	_, err := w.c.askStandin(ctx, version, id, request)
	return err
}

// HandleStandin keeps an object for an owner that another node cannot reach, or tells what is kept here for the owners of a key. An error
// with NotApplied has kept nothing.
func (c *Coordinator) HandleStandin(ctx context.Context, from ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	m, err := decodeStandin(payload)
	if err != nil {
		return nil, refuse("stand-in: %v", err)
	}
	if c.hints == nil {
		return nil, refuse("this node keeps nothing for others")
	}
	if e := c.enter(&c.stands); e != nil {
		return nil, &refusal{text: e.Detail, outcome: outcomeOverloaded}
	}
	defer c.leave(&c.stands)
	own := c.config.Membership.Layout()
	if own == nil {
		return nil, &refusal{text: notReady(c.config.Membership).Detail, outcome: outcomeStale}
	}
	if err := c.replica.sameLayout(from, own, layout); err != nil {
		return nil, err
	}
	if err := c.state.healthy(); err != nil {
		return nil, refuse("the store of this node does not work: %v", err)
	}
	if m.target == "" {
		object, digest, err := c.hints.HintFor(m.key)
		if err != nil {
			return nil, fmt.Errorf("read what is kept for others: %w", err)
		}
		return encodeKept(object, digest), nil
	}
	if err := c.keep(ctx, from, own, &m); err != nil {
		return nil, err
	}
	return encodeKept(nil, 0), nil
}

// keep checks a write for an owner that is away, and does it.
func (c *Coordinator) keep(ctx context.Context, from ring.NodeID, l *ring.Layout, m *standinMessage) error {
	n, partition := c.config.Buckets.Get(m.key.Bucket).N, l.Partition(m.key.Token)
	switch {
	case !l.Owns(m.target, partition, n):
		return refuse("stand-in: %s does not own partition %d (n=%d): bucket settings may still be spreading", m.target, partition, n)
	case l.Owns(c.self, partition, n): // it would count twice
		return refuse("stand-in: this node owns partition %d itself (n=%d): bucket settings may still be spreading", partition, n)
	}
	if _, err := c.replica.checkObject(from, m.object); err != nil {
		return err
	}
	if err := c.state.full(); err != nil {
		return err
	}
	if err := c.hints.Hint(m.target, m.key, m.object); err != nil {
		return fmt.Errorf("keep an object for another node: %w", c.state.explain(err))
	}
	if !m.sync {
		return nil
	}
	synced := make(chan error, 1)
	c.life.more()
	c.config.Local.Sync(func(err error) {
		synced <- err
		c.life.end()
	})
	select {
	case err := <-synced:
		return err
	case <-ctx.Done():
		return fmt.Errorf("sync what is kept for another node: %w", ctx.Err()) // it is kept; whether on disk nobody knows
	}
}

// kept asks a node what it keeps for the owners of a key; this node itself, too.
func (c *Coordinator) kept(ctx context.Context, layout uint64, id ring.NodeID, key ring.Key) (object []byte, digest uint64, err error) {
	if id == c.self {
		if c.hints == nil {
			return nil, 0, nil
		}
		return c.hints.HintFor(key)
	}
	answer, err := c.askStandin(ctx, layout, id, encodeAsk(key))
	if err != nil {
		return nil, 0, err
	}
	return openKept(id, answer)
}

// openKept reads a stand-in's answer.
func openKept(id ring.NodeID, answer []byte) (object []byte, digest uint64, err error) {
	if object, digest, err = decodeKept(answer); err != nil {
		return nil, 0, fmt.Errorf("what %s keeps for others: %w", id, err)
	}
	if len(object) > 0 && ring.Digest(object) != digest {
		return nil, 0, fmt.Errorf("what %s keeps for others: %w: digest of something else", id, errWire)
	}
	return object, digest, nil
}
