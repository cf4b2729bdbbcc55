package check

import (
	"slices"
	"time"
)

// Summary are the figures of a history, exact as far as the history goes. Reads marked Final are a harness's, after the load:
// only Finals and Set count them. Times in JSON are nanoseconds.
type Summary struct {
	Ops     int           `json:"ops"`     // with the final reads
	Finals  int           `json:"finals"`  // final reads
	Keys    int           `json:"keys"`    // different keys
	Clients int           `json:"clients"` // different clients
	Span    time.Duration `json:"span_ns"` // from the first invocation to the last known event

	All   Count            `json:"all"`
	Kinds map[Kind]Count   `json:"kinds"`           // a kind without operations is absent
	Nodes map[string]Count `json:"nodes,omitempty"` // by the node asked, where the history names it

	// Silence is the longest time within Span in which no operation succeeded: between two successes, before the first or after
	// the last. Nobody may have asked in that time. SilentSeconds are how many whole seconds of Span, counted from its begin,
	// saw no success.
	Silence       time.Duration `json:"silence_ns"`
	SilentSeconds int           `json:"silent_seconds"`

	Reads  Quantiles `json:"read_latency"`  // from invocation to return, of OK reads
	Writes Quantiles `json:"write_latency"` // the same of OK puts and deletes

	Staleness Staleness `json:"staleness"`
	Set       Set       `json:"set"`
}

// Count are operations by outcome.
type Count struct {
	OK      int `json:"ok"`
	Fail    int `json:"fail"`
	Unknown int `json:"unknown"` // given up: a timeout, a broken connection, a server error
	Open    int `json:"open"`    // unknown too, but still under way when the record ended: no Return
	// Available is OK of OK, Fail and Unknown: whoever gave up was not served. 0 to 1; 0 if there were none.
	Available float64 `json:"available"`
}

// Quantiles are taken from all N values: P50 and P99 are the smallest value that at least so many percent do not exceed.
type Quantiles struct {
	N   int           `json:"n"`
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// Staleness is how old the answers of OK reads were that were promised nothing: not Strict, without a context.
type Staleness struct {
	Reads int `json:"reads"`
	// Stale reads missed a write acknowledged before they began: one that they did not show, and that nothing they showed had
	// replaced. Where a key has deletes or writes without a context these are the certain ones: at least so many.
	Stale int `json:"stale"`
	// Age is, of each stale read, the time from the acknowledgement of the first write that it missed to its own invocation.
	Age Quantiles `json:"age"`
}

// Set is how long elements added to sets took until all saw them. An element is known from the acknowledgement of its add, or
// from the return of the first read that showed it, whichever is earlier. Reads are all OK reads of the key, final ones too.
type Set struct {
	Elements int `json:"elements"` // known ones
	// Lost are those that the last read begun since they were known did not show; whether the store had promised to show them
	// is for LostElement to say.
	Lost int `json:"lost"`
	// Unread are those since which no read began.
	Unread int `json:"unread"`
	// Stable is, of all others, the time from known to the invocation of the last read that missed it; 0 if none did.
	Stable Quantiles `json:"stable"`
}

// Summarize counts and measures. It judges nothing; History does.
func Summarize(ops []Op) Summary {
	s := Summary{Ops: len(ops), Kinds: map[Kind]Count{}, Nodes: map[string]Count{}}
	clients := map[string]bool{}
	var load []Op
	var reads, writes []time.Duration
	for _, o := range ops {
		clients[o.Client] = true
		if o.Final {
			s.Finals++
			continue
		}
		load = append(load, o)
		s.All = s.All.plus(o)
		s.Kinds[o.Kind] = s.Kinds[o.Kind].plus(o)
		if o.Node != "" {
			s.Nodes[o.Node] = s.Nodes[o.Node].plus(o)
		}
		switch took := time.Duration(o.Return - o.Invoke); {
		case o.Outcome != OK:
		case o.write():
			writes = append(writes, took)
		default:
			reads = append(reads, took)
		}
	}
	s.Clients = len(clients)
	s.Reads, s.Writes = quantiles(reads), quantiles(writes)
	s.measureSilence(load)

	var ages, stable []time.Duration
	for _, h := range histories(ops) {
		s.Keys++
		h.replay()
		ages = append(ages, h.staleness(&s.Staleness)...)
		stable = append(stable, h.stability(&s.Set)...)
	}
	s.Staleness.Age, s.Set.Stable = quantiles(ages), quantiles(stable)
	return s
}

func (c Count) plus(o Op) Count {
	switch {
	case o.Outcome == OK:
		c.OK++
	case o.Outcome == Fail:
		c.Fail++
	case o.Return > 0:
		c.Unknown++
	default:
		c.Open++
	}
	if ended := c.OK + c.Fail + c.Unknown; ended > 0 {
		c.Available = float64(c.OK) / float64(ended)
	}
	return c
}

func quantiles(all []time.Duration) Quantiles {
	n := len(all)
	if n == 0 {
		return Quantiles{}
	}
	slices.Sort(all)
	at := func(percent int) time.Duration { return all[(n*percent+99)/100-1] }
	return Quantiles{N: n, P50: at(50), P99: at(99), Max: all[n-1]}
}

// measureSilence fills in Span and the times without a success.
func (s *Summary) measureSilence(ops []Op) {
	if len(ops) == 0 {
		return
	}
	begin, end := ops[0].Invoke, ops[0].Invoke
	var successes []int64
	for _, o := range ops {
		begin, end = min(begin, o.Invoke), max(end, o.Invoke, o.Return)
		if o.Outcome == OK {
			successes = append(successes, o.Return)
		}
	}
	slices.Sort(successes)
	s.Span = time.Duration(end - begin)
	seconds := int(s.Span / time.Second)
	last, served := begin, -1 // the latest success, and the second it was in
	for _, at := range successes {
		s.Silence = max(s.Silence, time.Duration(at-last))
		last = at
		if second := int((at - begin) / int64(time.Second)); second < seconds && second > served {
			s.SilentSeconds += second - served - 1
			served = second
		}
	}
	s.SilentSeconds += seconds - served - 1
	s.Silence = max(s.Silence, time.Duration(end-last))
}
