package load

import (
	"runtime"
	"time"
)

// pace hands out the instants at which operations are due, at a fixed rate from the beginning of the run to its end, and then
// closes the schedule. It never skips one: where the connections do not keep up, the instants lie in the past. It returns
// how many operations were due.
func (r *run) pace(schedule chan<- time.Time) uint64 {
	defer close(schedule)
	runtime.LockOSThread() // sleep is the thread's own, finer than the runtime's timers
	defer runtime.UnlockOSThread()
	interval := float64(time.Second) / r.config.Rate
	total := uint64(float64(r.end.Sub(r.began)) / interval)
	for i := range total {
		due := r.began.Add(time.Duration(float64(i) * interval))
		if wait := time.Until(due); wait > 0 {
			sleep(wait)
		}
		for {
			select {
			case schedule <- due:
			default: // all connections are busy and the buffer is full
				if r.stop.Load() || time.Now().After(r.end) {
					return r.due(i)
				}
				sleep(50 * time.Microsecond)
				continue
			}
			break
		}
		if r.stop.Load() {
			return r.due(i + 1)
		}
	}
	return total
}

// due is how many operations should have been sent by now, at least handed.
func (r *run) due(handed uint64) uint64 {
	past := min(time.Since(r.began), r.end.Sub(r.began))
	return max(handed, uint64(past.Seconds()*r.config.Rate))
}
