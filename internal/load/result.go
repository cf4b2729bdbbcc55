package load

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency sums up a distribution of times.
type Latency struct {
	Min, Mean, P50, P90, P95, P99, P999, P9999, Max time.Duration
}

// Operation is what was measured of one kind of operation.
type Operation struct {
	Count   uint64            // answered, reads of missing keys included
	Misses  uint64            // reads of keys that are not there
	Rate    float64           // Count per second
	Errors  map[string]uint64 // failed operations by problem code, or by how the connection failed
	Latency Latency           // of Count; in an open loop from the instant an operation was due
}

// Failed is the number of operations that failed.
func (o Operation) Failed() uint64 {
	n := uint64(0)
	for _, c := range o.Errors {
		n += c
	}
	return n
}

// CPU is processor time, user and system, over the measured time.
type CPU struct {
	Total time.Duration
	PerOp time.Duration // Total over all operations, failed ones included
}

// Result is what a run measured.
type Result struct {
	Config      Config        // as it ran, defaults filled in
	Elapsed     time.Duration // that was measured
	Reads       Operation
	Writes      Operation
	All         Operation
	Late        Latency // open loop: from due to sent, because no connection was free or the generator was late
	Unsent      uint64  // open loop: operations that were due and never sent, because the servers fell behind
	Target      CPU     // of Config.PIDs; zero where there are none
	Generator   CPU     // of this process
	Loaded      uint64  // keys written before
	LoadFailed  map[string]uint64
	LoadTime    time.Duration
	Interrupted bool // the context ended the run early
}

// Latencies between these are told apart with three significant digits.
const (
	lowest  = int64(100)
	highest = int64(10 * time.Minute)
	shards  = 16
)

// tally counts the operations of some connections.
type tally struct {
	mu     sync.Mutex
	kinds  [2]*hdrhistogram.Histogram // read, write
	late   *hdrhistogram.Histogram
	misses uint64
	errors [2]map[string]uint64
	_      [64]byte // no two tallies on one cache line
}

// Kinds of operations, as indexes.
const (
	kindRead = iota
	kindWrite
)

func newTally() *tally {
	t := &tally{late: hdrhistogram.New(lowest, highest, 3)}
	for i := range t.kinds {
		t.kinds[i] = hdrhistogram.New(lowest, highest, 3)
		t.errors[i] = map[string]uint64{}
	}
	return t
}

// record counts an operation that was answered. late is how long it had to wait to be sent.
func (t *tally) record(kind int, took, late time.Duration, miss bool) {
	t.mu.Lock()
	record(t.kinds[kind], took)
	if late > 0 {
		record(t.late, late)
	}
	if miss {
		t.misses++
	}
	t.mu.Unlock()
}

// record clamps, so that a histogram never refuses a value.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	if err := h.RecordValue(min(max(int64(d), 0), highest)); err != nil {
		panic("load: latency out of range: " + err.Error()) // not reached: the value is clamped
	}
}

// fail counts an operation that failed.
func (t *tally) fail(kind int, code string) {
	t.mu.Lock()
	t.errors[kind][code]++
	t.mu.Unlock()
}

// done is the number of answered and of failed operations.
func (t *tally) done() (ok, failed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.kinds {
		ok += uint64(t.kinds[i].TotalCount())
		for _, n := range t.errors[i] {
			failed += n
		}
	}
	return ok, failed
}

// summarise merges all tallies into r. No connection records any more.
func (r *Result) summarise(tallies []*tally) {
	sum := newTally()
	all := hdrhistogram.New(lowest, highest, 3)
	failures := map[string]uint64{}
	for _, t := range tallies {
		for i := range t.kinds {
			sum.kinds[i].Merge(t.kinds[i])
			all.Merge(t.kinds[i])
			for code, n := range t.errors[i] {
				sum.errors[i][code] += n
				failures[code] += n
			}
		}
		sum.late.Merge(t.late)
		sum.misses += t.misses
	}
	operation := func(h *hdrhistogram.Histogram, misses uint64, errors map[string]uint64) Operation {
		o := Operation{Count: uint64(h.TotalCount()), Misses: misses, Errors: maps.Clone(errors), Latency: latency(h)}
		if r.Elapsed > 0 {
			o.Rate = float64(o.Count) / r.Elapsed.Seconds()
		}
		return o
	}
	r.Reads = operation(sum.kinds[kindRead], sum.misses, sum.errors[kindRead])
	r.Writes = operation(sum.kinds[kindWrite], 0, sum.errors[kindWrite])
	r.All = operation(all, sum.misses, failures)
	r.Late = latency(sum.late)
	if n := r.All.Count + r.All.Failed(); n > 0 {
		r.Target.PerOp = r.Target.Total / time.Duration(n)
		r.Generator.PerOp = r.Generator.Total / time.Duration(n)
	}
}

// latency reads the percentiles of a histogram.
func latency(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(p float64) time.Duration { return time.Duration(h.ValueAtPercentile(p)) }
	return Latency{
		Min: time.Duration(h.Min()), Mean: time.Duration(h.Mean()), P50: at(50), P90: at(90), P95: at(95), P99: at(99),
		P999: at(99.9), P9999: at(99.99), Max: time.Duration(h.Max()),
	}
}
