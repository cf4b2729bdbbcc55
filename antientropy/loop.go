package antientropy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// plan is when this node exchanges with whom.
type plan struct {
	mu     sync.Mutex
	layout *ring.Layout // whose owners the turns are for
	turns  map[ring.NodeID]*turn
}

// turn is the next exchange with one other node.
type turn struct {
	due      time.Time
	began    time.Time // the last one
	alive    bool      // at the last look
	soon     bool      // asked for while one was under way
	failures int       // in a row
}

const (
	look     = time.Second            // between two looks at who is alive
	spacing  = 250 * time.Millisecond // of exchanges that this node starts, on average
	leastGap = time.Second            // between two with the same node
)

// exchangeSoon has the classes compared with another node before their time, as soon as it is alive. All others are compared in the same
// message. It does not block.
func (r *Repairer) exchangeSoon(peer ring.NodeID, _ []ring.Class) {
	r.plan.mu.Lock()
	if t := r.plan.turns[peer]; t != nil {
		t.soon = true
		if due := t.began.Add(leastGap); due.Before(t.due) {
			t.due = due
		}
	}
	r.plan.mu.Unlock()
	r.wakeLoop()
}

// exchangeAllSoon has all classes compared with all other owners.
func (r *Repairer) exchangeAllSoon() {
	r.plan.mu.Lock()
	peers := slices.Collect(maps.Keys(r.plan.turns))
	r.plan.mu.Unlock()
	for _, id := range peers {
		r.exchangeSoon(id, nil)
	}
}

func (r *Repairer) wakeLoop() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// runExchanges exchanges with all other owners in turn, one at a time.
func (r *Repairer) runExchanges(ctx context.Context) {
	for ctx.Err() == nil {
		if !r.votes.known() || r.unsynced.Load() > 0 {
			r.regainOrLog() // classes that nobody else owns need no exchange
		}
		peer, wait := r.next(time.Now())
		if peer != "" {
			r.exchangeTurn(ctx, peer)
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-r.wake:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// next is whose turn it is; "" where it is nobody's, and how long to wait then.
func (r *Repairer) next(now time.Time) (peer ring.NodeID, wait time.Duration) {
	l := r.config.Membership.Layout()
	if l == nil {
		return "", look
	}
	r.plan.mu.Lock()
	defer r.plan.mu.Unlock()
	if r.plan.layout == nil || r.plan.layout.Version() != l.Version() {
		r.replan(l, now)
	}
	if r.config.NoExchange {
		return "", look
	}
	wait = look
	var earliest *turn
	for id, t := range r.plan.turns {
		alive := r.config.Membership.Alive(id)
		if alive && !t.alive {
			t.due, t.failures = now, 0
		}
		if t.alive = alive; !alive {
			continue
		}
		if earliest == nil || t.due.Before(earliest.due) || t.due.Equal(earliest.due) && id < peer {
			earliest, peer = t, id
		}
	}
	if earliest == nil {
		return "", wait
	}
	if d := earliest.due.Sub(now); d > 0 {
		return "", min(wait, d)
	}
	earliest.began, earliest.soon = now, false
	return peer, 0
}

// replan makes turns for those that own something together with this node.
func (r *Repairer) replan(l *ring.Layout, now time.Time) {
	turns := make(map[ring.NodeID]*turn)
	for _, id := range peersOf(l, r.config.Membership.Self(), 0, l.Partitions()) {
		if turns[id] = r.plan.turns[id]; turns[id] == nil {
			turns[id] = &turn{}
		}
		turns[id].due = now
	}
	r.plan.layout, r.plan.turns = l, turns
}

// peersOf lists the other owners of what this node owns in some partitions, at any replica count, in the order of the layout.
func peersOf(l *ring.Layout, self ring.NodeID, first, end int) []ring.NodeID {
	seen := make(map[ring.NodeID]bool)
	for p := first; p < end; p++ {
		for n := 2; n <= maxReplicas; n++ {
			if !l.Owns(self, p, n) {
				continue
			}
			for _, id := range l.Owners(p, n) {
				seen[id] = true
			}
		}
	}
	delete(seen, self)
	var out []ring.NodeID
	for _, m := range l.Members() {
		if seen[m.ID] {
			out = append(out, m.ID)
		}
	}
	return out
}

// exchangeTurn exchanges with one node, and plans its next turn.
func (r *Repairer) exchangeTurn(ctx context.Context, peer ring.NodeID) {
	result, err := r.exchangeWith(ctx, peer, nil, r.resync.follow(r, peer))
	if ctx.Err() != nil {
		return
	}
	r.resync.look(r, result)
	if err != nil {
		r.config.Logger.Debug("exchange failed", "node", r.config.Name(peer), "error", err)
	} else if result.Different > 0 {
		r.config.Logger.Debug("exchanged", "node", r.config.Name(peer), "different", result.Different, "sent", result.Sent, "received", result.Received)
	}
	owes := r.owes(peer)
	now := time.Now()
	r.plan.mu.Lock()
	defer r.plan.mu.Unlock()
	t := r.plan.turns[peer]
	if t == nil {
		return
	}
	wait := r.interval(len(r.plan.turns))
	if err != nil || owes {
		wait = min(wait, leastGap<<min(t.failures, 10))
		t.failures++
	} else {
		t.failures = 0
	}
	if t.soon {
		wait = min(wait, leastGap)
	}
	t.due = now.Add(wait)
}

// interval is the time to the next exchange with the same node: longer where there are many, and never quite the same.
func (r *Repairer) interval(peers int) time.Duration {
	d := max(r.config.Interval, time.Duration(peers)*spacing)
	return d - d/10 + time.Duration(r.random(int64(d/5)+1))
}

// random is a number from 0 to before n.
func (r *Repairer) random(n int64) int64 {
	r.randomMu.Lock()
	defer r.randomMu.Unlock()
	return r.config.Rand.Int64N(n)
}

// owes tells whether a class of this node still has to be equal with the other one to have its vote.
func (r *Repairer) owes(peer ring.NodeID) bool {
	l := r.config.Membership.Layout()
	if l == nil || r.unsynced.Load() == 0 {
		return false
	}
	self := r.config.Membership.Self()
	r.votes.mu.Lock()
	defer r.votes.mu.Unlock()
	for _, c := range r.config.Store.Unsynced() {
		if shared(l, c, self, peer) && !r.votes.countsFor(c, r.debts.of(c, peer)) {
			return true
		}
	}
	return false
}
