package check

import (
	"sync"
	"time"
)

// Recorder collects a history from many goroutines. The zero Recorder is ready. No two events get the same time, even where
// the clock stands still meanwhile, as virtual time does: what was noted first has the earlier one, by a nanosecond at least.
type Recorder struct {
	mu    sync.Mutex
	start time.Time
	last  int64 // time of the latest event
	ops   []Op
}

// tick is the time of an event that happens now. The caller holds the lock.
func (r *Recorder) tick() int64 {
	if r.start.IsZero() {
		r.start = time.Now()
	}
	r.last = max(int64(time.Since(r.start)), r.last+1)
	return r.last
}

// Invoke notes that o begins now, and returns its number. Until Return is called its outcome is Unknown, which is also what
// it stays where a client dies.
func (r *Recorder) Invoke(o Op) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Outcome, o.Return = len(r.ops), Unknown, 0
	o.Invoke = r.tick()
	r.ops = append(r.ops, o)
	return o.ID
}

// Return notes that operation id has ended now. answer fills in what came back, Outcome first; it runs
// under the recorder's lock.
func (r *Recorder) Return(id int, answer func(*Op)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.ops[id]
	o.Return = r.tick()
	answer(o)
}

// History is a copy of what was recorded so far.
func (r *Recorder) History() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Op(nil), r.ops...)
}
