package quorum

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// answer gives the merged object, after the stale ones among the replicas read were brought up to date. What a finished
// read has shown, r replicas hold: so every later quorum read with r > n/2 shows it too.
func (a *attempt) answer(ctx context.Context, object vclock.Object) (ReadResult, *Error) {
	if n := a.tally.standins(); n > 0 {
		a.c.config.Observer.Event("standin_read", n)
	}
	if a.tally.agreed() {
		if a.t.bucket.LWW {
			object = object.LastWriter()
		}
		return ReadResult{Object: object, Receipt: a.receipt()}, nil
	}
	receipt := a.receipt()
	a.c.config.Observer.Event("digest_mismatch", 1)
	if object.Empty() { // all that was found was collected meanwhile
		return ReadResult{Object: object, Receipt: receipt}, nil
	}
	if a.t.bucket.LWW {
		object = object.LastWriter()
	}
	encoded := vclock.AppendObject(make([]byte, 0, vclock.EncodedSize(object)), object)
	digest := ring.Digest(encoded)
	if plant.On(plant.RepairOff) {
		return ReadResult{Object: object, Receipt: receipt}, nil
	}
	e := a.repair(ctx, encoded, digest)
	if a.repaired > 0 {
		a.c.config.Observer.Event("read_repair", a.repaired)
	}
	if e != nil {
		return ReadResult{}, e
	}
	receipt.Repaired = a.repaired
	return ReadResult{Object: object, Receipt: receipt}, nil
}

// repair has the merged object held by at least r replicas before it returns nil: those that hold it already, and the
// stale ones, which it writes to. Where such a write fails another owner takes its place. Owners that are not needed for
// that are written to in the background. Stand-ins are never written to: one that keeps something else, or nothing, is not replaced by an owner
// either, but makes the promise of this read the smaller. A replica that refuses because it has collected the versions as deleted counts as
// failed, as long as there is something to show in them; another one is asked. Where nothing is, it holds all that there is.
func (a *attempt) repair(ctx context.Context, encoded []byte, digest uint64) *Error {
	holders, need, stale, waiting := 0, a.tally.r, [MaxN]bool{}, 0
	done := make(chan readReply, a.t.n)
	for i := range a.t.n {
		switch {
		case a.tally.holds(i, digest):
			holders++
		case a.tally.covered(i) && a.tally.standin(i):
			need--
		case a.tally.covered(i):
			stale[i] = true
		}
	}
	tried := [MaxN]bool{}
	for i := range a.t.n {
		if stale[i] {
			tried[i] = true
			waiting++
			a.repairOne(i, encoded, done)
		}
	}
	var cause error
	slow := time.NewTimer(a.repairPatience(ctx))
	defer slow.Stop()
	for holders < need && cause == nil {
		if holders+waiting < need {
			i := a.substitute(&tried, digest)
			if i < 0 {
				return a.repairError(holders, nil)
			}
			tried[i] = true
			waiting++
			a.repairOne(i, encoded, done)
			continue
		}
		select {
		case r := <-done:
			waiting--
			if r.err == nil {
				holders++
				a.repaired++
			} else {
				a.parts[r.index].err = r.err
			}
		case <-slow.C: // a replica that takes its time: another owner may hold the object instead
			if i := a.substitute(&tried, digest); i >= 0 {
				tried[i] = true
				waiting++
				a.repairOne(i, encoded, done)
			}
		case <-ctx.Done():
			cause = ctx.Err()
		}
	}
	for i := range a.t.n {
		if !tried[i] && !a.tally.holds(i, digest) {
			a.repairLater(i, encoded)
		}
	}
	if cause != nil {
		return a.repairError(holders, cause)
	}
	return nil
}

// repairPatience is how long a repair that the answer waits for may take before another owner is asked to hold the object too.
func (a *attempt) repairPatience(ctx context.Context) time.Duration {
	patience := 100 * time.Millisecond
	if at, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(at)/4)
	}
	return patience
}

// substitute is an owner to hold the merged object in place of one that failed to; -1 where there is none.
func (a *attempt) substitute(tried *[MaxN]bool, digest uint64) int {
	now := time.Now()
	for k := range a.order.n {
		if i := int(a.order.order[k]); !tried[i] && !a.tally.holds(i, digest) && a.c.unusable(&a.t, a.t.owners[i], now, toRepair) == nil {
			return i
		}
	}
	return -1
}

// repairOne merges the object on one owner; the outcome goes to done, which must have room for it.
func (a *attempt) repairOne(i int, encoded []byte, done chan<- readReply) {
	c, id := a.c, a.t.owners[i]
	durable := a.t.bucket.DW != None
	report := func(err error, took time.Duration) {
		done <- readReply{index: int8(i), kind: replyRepair, err: err, took: took}
	}
	if i != a.t.self {
		now := time.Now()
		if err := c.sendWrite(deadline{now.Add(c.config.LateTimeout)}, &a.t, id, now, a.key, encoded, durable, true, report); err != nil {
			report(err, 0)
		}
		return
	}
	began := time.Now()
	err := c.config.Local.Merge(a.key, encoded)
	if err != nil && purged(err) && a.nothingToShow(encoded) {
		err, durable = nil, false
	}
	if err != nil || !durable {
		report(err, time.Since(began))
		return
	}
	c.life.more()
	c.config.Local.Sync(func(err error) {
		report(err, time.Since(began))
		c.life.end()
	})
}

func (a *attempt) nothingToShow(encoded []byte) bool {
	o, err := vclock.DecodeObject(encoded)
	return err == nil && !live(o, a.c.now())
}

// repairLater writes to an owner without waiting, where the repairs in flight leave room. What is left out is found by
// a later read.
func (a *attempt) repairLater(i int, encoded []byte) {
	c, id := a.c, a.t.owners[i]
	if i == a.t.self || !c.repairs.enter() {
		return
	}
	now := time.Now()
	if err := c.sendWrite(deadline{now.Add(c.config.LateTimeout)}, &a.t, id, now, a.key, encoded, a.t.bucket.DW != None, true, func(err error, _ time.Duration) {
		c.repairs.leave()
		if err == nil {
			c.config.Observer.Event("read_repair", 1)
		}
	}); err != nil {
		c.repairs.leave()
	}
}

func (a *attempt) repairError(holders int, cause error) *Error {
	return &Error{
		Code: CodeTimeout, N: a.t.n, Required: a.tally.r, Acked: a.tally.replied(), Replicas: a.receipts(true), Err: cause,
		Detail: fmt.Sprintf("the replicas held different versions, and only %d of the %d needed could be brought up to date", holders, a.tally.r),
	}
}
