package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// spreading is one fan-out of a write that the local store already holds.
type spreading struct {
	tally   writeTally
	replies chan spreadReply // one of each owner, or of the stand-in in its place; two of this node
	sent    time.Time
	parts   [MaxN]spreadPart
	lacking owners       // are down, nobody stands in for them, and no hint was left yet
	sloppy  *sloppyWrite // nil = strict
}

// owners is a set of places in a list of owners.
type owners uint8

type spreadReply struct {
	index   int
	reply   writeReply
	standin int32 // place in the preference list of the node that stood in for the owner, 0 = none did
	err     error // of the owner, also where a stand-in took the write
	took    time.Duration
}

// spreadPart is what is known of one owner's part, and of its stand-in's.
type spreadPart struct {
	reply    writeReply
	answered bool
	standin  int32
	err      error
	took     time.Duration
}

// ok tells whether the owner or its stand-in holds the write.
func (p *spreadPart) ok() bool {
	return p.answered && p.reply != writeFailed && p.reply != writeUnsynced
}

// spread sends the object to the other owners, and waits for w of all owners to hold it and dw to have it on disk. Where
// replicas know a newer layout it sends the same object to that layout's owners: to merge an object twice changes nothing.
func (c *Coordinator) spread(ctx context.Context, t target, w, dw int, key ring.Key, object []byte, full bool) (Receipt, *Error) {
	var p patience
	for {
		s := &spreading{tally: writeTally{n: t.n, w: w, dw: dw}, replies: make(chan spreadReply, t.n+1), sent: time.Now()}
		c.fanOut(ctx, &t, s, key, object)
		c.leaveHints(&t, s, key)
		timedOut := false
		for s.tally.verdict() == pending && !timedOut {
			select {
			case r := <-s.replies:
				s.note(r)
			case <-ctx.Done():
				timedOut = true
			}
		}
		s.drain()
		c.leaveHints(&t, s, key)
		switch {
		case s.tally.verdict() == won:
			return c.writeReceipt(&t, s, full), nil
		case s.tally.verdict() == lost && ctx.Err() == nil:
			if i, stale := s.staleReply(); stale && c.awaitLayout(ctx, &p, s.node(&t, i), t.layout.Version(), staleLayout(s.parts[i].err)) {
				next, e := c.target(key)
				if e == nil && w <= next.n {
					next.sloppy = t.sloppy
					t = next
					continue
				}
			}
		}
		return Receipt{}, c.writeError(&t, s, ctx.Err())
	}
}

// fanOut sends the object to every owner but this node, then has the local store sync it meanwhile where dw asks for it.
func (c *Coordinator) fanOut(ctx context.Context, t *target, s *spreading, key ring.Key, object []byte) {
	durable := s.tally.dw > 0
	message := deadline{sooner(context.Background(), s.sent, c.config.LateTimeout)}
	if at, ok := ctx.Deadline(); ok && at.After(message.at) {
		message.at = at
	}
	if t.sloppy {
		s.sloppy = &sloppyWrite{c: c, t: *t, key: key, object: object, sync: durable, behind: newBehind(t), until: message.at, replies: s.replies}
		s.sloppy.client, _ = ctx.Deadline()
	}
	for i, id := range t.owners {
		if i == t.self {
			continue
		}
		if err := c.sendWrite(message, t, id, s.sent, key, object, durable, false, func(err error, took time.Duration) {
			r := spreadReply{index: i, reply: writeAcked, err: err, took: took}
			switch {
			case err != nil && s.sloppy != nil && isDown(err) && s.sloppy.standIn(i, err):
				return // its stand-in replies
			case err != nil:
				r.reply = writeFailed
			case durable:
				r.reply = writeDurable
			}
			s.replies <- r
		}); err != nil && (s.sloppy == nil || !isDown(err) || !s.sloppy.standIn(i, err)) {
			s.note(spreadReply{index: i, reply: writeFailed, err: err})
		}
	}
	switch {
	case t.self < 0:
	case durable:
		s.note(spreadReply{index: t.self, reply: writeApplied})
		c.life.more()
		c.config.Local.Sync(func(err error) {
			r := spreadReply{index: t.self, reply: writeSynced, err: err, took: time.Since(s.sent)}
			if err != nil {
				r.reply = writeUnsynced
			}
			s.replies <- r
			c.life.end()
		})
	default:
		s.note(spreadReply{index: t.self, reply: writeAcked})
	}
}

// sendWrite sends one replica write that outlives the request. done is called once where sendWrite returns nil; an error
// means that nothing was sent.
func (c *Coordinator) sendWrite(ctx context.Context, t *target, id ring.NodeID, now time.Time, key ring.Key, object []byte, sync, repair bool, done func(error, time.Duration)) error {
	if !c.config.Membership.Alive(id) {
		return errNotAlive
	}
	state := c.table.get(id)
	if err := state.acquire(now); err != nil {
		return err
	}
	c.life.more()
	c.config.Peers.Write(ctx, id, t.layout.Version(), key, object, sync, repair, func(err error) {
		done(err, c.settled(state, id, "write", now, err))
		c.life.end()
	})
	return nil
}

func (s *spreading) note(r spreadReply) {
	s.tally.add(r.reply)
	s.parts[r.index] = spreadPart{reply: r.reply, answered: true, standin: r.standin, err: r.err, took: r.took}
	if r.standin == 0 && r.err != nil && isDown(r.err) { // what a stand-in could not take either has a hint already
		s.lacking |= 1 << r.index
	}
}

// leaveHints leaves a hint for each owner that is known to lack the write, and to be down. Those of whom that is found out after the request are
// left to anti-entropy.
func (c *Coordinator) leaveHints(t *target, s *spreading, key ring.Key) {
	if s.lacking == 0 || t.self < 0 {
		return
	}
	for i, id := range t.owners {
		if s.lacking&(1<<i) != 0 {
			c.leaveHint(id, key)
		}
	}
	s.lacking = 0
}

// node is who answered last in place i: the owner, or its stand-in.
func (s *spreading) node(t *target, i int) ring.NodeID {
	if place := s.parts[i].standin; place > 0 {
		return t.layout.Preference(t.partition)[place]
	}
	return t.owners[i]
}

// drain takes what has come by now, so that the receipt tells it too.
func (s *spreading) drain() {
	for {
		select {
		case r := <-s.replies:
			s.note(r)
		default:
			return
		}
	}
}

// staleReply finds a replica that refused the write because it knows another layout, one with a newer layout first.
func (s *spreading) staleReply() (index int, found bool) {
	for i := range s.parts {
		if p := &s.parts[i]; p.err != nil && !p.ok() && outcomeOf(p.err) == outcomeStale {
			if staleLayout(p.err) > 0 {
				return i, true
			}
			index, found = i, true
		}
	}
	return index, found
}

func (c *Coordinator) writeReceipt(t *target, s *spreading, full bool) Receipt {
	r := Receipt{
		N: t.n, Required: s.tally.w, Acked: s.tally.acked, Durable: s.tally.durable,
		Ring: t.layout.Version(), Coordinator: c.name(t.layout),
	}
	for i := range t.n {
		if p := &s.parts[i]; p.standin > 0 && p.ok() {
			r.Standins++
		}
	}
	if full {
		r.Replicas = s.receipts(t, false)
	}
	return r
}

// receipts tells each owner's part, and that of its stand-in behind it; only those that did not acknowledge, where failed is set.
func (s *spreading) receipts(t *target, failed bool) []ReplicaReceipt {
	out := make([]ReplicaReceipt, 0, t.n)
	add := func(r ReplicaReceipt) {
		if !failed || !r.OK {
			out = append(out, r)
		}
	}
	for i, id := range t.owners {
		p := &s.parts[i]
		r := t.receipt(id)
		r.Took = p.took
		if p.standin > 0 {
			both := p.receipts(r, t.receipt(s.node(t, i)))
			add(both[0])
			add(both[1])
			continue
		}
		r.OK, r.Durable = p.ok(), p.durable()
		switch {
		case p.err != nil:
			r.Error = p.err.Error()
		case !p.answered:
			r.Error = errSilent.Error()
			r.Took = time.Since(s.sent)
		}
		add(r)
	}
	return out
}

func (p *spreadPart) durable() bool { return p.reply == writeDurable || p.reply == writeSynced }

// receipts fills in the parts of an owner that is down and of the last stand-in that was asked for it.
func (p *spreadPart) receipts(owner, standin ReplicaReceipt) [2]ReplicaReceipt {
	owner.Took, owner.Error = 0, p.err.Error()
	standin.Role, standin.Took, standin.OK, standin.Durable = "standin", p.took, p.ok(), p.durable()
	var both *standinError
	if errors.As(p.err, &both) {
		owner.Error, standin.Error = both.owner.Error(), both.standin.Error()
	}
	return [2]ReplicaReceipt{owner, standin}
}

// writeError tells why a write that the local store holds was not acknowledged. Its outcome is never NotApplied.
func (c *Coordinator) writeError(t *target, s *spreading, cause error) *Error {
	e := &Error{
		Code: CodeUnavailable, Outcome: Unknown, N: t.n, Required: s.tally.w, Acked: s.tally.acked, Durable: s.tally.durable, Replicas: s.receipts(t, true), Err: cause,
	}
	if plant.On(plant.FailureDishonest) {
		e.Outcome = NotApplied
	}
	late := cause != nil
	for i := range t.n {
		late = late || !s.parts[i].ok() && s.parts[i].err != nil && outcomeOf(s.parts[i].err) == outcomeTimeout
	}
	why := "replicas failed"
	if late {
		e.Code, why = CodeTimeout, "replicas did not answer in time"
	}
	if errors.Is(cause, context.Canceled) {
		why = "the client went away"
	}
	e.Detail = fmt.Sprintf("%d of the %d replicas needed hold the write, %d of the %d needed on disk: %s; the write may stay", s.tally.acked, s.tally.w, s.tally.durable, s.tally.dw, why)
	return e
}
