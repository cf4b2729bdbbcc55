package antientropy

import (
	"time"
)

// Bounds of one message of hints.
const (
	firstBatch = 8         // objects, at the beginning
	mostBatch  = 256       // objects
	batchBytes = 256 << 10 // of objects; a larger object travels alone
	harmless   = 5 * time.Millisecond
)

// pace finds how many objects a message to one target may have, by how long it takes to answer: one more step as long as a message takes less
// than twice the best time seen, half of it above. A target that is slow because it has work to do is left to do it.
type pace struct {
	size int
	best time.Duration // fastest message; it is forgotten slowly, since what was once fast may never be so again
}

func (p *pace) batch() int {
	if p.size == 0 {
		p.size = firstBatch
	}
	return p.size
}

// took counts a message that was answered, and returns how long to pause for the target's sake.
func (p *pace) took(d time.Duration) time.Duration {
	if p.best == 0 || d < p.best {
		p.best = d
	}
	slow := d > max(2*p.best, harmless)
	p.best += p.best / 64
	if slow {
		p.size = max(p.batch()/2, 1)
		return min(d, time.Second)
	}
	p.size = min(p.batch()+firstBatch, mostBatch)
	return 0
}

// failed counts a message that was not answered: whatever stood in the way, the next one is small.
func (p *pace) failed() { p.size = max(p.batch()/8, 1) }

// meter counts events of the last seconds.
type meter struct {
	seconds [meterSeconds]uint64
	at      int64 // the second of the newest, Unix
}

const meterSeconds = 5

func (m *meter) turn(now time.Time) {
	second := now.Unix()
	if second-m.at >= meterSeconds || second < m.at {
		*m = meter{at: second}
	}
	for m.at < second {
		m.at++
		m.seconds[m.at%meterSeconds] = 0
	}
}

func (m *meter) add(now time.Time, n int) {
	m.turn(now)
	m.seconds[m.at%meterSeconds] += uint64(n)
}

// rate is events per second.
func (m *meter) rate(now time.Time) float64 {
	m.turn(now)
	sum := uint64(0)
	for _, n := range m.seconds {
		sum += n
	}
	return float64(sum) / meterSeconds
}
