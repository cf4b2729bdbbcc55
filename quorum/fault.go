package quorum

import (
	"context"
	"errors"
	"fmt"
)

// refusal is how the replica side says that it has not touched its store. It crosses the wire with its class: the methods
// are what the replica protocol looks for.
type refusal struct {
	text    string
	stale   uint64 // this node's layout version, where the message's was older
	outcome string // "stale", "overloaded", "full" or "error"
}

func (r *refusal) Error() string       { return r.text }
func (r *refusal) NotApplied() bool    { return true }
func (r *refusal) StaleLayout() uint64 { return r.stale }
func (r *refusal) Outcome() string     { return r.outcome }

func refuse(format string, args ...any) *refusal {
	return &refusal{text: fmt.Sprintf(format, args...), outcome: outcomeError}
}

// Outcomes of a call to a peer.
const (
	outcomeOK          = "ok"
	outcomeTimeout     = "timeout"
	outcomeUnreachable = "unreachable"
	outcomeOverloaded  = "overloaded"
	outcomeError       = "error"
	outcomeStale       = "stale" // the two nodes know different layouts
	outcomeFull        = "full"  // its disk is full: it takes no client writes
)

// Reasons for which a replica is not asked at all.
var (
	errNotAlive = errors.New("not alive as this node sees it")
	errBreaker  = errors.New("not answering, will be tried again within seconds")
	errBusy     = errors.New("too many requests to it are unanswered")
	errSilent   = errors.New("no answer in time")
)

// errFull is why a replica is not counted on for a write.
var errFull = &refusal{text: "its disk was full a moment ago", outcome: outcomeFull}

// outcomeOf classifies the error of a call.
func outcomeOf(err error) string {
	if err == nil {
		return outcomeOK
	}
	var o interface{ Outcome() string }
	if errors.As(err, &o) {
		return o.Outcome()
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, errSilent) {
		return outcomeTimeout
	}
	return outcomeError
}

// notApplied tells whether the call certainly never reached the replica's store.
func notApplied(err error) bool {
	var n interface{ NotApplied() bool }
	return errors.As(err, &n) && n.NotApplied() || errors.Is(err, errNotAlive) || errors.Is(err, errBreaker) || errors.Is(err, errBusy)
}

// staleLayout is the newer layout version that a replica refused a message for, 0 where that was not the reason.
func staleLayout(err error) uint64 {
	var s interface{ StaleLayout() uint64 }
	if errors.As(err, &s) {
		return s.StaleLayout()
	}
	return 0
}
