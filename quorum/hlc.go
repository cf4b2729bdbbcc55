package quorum

import (
	"fmt"
	"sync/atomic"
	"time"
)

// maxAhead is how far ahead of the wall clock a timestamp may be. What is further ahead is a broken clock, and would win
// every comparison for as long as it lasts.
const maxAhead = 60 * time.Second

// hybridClock issues timestamps of writes: hybrid logical time (Kulkarni et al. 2014) whose logical part is the
// nanoseconds. A timestamp is later than the wall clock, than those issued before, and than everything that the write
// replaces. What it replaces does not push later timestamps of other keys: one peer's fast clock stays with its own keys.
// Safe for concurrent use.
type hybridClock struct{ last atomic.Uint64 }

// next issues a timestamp greater than floor, in nanoseconds since 1970. It fails where that would be more than maxAhead
// ahead of the wall clock.
func (c *hybridClock) next(wall time.Time, floor uint64) (uint64, error) {
	now := uint64(wall.UnixNano())
	limit := now + uint64(maxAhead)
	var t uint64
	for {
		last := c.last.Load()
		t = max(now, last+1)
		if t > limit { // the wall clock was set back: start again from it
			t = now
		}
		if c.last.CompareAndSwap(last, t) {
			break
		}
	}
	if floor >= t {
		t = floor + 1
		if t > limit || t == 0 {
			return 0, fmt.Errorf("the version to replace is stamped %v ahead of this node's clock (%s), which is more than %v: compare the clocks of the nodes",
				time.Duration(floor-now).Round(time.Millisecond), wall.UTC().Format(time.RFC3339), maxAhead)
		}
	}
	return t, nil
}
