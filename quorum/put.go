package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Put writes a value or a tombstone. It returns once w replicas hold the write and dw of them have it on disk; replicas
// that answer later are not waited for. Errors are of type *Error and say what became of the write. The caller must not
// change the value's bytes until Put has returned.
func (c *Coordinator) Put(ctx context.Context, key ring.Key, value Value, options WriteOptions) (WriteResult, error) {
	if e := c.enter(&c.writes); e != nil {
		c.config.Observer.Quorum("write", e.Code)
		return WriteResult{}, e
	}
	defer c.leave(&c.writes)
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	result, e := c.put(ctx, key, value, options)
	if e != nil {
		c.config.Observer.Quorum("write", e.Code)
		return WriteResult{}, e
	}
	c.config.Observer.Quorum("write", "")
	return result, nil
}

// put coordinates the write here where this node is a healthy owner, or has an owner do it.
func (c *Coordinator) put(ctx context.Context, key ring.Key, value Value, options WriteOptions) (WriteResult, *Error) {
	if options.Fresh && options.Context != nil {
		return WriteResult{}, &Error{Code: CodeInvalid, Detail: "a write that replaces nothing cannot have a context", Outcome: NotApplied}
	}
	var p patience
	for {
		t, e := c.target(key)
		if e != nil {
			return WriteResult{}, e
		}
		w, dw, e := t.writeLevels(options)
		if e != nil {
			return WriteResult{}, e
		}
		if e := c.enough(&t, w, "write"); e != nil {
			return WriteResult{}, e
		}
		if t.self >= 0 && c.healthy() == nil {
			result, e, elsewhere := c.putHere(ctx, t, w, dw, key, value, options)
			if e == nil || !elsewhere {
				return result, e
			}
		}
		result, e, again := c.forward(ctx, &t, &p, key, value, options)
		if !again {
			return result, e
		}
	}
}

// writeLevels is how many replicas must hold the write, and how many of them on disk.
func (t *target) writeLevels(o WriteOptions) (w, dw int, e *Error) {
	if o.W == None {
		return 0, 0, &Error{Code: CodeInvalid, Detail: "w must be at least 1", Outcome: NotApplied}
	}
	if w, e = t.required("w", o.W, t.bucket.W); e != nil {
		return 0, 0, e
	}
	if o.DW == Unset { // the bucket's, as far as w goes
		return w, min(t.bucket.DW.Count(t.n), w), nil
	}
	if dw, e = t.required("dw", o.DW, t.bucket.DW); e != nil {
		return 0, 0, e
	}
	if dw > w {
		return 0, 0, &Error{
			Code: CodeInvalid, Outcome: NotApplied, N: t.n, Required: w,
			Detail: fmt.Sprintf("dw=%d is more than w=%d: only acknowledged writes can be counted as synced", dw, w),
		}
	}
	return w, dw, nil
}

// putHere mints the write in the local store and sends what came of it to the other owners. Where elsewhere is true the
// local store could not be read, nothing happened, and another owner may do better.
func (c *Coordinator) putHere(ctx context.Context, t target, w, dw int, key ring.Key, value Value, options WriteOptions) (_ WriteResult, _ *Error, elsewhere bool) {
	if err := ctx.Err(); err != nil {
		return WriteResult{}, &Error{Code: CodeTimeout, Detail: "the time was over before the write began", Outcome: NotApplied, N: t.n, Required: w, Err: err}, false
	}
	m := &mint{actor: c.config.Incarnation, clock: &c.clock, now: c.config.Now, value: value, options: options, lww: t.bucket.LWW}
	object, _, err := c.config.Local.Update(key, m.apply)
	switch {
	case m.refused != nil:
		return WriteResult{}, m.refused, false
	case err != nil:
		e := &Error{Code: CodeInternal, Detail: "the local store failed", Outcome: Unknown, N: t.n, Required: w, Err: err}
		if !m.called || notApplied(err) {
			e.Outcome = NotApplied
			return WriteResult{}, e, true
		}
		return WriteResult{}, e, false
	}
	if m.after >= siblingsWarn {
		c.config.Observer.Event("siblings_warning", m.after)
	}
	receipt, e := c.spread(ctx, t, w, dw, key, object, options.FullReceipt)
	if e != nil {
		return WriteResult{}, e, false
	}
	result := WriteResult{Context: m.context, Dot: m.dot, Receipt: receipt}
	if options.ReturnValue {
		if result.Object, err = vclock.DecodeObject(object); err != nil {
			return WriteResult{}, &Error{Code: CodeInternal, Detail: "the write was done, but cannot be shown", Outcome: Unknown, Err: err}, false
		}
		if t.bucket.LWW {
			result.Object = result.Object.LastWriter()
		}
	}
	return result, nil, false
}

// spreading is one fan-out of a write that the local store already holds.
type spreading struct {
	tally   writeTally
	replies chan spreadReply
	sent    time.Time
	parts   [MaxN]spreadPart
}

type spreadReply struct {
	index int
	reply writeReply
	err   error
	took  time.Duration
}

// spreadPart is what is known of one owner's part.
type spreadPart struct {
	reply    writeReply
	answered bool
	err      error
	took     time.Duration
}

// spread sends the object to the other owners, and waits for w of all owners to hold it and dw to have it on disk. Where
// replicas know a newer layout it sends the same object to that layout's owners: to merge an object twice changes nothing.
func (c *Coordinator) spread(ctx context.Context, t target, w, dw int, key ring.Key, object []byte, full bool) (Receipt, *Error) {
	var p patience
	for {
		s := &spreading{tally: writeTally{n: t.n, w: w, dw: dw}, replies: make(chan spreadReply, t.n+1), sent: time.Now()}
		c.fanOut(ctx, &t, s, key, object)
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
		switch {
		case s.tally.verdict() == won:
			return c.writeReceipt(&t, s, full), nil
		case s.tally.verdict() == lost && ctx.Err() == nil:
			if i, stale := s.staleReply(); stale && c.awaitLayout(ctx, &p, t.owners[i], t.layout.Version(), staleLayout(s.parts[i].err)) {
				next, e := c.target(key)
				if e == nil && w <= next.n {
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
	for i, id := range t.owners {
		if i == t.self {
			continue
		}
		if err := c.sendWrite(message, t, id, s.sent, key, object, durable, false, func(err error, took time.Duration) {
			r := spreadReply{index: i, reply: writeAcked, err: err, took: took}
			switch {
			case err != nil:
				r.reply = writeFailed
			case durable:
				r.reply = writeDurable
			}
			s.replies <- r
		}); err != nil {
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
	s.parts[r.index] = spreadPart{reply: r.reply, answered: true, err: r.err, took: r.took}
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
		if p := &s.parts[i]; p.err != nil && outcomeOf(p.err) == outcomeStale {
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
	if full {
		r.Replicas = s.receipts(t, false)
	}
	return r
}

// receipts tells each owner's part; only those that did not acknowledge, where failed is set.
func (s *spreading) receipts(t *target, failed bool) []ReplicaReceipt {
	out := make([]ReplicaReceipt, 0, t.n)
	for i, id := range t.owners {
		p := &s.parts[i]
		r := t.receipt(id)
		r.OK = p.answered && p.err == nil
		r.Durable = p.reply == writeDurable || p.reply == writeSynced
		r.Took = p.took
		switch {
		case p.err != nil:
			r.Error = p.err.Error()
		case !p.answered:
			r.Error = errSilent.Error()
			r.Took = time.Since(s.sent)
		}
		if !failed || !r.OK {
			out = append(out, r)
		}
	}
	return out
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
		late = late || s.parts[i].err != nil && outcomeOf(s.parts[i].err) == outcomeTimeout
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
