package quorum

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// forward has an owner coordinate the write. An owner that certainly did nothing is followed by the next one; after any
// other failure nobody knows, and the write is not sent again: a second dot for one write would be a conflict with itself. Owners that leave it to
// others, because they have not resynced yet, are asked once more where no other one did it.
// Where again is true the owners knew a newer layout, which is there now.
func (c *Coordinator) forward(ctx context.Context, t *target, p *patience, key ring.Key, value Value, options WriteOptions) (_ WriteResult, _ *Error, again bool) {
	order := c.choose(t, time.Now())
	last := &Error{Code: CodeUnavailable, Detail: "no owner of the key can be reached: nothing was sent"}
	var stale error
	var staleOwner ring.NodeID
	var resyncing owners
	full := false
	for _, anyway := range []bool{false, true} {
		if anyway && resyncing == 0 {
			break
		}
		request := encodeForward(key, value, options, anyway)
		for k := range order.usable {
			i := order.order[k]
			id := t.owners[i]
			if id == c.self || anyway && resyncing&(1<<i) == 0 || ctx.Err() != nil {
				continue
			}
			now := time.Now()
			state := c.table.get(id)
			if state.acquire(now) != nil {
				continue
			}
			answer, err := c.config.Peers.Coordinate(ctx, id, t.layout.Version(), request)
			c.settled(state, id, "coordinate", now, err)
			if err == nil {
				result, failure, kind, err := decodeAnswer(answer)
				switch {
				case err != nil:
					return WriteResult{}, c.forwardError(t, id, err), false
				case failure == nil:
					return result, nil, false
				case kind == answerError:
					return WriteResult{}, failure, false
				case kind == answerResyncing:
					resyncing |= 1 << i
				}
				if failure.Code == CodeFull {
					full = true
				}
				last = failure
				continue
			}
			if !notApplied(err) {
				return WriteResult{}, c.forwardError(t, id, err), false
			}
			if outcomeOf(err) == outcomeStale && (stale == nil || staleLayout(stale) == 0) {
				stale, staleOwner = err, id
			}
			r := t.receipt(id)
			r.Error, r.Took = err.Error(), time.Since(now)
			last.Replicas = append(last.Replicas, r)
			last.Detail = "no owner of the key took the write: nothing was written"
			if outcomeOf(err) == outcomeOverloaded {
				last.Code, last.RetryAfter = CodeOverloaded, time.Second
			}
		}
	}
	if stale != nil && c.awaitLayout(ctx, p, staleOwner, t.layout.Version(), staleLayout(stale)) {
		return WriteResult{}, nil, true
	}
	switch {
	case ctx.Err() != nil:
		last.Code = CodeTimeout
	case full && last.Code == CodeUnavailable:
		last.Code, last.Detail = CodeFull, "the owners of the key that can be reached have no space left on their disks: nothing was written"
	}
	last.Outcome, last.N = NotApplied, t.n
	return WriteResult{}, last, false
}

// forwardError is the failure of an owner that may have written.
func (c *Coordinator) forwardError(t *target, id ring.NodeID, err error) *Error {
	r := t.receipt(id)
	r.Error = err.Error()
	e := &Error{
		Code: CodeUnavailable, Outcome: Unknown, N: t.n, Replicas: []ReplicaReceipt{r}, Err: err,
		Detail: fmt.Sprintf("%s was coordinating the write and failed: the write may have been done", r.Node),
	}
	if o := outcomeOf(err); o == outcomeTimeout || errors.Is(err, context.DeadlineExceeded) {
		e.Code = CodeTimeout
		e.Detail = fmt.Sprintf("%s was coordinating the write and did not answer in time: the write may have been done", r.Node)
	}
	return e
}

// HandleCoordinate coordinates a write that another node forwarded here. It never forwards again. An error means that
// nothing was written; whatever else went wrong is in the answer.
func (c *Coordinator) HandleCoordinate(ctx context.Context, from ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	key, value, options, anyway, err := decodeForward(payload)
	if err != nil {
		return nil, refuse("forwarded write: %v", err)
	}
	if e := c.enter(&c.writes); e != nil {
		return nil, &refusal{text: e.Detail, outcome: outcomeOverloaded}
	}
	defer c.leave(&c.writes)
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	t, e := c.target(key)
	if e != nil {
		return nil, &refusal{text: e.Detail, outcome: outcomeStale}
	}
	if err := c.replica.sameLayout(from, t.layout, layout); err != nil {
		return nil, err
	}
	if t.self < 0 {
		return nil, refuse("this node does not own the key (n=%d): bucket settings may still be spreading", t.bucket.N)
	}
	if err := c.state.healthy(); err != nil {
		return nil, refuse("the store of this node does not work: %v", err)
	}
	w, dw, e := t.writeLevels(options)
	if e == nil {
		e = c.enough(&t, w, toWrite)
	}
	switch {
	case e != nil && (e.Code == CodeUnavailable || e.Code == CodeFull): // another owner may reach more replicas than this one
		return encodeFailure(e, answerElsewhere), nil
	case e != nil:
		return encodeFailure(e, answerError), nil
	}
	if err := c.state.full(); err != nil {
		e := &Error{Code: CodeFull, Detail: "the disk of this replica is full", Outcome: NotApplied, N: t.n, Required: w, Err: err}
		return encodeFailure(e, answerElsewhere), nil
	}
	if err := c.state.votes(t.class()); err != nil && !anyway && c.others(&t, time.Now()) {
		e := &Error{Code: CodeUnavailable, Detail: "this replica leaves the write to another one", Outcome: NotApplied, N: t.n, Required: w, Err: err}
		return encodeFailure(e, answerResyncing), nil
	}
	began := time.Now()
	result, e, elsewhere := c.putHere(ctx, t, w, dw, key, value, options)
	if e == nil || e.Code == CodeTimeout {
		c.paced(&c.writePace, began)
	}
	switch {
	case e != nil && elsewhere:
		return encodeFailure(e, answerElsewhere), nil
	case e != nil:
		return encodeFailure(e, answerError), nil
	}
	return encodeResult(result, options.ReturnValue), nil
}
