package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// String is the summary for people, on a few lines. What the history has none of is left out.
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations by %d clients on %d keys in %v, %d final reads among them", s.Ops, s.Clients, s.Keys, s.Span, s.Finals)
	fmt.Fprintf(&b, "\nall: %v", s.All)
	for _, kind := range slices.Sorted(maps.Keys(s.Kinds)) {
		fmt.Fprintf(&b, "\n%s: %v", kind, s.Kinds[kind])
	}
	for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
		fmt.Fprintf(&b, "\nnode %s: %v", node, s.Nodes[node])
	}
	fmt.Fprintf(&b, "\nlongest time without a success: %v; whole seconds without one: %d", s.Silence, s.SilentSeconds)
	if s.Reads.N > 0 {
		fmt.Fprintf(&b, "\nread latency: %v", s.Reads)
	}
	if s.Writes.N > 0 {
		fmt.Fprintf(&b, "\nwrite latency: %v", s.Writes)
	}
	if s.Staleness.Reads > 0 {
		fmt.Fprintf(&b, "\nstale: %d of %d weak reads", s.Staleness.Stale, s.Staleness.Reads)
	}
	if s.Staleness.Stale > 0 {
		fmt.Fprintf(&b, ", by %v", s.Staleness.Age)
	}
	if s.Set.Elements > 0 {
		fmt.Fprintf(&b, "\nset elements: %d known, %d lost, %d not read since", s.Set.Elements, s.Set.Lost, s.Set.Unread)
	}
	if s.Set.Stable.N > 0 {
		fmt.Fprintf(&b, ", stable after %v", s.Set.Stable)
	}
	return b.String()
}

// String is the count on a part of a line.
func (c Count) String() string {
	return fmt.Sprintf("%.2f %% available: %d ok, %d failed, %d unknown, %d still open", 100*c.Available, c.OK, c.Fail, c.Unknown, c.Open)
}

// String is the quantiles on a part of a line, to three digits or so.
func (q Quantiles) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, at most %v", digits(q.P50), digits(q.P99), digits(q.Max))
}

// digits rounds to what people read.
func digits(d time.Duration) time.Duration {
	for unit := time.Second; unit >= 1000; unit /= 10 {
		if d >= 100*unit {
			return d.Round(unit)
		}
	}
	return d
}
