package quorum

import (
	"context"
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
	began := time.Now()
	result, e := c.put(ctx, key, value, options)
	if e != nil {
		if e.Code == CodeTimeout {
			c.paced(&c.writePace, began)
		}
		c.config.Observer.Quorum("write", e.Code)
		return WriteResult{}, e
	}
	c.paced(&c.writePace, began)
	c.config.Observer.Quorum("write", "")
	return result, nil
}

// put coordinates the write here where this node is an owner whose store works, or has another owner do it. An owner without a vote may have
// forgotten what the write is to replace: it coordinates only what no other owner can.
func (c *Coordinator) put(ctx context.Context, key ring.Key, value Value, options WriteOptions) (WriteResult, *Error) {
	if options.Fresh && options.Context != nil {
		return WriteResult{}, &Error{Code: CodeInvalid, Detail: "a write that replaces nothing cannot have a context", Outcome: NotApplied}
	}
	if e := value.check(); e != nil {
		return WriteResult{}, e
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
		if e := c.enough(&t, w, toWrite); e != nil {
			return WriteResult{}, e
		}
		here := t.self >= 0 && c.state.fit(t.class(), toWrite) == nil
		last := here && c.state.votes(t.class()) != nil && c.others(&t, time.Now())
		var own *Error
		if here && !last {
			result, e, elsewhere := c.putHere(ctx, t, w, dw, key, value, options)
			if e == nil || !elsewhere {
				return result, e
			}
			own = e
		}
		result, e, again := c.forward(ctx, &t, &p, key, value, options)
		switch {
		case again:
			continue
		case e == nil || e.Outcome != NotApplied:
			return result, e
		case last && (e.Code == CodeUnavailable || e.Code == CodeFull || e.Code == CodeOverloaded):
			result, e, _ = c.putHere(ctx, t, w, dw, key, value, options)
		case own != nil && own.Code == CodeFull && e.Code == CodeUnavailable:
			return result, own
		}
		return result, e
	}
}

// writeLevels is how many replicas must hold the write, and how many of them on disk.
func (t *target) writeLevels(o WriteOptions) (w, dw int, e *Error) {
	if o.W == None {
		return 0, 0, &Error{Code: CodeInvalid, Detail: "w must be at least 1", Outcome: NotApplied}
	}
	t.sloppy = o.Sloppy.Or(t.bucket.Sloppy) || plant.On(plant.StandinsCountAsOwners)
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
// local store could not take it, nothing happened, and another owner may do better.
func (c *Coordinator) putHere(ctx context.Context, t target, w, dw int, key ring.Key, value Value, options WriteOptions) (_ WriteResult, _ *Error, elsewhere bool) {
	if err := ctx.Err(); err != nil {
		return WriteResult{}, &Error{Code: CodeTimeout, Detail: "the time was over before the write began", Outcome: NotApplied, N: t.n, Required: w, Err: err}, false
	}
	m := &mint{actor: c.config.Incarnation, clock: &c.clock, now: c.config.Now, value: value, options: options, lww: t.bucket.LWW, ttl: value.ttl(t.bucket)}
	object, _, err := c.config.Local.Update(key, m.apply)
	switch {
	case m.refused != nil:
		return WriteResult{}, m.refused, false
	case err != nil:
		e := &Error{Code: CodeInternal, Detail: "the local store failed", Outcome: Unknown, N: t.n, Required: w, Err: err}
		if !m.called || notApplied(err) {
			e.Outcome = NotApplied
			if outcomeOf(c.state.explain(err)) == outcomeFull {
				e.Code, e.Detail = CodeFull, "the disk of this replica is full"
			}
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
	result := WriteResult{Context: m.context, Dot: m.dot, Expiry: m.expiry, Receipt: receipt}
	if options.ReturnValue {
		if result.Object, err = vclock.DecodeObject(object); err != nil {
			return WriteResult{}, &Error{Code: CodeInternal, Detail: "the write was done, but cannot be shown", Outcome: Unknown, Err: err}, false
		}
		if t.bucket.LWW {
			result.Object = result.Object.LastWriter()
		}
		result.Object = shown(result.Object, c.now())
	}
	return result, nil, false
}
