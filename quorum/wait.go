package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// wait takes one reply, or sends a hedge where the replies are late, or fails with ctx.
func (a *attempt) wait(ctx context.Context) error {
	var late <-chan time.Time
	if a.hedge != hedgeDone && a.next < a.order.usable {
		if a.timer == nil {
			a.timer = a.c.startTimer(a.slowest(func(p time.Duration) time.Duration { return p }))
		}
		late = a.timer.C
	}
	select {
	case r := <-a.replies:
		a.note(r)
	case <-late:
		a.late(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// slowest is the longest time, as f makes it of a replica's percentile, that any of those still to answer is allowed.
func (a *attempt) slowest(f func(p95 time.Duration) time.Duration) time.Duration {
	var d time.Duration
	for i := range a.t.n {
		if s := a.tally.slots[i].state; s == slotWaiting || s == slotFetch {
			d = max(d, f(a.c.table.get(a.node(i)).percentile()))
		}
	}
	return d
}

// late is called when replies are late: first a hedge where the budget allows one, then the next owner as after a failure.
func (a *attempt) late(ctx context.Context) {
	now := time.Now()
	for i := range a.t.n {
		if s := a.tally.slots[i].state; s == slotWaiting || s == slotFetch {
			a.c.table.get(a.node(i)).late(now, now.Sub(a.parts[i].asked))
		}
	}
	switch a.hedge {
	case hedgeArmed:
		if a.c.hedges.spend() {
			a.c.config.Observer.Event("hedge", 1)
			a.askNext(ctx)
		}
		a.hedge = hedgeSilent
		a.timer.Reset(max(a.slowest(silenceAfter)-now.Sub(a.began), time.Millisecond))
	case hedgeSilent:
		a.askNext(ctx)
		a.hedge = hedgeDone
	}
}

func (a *attempt) staleReply() (index int, found bool) {
	for i := range a.t.n {
		if err := a.parts[i].err; err != nil && outcomeOf(err) == outcomeStale {
			if staleLayout(err) > 0 {
				return i, true
			}
			index, found = i, true
		}
	}
	return index, found
}

func (a *attempt) receipt() Receipt {
	r := Receipt{
		N: a.t.n, Required: a.tally.r, Replied: a.tally.replied(), Agreed: a.tally.agreed(), Repaired: a.repaired, Standins: a.tally.standins(),
		Ring: a.t.layout.Version(), Coordinator: a.c.name(a.t.layout),
	}
	if a.options.FullReceipt {
		r.Replicas = a.receipts(false)
	}
	return r
}

// receipts tells the part of each owner that was asked, and of stand-ins; only of those that failed, and those not asked, where failed is set.
func (a *attempt) receipts(failed bool) []ReplicaReceipt {
	now := time.Now()
	out := make([]ReplicaReceipt, 0, a.t.n)
	for i, id := range a.t.owners {
		p := &a.parts[i]
		r := a.t.receipt(id)
		if a.tally.standin(i) {
			r.Error = errNotAlive.Error()
			if why := a.c.answers(id, now); why != nil {
				r.Error = why.Error()
			}
			out = append(out, r)
			r = a.t.receipt(a.node(i))
			r.Role = "standin"
		}
		r.OK, r.Took = a.tally.covered(i), p.took
		switch {
		case r.OK:
		case p.err != nil:
			r.Error = p.err.Error()
		case p.asked.IsZero():
			if !failed {
				continue
			}
			r.Error = "not asked"
			if why := a.c.unusable(&a.t, id, now, toRead); why != nil {
				r.Error = why.Error()
			}
		default:
			r.Error, r.Took = errSilent.Error(), now.Sub(p.asked)
		}
		if !failed || !r.OK {
			out = append(out, r)
		}
	}
	return out
}

// failure is the error of a read that got too few replies; cause is the end of ctx, or nil.
func (a *attempt) failure(cause error) *Error {
	got := a.tally.replied()
	e := &Error{Code: CodeUnavailable, N: a.t.n, Required: a.tally.r, Acked: got, Replicas: a.receipts(true), Err: cause}
	late := cause != nil
	for i := range a.t.n {
		late = late || a.parts[i].err != nil && outcomeOf(a.parts[i].err) == outcomeTimeout
	}
	why := "replicas failed"
	if late {
		e.Code, why = CodeTimeout, "replicas did not answer in time"
	}
	if errors.Is(cause, context.Canceled) {
		why = "the client went away"
	}
	e.Detail = fmt.Sprintf("%d of the %d replicas needed answered: %s", got, a.tally.r, why)
	return e
}

func (a *attempt) sessionError(cause error) *Error {
	return &Error{
		Code: CodeTimeout, N: a.t.n, Required: a.tally.r, Acked: a.tally.replied(), Replicas: a.receipts(true), Err: cause,
		Detail: "no reachable replica has seen everything that the context covers: try again, or read without the context",
	}
}

// startTimer and stopTimer keep stopped timers for the next read: nearly every read needs one, and few let it fire.
func (c *Coordinator) startTimer(d time.Duration) *time.Timer {
	if t, ok := c.timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

func (c *Coordinator) stopTimer(t *time.Timer) {
	t.Stop() // nothing can be received from it after that, also where it had fired
	c.timers.Put(t)
}
