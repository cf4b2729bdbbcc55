package check

import (
	"sync"
	"time"
)

// Recorder collects a history from many goroutines. The zero Recorder is ready.
type Recorder struct {
	mu    sync.Mutex
	start time.Time
	ops   []Op
}

// Invoke notes that o begins now, and returns its number. Until Return is called its outcome is Unknown, which is also what
// it stays where a client dies.
func (r *Recorder) Invoke(o Op) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() {
		r.start = time.Now()
	}
	o.ID, o.Outcome, o.Return = len(r.ops), Unknown, 0
	o.Invoke = int64(time.Since(r.start))
	r.ops = append(r.ops, o)
	return o.ID
}

// Return notes that operation id has ended now. answer fills in what came back: Outcome, ContextOut, Values, Strict.
func (r *Recorder) Return(id int, answer func(*Op)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.ops[id]
	o.Return = int64(time.Since(r.start))
	answer(o)
}

// History is a copy of what was recorded so far.
func (r *Recorder) History() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Op(nil), r.ops...)
}
