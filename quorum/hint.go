package quorum

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// hintQuiet is how long the log says nothing more of hints that could not be kept.
const hintQuiet = 10 * time.Second

// isDown tells whether a node could not be asked because it seems to be away. One that is slow, or has too much to do, is not down: it
// gets what was sent to it.
func isDown(err error) bool {
	return errors.Is(err, errNotAlive) || errors.Is(err, errBreaker) || err != nil && outcomeOf(err) == outcomeUnreachable
}

// leaveHint notes on this node, which is an owner of key, that target lacks what was just written here. Nothing acknowledged depends on it:
// where it cannot be kept anti-entropy finds the difference.
func (c *Coordinator) leaveHint(target ring.NodeID, key ring.Key) {
	if c.hints == nil {
		return
	}
	err := c.state.full()
	if err == nil {
		err = c.hints.Hint(target, key, nil)
	}
	if err == nil {
		c.config.Observer.Event("hint", 1)
		return
	}
	c.config.Observer.Event("hint_failed", 1)
	if missed, say := c.hintLog.note(time.Now()); say {
		c.config.Logger.Warn("hints cannot be kept: anti-entropy will bring the node up to date", "node", target, "since_last_message", missed, "error", err)
	}
}

// throttle lets one message through in hintQuiet. Safe for concurrent use.
type throttle struct {
	last   atomic.Int64 // Unix nanoseconds of the last message, 0 = none yet
	missed atomic.Int64
}

// note counts what happened, and tells whether to say so now, with the number since the last time.
func (t *throttle) note(now time.Time) (missed int64, say bool) {
	t.missed.Add(1)
	last, at := t.last.Load(), now.UnixNano()
	if last != 0 && at-last >= 0 && at-last < int64(hintQuiet) || !t.last.CompareAndSwap(last, at) {
		return 0, false
	}
	return t.missed.Swap(0), true
}
