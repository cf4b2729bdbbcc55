package quorum

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/plant"
)

// noticeAhead is how far ahead of this node's clock a timestamp must be to be reported as skew.
const noticeAhead = 5 * time.Second

// latestTime is the last timestamp that is taken for one, in the year 2250: later ones leave no room to count on.
const latestTime = 280 * 365 * 24 * uint64(time.Hour)

// hybridClock issues timestamps of writes: hybrid logical time (Kulkarni et al. 2014) whose logical part is the
// nanoseconds. A timestamp is later than the wall clock, than those issued before, and than everything that the write
// replaces, however wrong the clocks are. What it replaces does not push later timestamps of other keys: one peer's fast clock stays
// with its own keys. Safe for concurrent use.
type hybridClock struct{ last atomic.Uint64 }

// next issues a timestamp greater than floor, in nanoseconds since 1970. It fails only where there is none.
func (c *hybridClock) next(wall time.Time, floor uint64) (uint64, error) {
	now := uint64(max(0, wall.UnixNano())) // a clock before 1970 stands at 1970
	var t uint64
	for {
		last := c.last.Load()
		t = max(now, last+1)
		if last > now+uint64(time.Minute) { // the wall clock was set back: start again from it
			t = now
		}
		if c.last.CompareAndSwap(last, t) {
			break
		}
	}
	if plant.On(plant.WallClockOnly) {
		return t, nil
	}
	t = max(t, floor+1)
	if t > latestTime || floor >= latestTime {
		return 0, fmt.Errorf("it would be stamped after the year 2250: this node's clock says %s, and what it replaces is stamped %d ns after 1970", wall.UTC().Format(time.RFC3339), floor)
	}
	return t, nil
}

// now is the wall clock, or the last timestamp issued where that is a little ahead of it.
func (c *hybridClock) now(wall time.Time) uint64 {
	now, last := uint64(max(0, wall.UnixNano())), c.last.Load()
	if last > now+uint64(time.Minute) {
		return now
	}
	return max(now, last)
}
