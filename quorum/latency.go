package quorum

import (
	"math"
	"slices"
	"time"
)

const (
	latencyWindow  = 128                    // samples that the percentile looks back on
	latencyRefresh = 16                     // samples between two computations of it
	latencyPrior   = 20 * time.Millisecond  // p95 before there are samples
	latencyFloor   = 500 * time.Microsecond // p95 is never said to be less: timers are no finer under load
	latencyUnknown = time.Millisecond       // the average of a replica without samples, so that its load counts
	latencyHalf    = 2 * time.Second        // half-life of an average that gets no samples
)

// latency estimates how fast one replica answers reads: a moving average, to choose between replicas, and the 95th
// percentile, to know when an answer is late. It is fed by that replica's answers only, never by whole requests, which
// would make the percentile feed on itself. It is pure: the caller locks and tells the time.
type latency struct {
	mean    float64 // nanoseconds; 0 = no sample
	at      time.Time
	p95     time.Duration
	samples [latencyWindow]uint32 // microseconds, a ring
	n       int                   // samples ever
}

// observe adds the time that one answer took.
func (l *latency) observe(now time.Time, took time.Duration) {
	l.shift(now, took)
	l.samples[l.n%latencyWindow] = uint32(min(took/time.Microsecond, math.MaxUint32))
	l.n++
	if l.n%latencyRefresh == 0 {
		var space [latencyWindow]uint32
		have := append(space[:0], l.samples[:min(l.n, latencyWindow)]...)
		slices.Sort(have)
		l.p95 = time.Duration(have[len(have)*95/100]) * time.Microsecond
	}
}

// late notes that an answer has not come within took. It makes the replica look as slow as it is at once, and leaves the
// percentile to the answer itself.
func (l *latency) late(now time.Time, took time.Duration) {
	if float64(took) > l.mean {
		l.shift(now, took)
		l.mean = max(l.mean, float64(took)/2)
	}
}

func (l *latency) shift(now time.Time, took time.Duration) {
	if l.mean == 0 {
		l.mean = float64(took)
	} else {
		l.mean += (float64(took) - l.mean) / 8
	}
	l.at = now
}

// percentile is the 95th percentile of recent answers, with a little on top: where all answers take the same time none of
// them is late.
func (l *latency) percentile() time.Duration {
	if l.n < latencyRefresh {
		return latencyPrior
	}
	return max(l.p95+l.p95/8, latencyFloor)
}

// score ranks replicas, lower first: the average times the load already there. An average that has had no sample for a
// while fades, so that a replica which was slow is tried again; but only by one request at a time.
func (l *latency) score(now time.Time, inFlight int) float64 {
	mean := l.mean
	if mean == 0 {
		mean = float64(latencyUnknown)
	}
	if inFlight == 0 {
		if age := now.Sub(l.at); age > 0 {
			mean *= math.Exp2(-float64(age) / float64(latencyHalf))
		}
	}
	return mean * float64(1+inFlight)
}
