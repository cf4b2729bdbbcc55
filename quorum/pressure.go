package quorum

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	pressureWindow = 500 * time.Millisecond // of which averages are taken
	pressureFloor  = 200 * time.Microsecond // added to both sides of the ratio: what is far below it is noise
	pressureMost   = 100                    // the largest ratio that is told
	pressureCap    = 32                     // times the usual: more of one operation does not count
	pressureWarmUp = 20                     // windows in which what is usual is only learnt
)

// pace follows how long one kind of operation takes: an average over the last second or so, and what is usual, which follows quicker windows within
// seconds and slower ones slowly (it doubles in about three minutes), so that it stays near the lower third of what was seen for long. Safe for concurrent
// use; noting an operation is two atomic additions.
type pace struct {
	sum   atomic.Int64 // nanoseconds, of this window
	count atomic.Int64
	cap   atomic.Int64 // nanoseconds that one operation counts at most; 0 = no limit yet
	end   atomic.Int64 // nanoseconds since the coordinator began: of this window; 0 = none has begun

	mu      sync.Mutex // guards what follows; taken once in a window
	windows int        // seen, up to pressureWarmUp
	short   float64    // nanoseconds
	usual   float64
	ratio   atomic.Int64 // thousandths; 0 = 1
}

// note adds an operation that took this long and ended at now, nanoseconds since the coordinator began.
func (p *pace) note(now int64, took time.Duration) {
	t := int64(max(took, 0))
	if most := p.cap.Load(); most > 0 {
		t = min(t, most)
	}
	p.sum.Add(t)
	p.count.Add(1)
	if now >= p.end.Load() {
		p.roll(now, true)
	}
}

// roll ends the window where its time is over. Where nothing was seen in it the average falls back to what is usual, unless operations are
// under way: they may be what is slow.
func (p *pace) roll(now int64, busy bool) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	end := p.end.Load()
	if now < end {
		return
	}
	count := p.count.Swap(0)
	sum := p.sum.Swap(0)
	p.end.Store(now + int64(pressureWindow))
	switch {
	case end == 0 && count == 0:
		return
	case count > 0:
		p.window(float64(sum) / float64(count))
	case !busy:
		for idle := now - end; idle >= 0 && p.short > p.usual*1.01; idle -= int64(pressureWindow) {
			p.short += (p.usual - p.short) / 2
		}
	}
	ratio := (p.short + float64(pressureFloor)) / (p.usual + float64(pressureFloor))
	p.ratio.Store(int64(1000 * min(max(ratio, 1), pressureMost)))
}

// window adds the average of one window.
func (p *pace) window(mean float64) {
	switch {
	case p.windows < pressureWarmUp:
		p.windows++
		p.usual += (mean - p.usual) / float64(p.windows)
		p.short = p.usual
	case mean < p.usual:
		p.usual += (mean - p.usual) / 16
	default:
		p.usual = min(mean, p.usual*1.002)
	}
	p.short += (mean - p.short) / 2
	p.cap.Store(int64(pressureCap * (p.usual + float64(pressureFloor))))
}

// pressure is the ratio now.
func (p *pace) pressure(now int64, busy bool) float64 {
	if now >= p.end.Load() {
		p.roll(now, busy)
	}
	return max(float64(p.ratio.Load())/1000, 1)
}

// Pressure is how much slower the operations of clients are here than usual: 1 = as usual, never less, at most 100. Background work waits as it
// grows. Reads, writes, and merges for other coordinators count each for themselves. It is cheap.
func (c *Coordinator) Pressure() float64 {
	now := int64(time.Since(c.began))
	most := c.readPace.pressure(now, c.reads.n.Load() > 0)
	most = max(most, c.writePace.pressure(now, c.writes.n.Load() > 0))
	return max(most, c.replica.mergePace.pressure(int64(time.Since(c.replica.began)), false))
}

// paced notes an operation of a client that began at began.
func (c *Coordinator) paced(p *pace, began time.Time) {
	now := time.Now()
	p.note(int64(now.Sub(c.began)), now.Sub(began))
}
