package verify

import (
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/check"
)

// chunk is how many operations are allocated at once: growing never copies what is there.
const chunk = 1 << 12

// record is the history under way, with figures of the last moments. Safe for concurrent use.
type record struct {
	start time.Time // 0 of the history's clock

	mu     sync.Mutex
	last   int64 // time given last
	chunks [][]check.Op
	count  int
	window window
	events []Event
	told   int // events that progress has shown
}

// window is what ended since progress was last told.
type window struct {
	since               time.Time
	ok, failed, unknown int
	latencies           []time.Duration // of those that are ok
}

func newRecord() *record {
	now := time.Now()
	return &record{start: now, window: window{since: now}}
}

// now is the time of the history's clock. It never gives one time twice, so that whatever came after something else is later,
// in virtual time too.
func (r *record) now() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tick()
}

// tick is now with the lock held.
func (r *record) tick() int64 {
	r.last = max(int64(time.Since(r.start)), r.last+1)
	return r.last
}

// invoke notes that o begins now and returns its number; false where the history is full.
func (r *record) invoke(o *check.Op) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count >= MaxOps {
		return 0, false
	}
	o.Invoke, o.Return, o.Outcome = r.tick(), 0, check.Unknown
	return r.append(o), true
}

func (r *record) append(o *check.Op) int {
	o.ID = r.count
	if r.count%chunk == 0 {
		r.chunks = append(r.chunks, make([]check.Op, 0, chunk))
	}
	last := &r.chunks[len(r.chunks)-1]
	*last = append(*last, *o)
	r.count++
	return o.ID
}

// done notes that operation id has ended now, as o says.
func (r *record) done(id int, o *check.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Return = id, r.tick()
	r.chunks[id/chunk][id%chunk] = *o
	switch o.Outcome {
	case check.OK:
		r.window.ok++
		r.window.latencies = append(r.window.latencies, time.Duration(o.Return-o.Invoke))
	case check.Fail:
		r.window.failed++
	default:
		r.window.unknown++
	}
}

// add notes an operation that is over. Final reads count beyond MaxOps: their number is bounded by the keys.
func (r *record) add(o check.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.append(&o)
}

// history is a copy of all operations so far.
func (r *record) history() []check.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.chunks...)
}

func (r *record) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, Event{At: time.Since(r.start), Text: text})
}

// Event is something that happened to the cluster.
type Event struct {
	At   time.Duration `json:"at_ns"` // since the Verifier was made
	Text string        `json:"text"`
}

// take fills in the figures since the last call, and begins anew.
func (r *record) take(p *Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	now := time.Now()
	p.Elapsed, p.Over, p.Ops = now.Sub(r.start), now.Sub(w.since), r.count
	p.OK, p.Failed, p.Unknown = w.ok, w.failed, w.unknown
	if n := len(w.latencies); n > 0 {
		slices.Sort(w.latencies)
		p.P99 = w.latencies[(n*99+99)/100-1]
	}
	r.window = window{since: now, latencies: w.latencies[:0]}
	p.Events = slices.Clone(r.events[r.told:])
	r.told = len(r.events)
}

// all are the events so far.
func (r *record) all() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}
