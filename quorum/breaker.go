package quorum

import (
	"math/rand/v2"
	"time"
)

const (
	breakerThreshold = 4 // failures in a row, nothing having come back in between
	breakerMinWait   = 100 * time.Millisecond
	breakerMaxWait   = 2 * time.Second
)

// breaker keeps requests away from a peer that does not answer at all. Slow is not down: a timeout counts only if nothing
// came back from the peer since the request was sent. Open, it lets one probe through after a wait that doubles with
// each failed probe. It is pure: the caller locks and tells the time. The zero value is closed.
type breaker struct {
	failures  int // in a row
	open      bool
	probing   bool
	probeAt   time.Time // when the probe was sent
	retry     time.Time // open: when a probe may go
	wait      time.Duration
	lastReply time.Time
}

// ready tells whether a request may be sent now, without claiming the probe.
func (b *breaker) ready(now time.Time) bool {
	return !b.open || !b.probing && !now.Before(b.retry)
}

// acquire is ready, and claims the probe where the breaker is open. Each acquired request must end in reply, in
// unsure, or in silence with the same time as sent.
func (b *breaker) acquire(now time.Time) bool {
	if !b.ready(now) {
		return false
	}
	if b.open {
		b.probing, b.probeAt = true, now
	}
	return true
}

// reply notes that something came back, whatever it said.
func (b *breaker) reply(now time.Time) {
	b.lastReply = now
	b.failures, b.open, b.probing, b.wait = 0, false, false, 0
}

// unsure notes that a request ended without telling anything about the peer: some queue on the way was full.
func (b *breaker) unsure(now time.Time) {
	if b.probing {
		b.probing, b.retry = false, now.Add(breakerMinWait)
	}
}

// silence notes that a request sent at sent got no answer: refused, unreachable or timed out. It tells whether the
// breaker opened by it.
func (b *breaker) silence(now, sent time.Time, r *rand.Rand) (opened bool) {
	if b.lastReply.After(sent) {
		return false
	}
	b.failures++
	switch {
	case b.open && b.probing && !sent.Before(b.probeAt):
		b.wait = min(2*b.wait, breakerMaxWait)
	case b.open: // a straggler from before it opened
		return false
	case b.failures < breakerThreshold:
		return false
	default:
		b.wait, opened = breakerMinWait, true
	}
	b.open, b.probing = true, false
	b.retry = now.Add(b.wait/2 + time.Duration(r.Int64N(int64(b.wait/2)+1)))
	return opened
}
