package peer

import (
	"context"
	"errors"

	"github.com/rondodb/rondo/ring"
)

// Outcomes of a failed call, as Error.Outcome gives them.
const (
	OutcomeError       = "error"       // the other node failed, or the connection broke with the request on its way
	OutcomeTimeout     = "timeout"     // no answer within the deadline
	OutcomeUnreachable = "unreachable" // no connection
	OutcomeOverloaded  = "overloaded"  // a limit of this node or of the other one
	OutcomeStale       = "stale"       // the two nodes go by different layouts
	OutcomeFull        = "full"        // the disk of the other node is full
)

// Error is how every call of Client fails.
type Error struct {
	Peer ring.NodeID // the node that was asked
	Op   Op

	outcome    string
	notApplied bool
	stale      uint64
	text       string
	cause      error
}

// Error names the peer, the op and the reason.
func (e *Error) Error() string {
	s := e.Op.String() + " on peer " + string(e.Peer) + ": " + e.text
	if e.cause != nil {
		if e.text != "" {
			s += ": "
		}
		s += e.cause.Error()
	}
	return s
}

// Unwrap is the cause on this side, nil for errors of the other node.
func (e *Error) Unwrap() error { return e.cause }

// NotApplied tells that the request certainly never reached the other node's store.
func (e *Error) NotApplied() bool { return e.notApplied }

// StaleLayout is the layout version of the other node where it refused because this node's is older, else 0.
func (e *Error) StaleLayout() uint64 { return e.stale }

// Outcome is one of the Outcome constants.
func (e *Error) Outcome() string { return e.outcome }

var (
	errClosed  = errors.New("closed")
	errPing    = errors.New("no answer to a ping")
	errMoved   = errors.New("the peer's address has changed")
	errUnknown = errors.New("no address is known for this node")
)

// faultOf is a handler's error as it goes over the wire.
func faultOf(err error) fault {
	f := fault{text: err.Error()}
	var applied interface{ NotApplied() bool }
	if errors.As(err, &applied) {
		f.notApplied = applied.NotApplied()
	}
	var stale interface{ StaleLayout() uint64 }
	if errors.As(err, &stale) {
		f.stale = stale.StaleLayout()
	}
	var outcome interface{ Outcome() string }
	switch {
	case errors.As(err, &outcome):
		for i, name := range outcomes {
			if name == outcome.Outcome() {
				f.outcome = byte(i)
			}
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		f.outcome = faultTimeout
	}
	return f
}

// Numbers of outcomes on the wire.
const (
	faultError = iota
	faultTimeout
	faultUnreachable
	faultOverloaded
)

// refusal is a request that the server itself turns away before the handler has seen it.
func refusal(outcome byte, text string) fault {
	return fault{outcome: outcome, notApplied: true, text: text}
}
