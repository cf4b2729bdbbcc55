package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rondodb/rondo/quorum"
)

// Limits of repairs that operators ask for.
const (
	maxRepairs = 4                // at once, on one node
	lineTime   = 30 * time.Second // that the client has to take one line of progress
)

// statusGone is counted where the client left before there was an answer.
const statusGone = 499

// errDraining ends what would go on for long when the server stops.
var errDraining = errors.New("this node is shutting down")

// repair compares this node's partitions with the other owners now, and tells how it goes, line by line. It lasts as long as it lasts,
// or until the client goes away.
func (x *exchange) repair() {
	if e := x.openRepair(); e != nil {
		x.fail(e)
		return
	}
	if n := x.repairs.Add(1); n > maxRepairs {
		x.repairs.Add(-1)
		x.fail(&quorum.Error{
			Code: quorum.CodeOverloaded, Outcome: quorum.NotApplied, RetryAfter: 10 * time.Second,
			Detail: fmt.Sprintf("this node already runs %d repairs that were asked for, its limit: wait for one of them", maxRepairs),
		})
		return
	}
	defer x.repairs.Add(-1)
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	defer context.AfterFunc(x.stopping, func() { cancel(errDraining) })()
	lines := &progressLines{x: x, control: http.NewResponseController(x.w), cancel: cancel}
	if err := lines.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.failed(fmt.Errorf("lift read deadline: %w", err)) // else the connection's own limit would end the repair
		return
	}
	err := x.Node.Repair(ctx, x.params.partition, lines.send)
	if cause := context.Cause(ctx); errors.Is(cause, errDraining) {
		err = cause
	}
	if err != nil && !x.wrote {
		if x.r.Context().Err() != nil && x.stopping.Err() == nil {
			x.status = statusGone
			return
		}
		if errors.Is(err, errDraining) {
			err = &quorum.Error{Code: quorum.CodeNotReady, Detail: errDraining.Error(), Outcome: quorum.Unknown}
		}
		x.failed(err)
		return
	}
	lines.end(err)
}

// openRepair reads what is to be repaired.
func (x *exchange) openRepair() *quorum.Error {
	e := x.params.parse(x.r.URL.RawQuery, repairParams)
	if e == nil {
		e = x.readBody(maxSettings)
	}
	if e != nil {
		return e
	}
	if len(x.body) > 0 {
		return invalid("POST /v1/repair takes no body; one partition is named with ?partition=")
	}
	layout := x.Node.Layout()
	if layout == nil {
		return x.notReady()
	}
	if p := x.params.partition; p >= layout.Partitions() {
		return invalid("partition=%d: the ring has partitions 0 to %d", p, layout.Partitions()-1)
	}
	return nil
}

// progressLines writes progress as one JSON document a line, each sent at once.
type progressLines struct {
	x       *exchange
	control *http.ResponseController
	cancel  context.CancelCauseFunc // ends the repair
	last    RepairProgress
}

// send writes one line. A client that does not take it within lineTime is gone, and the repair ends.
func (l *progressLines) send(p RepairProgress) {
	x := l.x
	if x.broken || l.last.Done {
		return
	}
	l.last = p
	b, err := json.Marshal(p)
	if err == nil {
		err = l.control.SetWriteDeadline(time.Now().Add(lineTime))
	}
	if err == nil || errors.Is(err, http.ErrNotSupported) {
		x.status = http.StatusOK
		x.w.Header()["Content-Type"] = typeLines
		x.write(append(b, '\n'))
		err = l.control.Flush()
	}
	if x.broken || err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.broken = true
		l.cancel(errors.New("the client is gone"))
	}
}

// end writes the last line where the node has not.
func (l *progressLines) end(err error) {
	if l.last.Done {
		return
	}
	p := l.last
	p.Peer, p.Done, p.OK, p.Error = "", true, false, "the repair ended before it was complete"
	if err != nil {
		p.Error = err.Error()
	}
	l.send(p)
}
