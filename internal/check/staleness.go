package check

import (
	"cmp"
	"slices"
	"time"
)

// staleness counts the reads of one key that were promised nothing, and returns the ages of the stale ones.
func (h *history) staleness(s *Staleness) []time.Duration {
	var acknowledged []int // by time of acknowledgement
	for n, i := range h.writes {
		if h.ops[i].Outcome == OK {
			acknowledged = append(acknowledged, n)
		}
	}
	at := func(n int) int64 { return h.ops[h.writes[n]].Return }
	slices.SortStableFunc(acknowledged, func(a, b int) int { return cmp.Compare(at(a), at(b)) })
	var ages []time.Duration
	for i, o := range h.ops {
		if o.Kind != Read || o.Outcome != OK || o.Strict || o.Final || o.ContextIn != "" {
			continue
		}
		s.Reads++
		for _, n := range acknowledged {
			if at(n) >= o.Invoke {
				break
			}
			if !h.covers[i].most.has(n) {
				s.Stale++
				ages = append(ages, time.Duration(o.Invoke-at(n)))
				break
			}
		}
	}
	return ages
}

// stability counts the elements of one key, and returns how long those took that became stable.
func (h *history) stability(s *Set) []time.Duration {
	known := map[int]int64{} // by number of the add
	know := func(n int, at int64) {
		if was, ok := known[n]; !ok || at < was {
			known[n] = at
		}
	}
	for _, n := range h.byElement {
		if o := h.ops[h.writes[n]]; o.Outcome == OK {
			know(n, o.Return)
		}
	}
	var reads []int // in the order of invocation
	var shown []set // by each of them
	for i, o := range h.ops {
		if o.Kind != Read || o.Outcome != OK || len(h.byElement) == 0 {
			continue
		}
		var elements set
		for _, e := range o.Elements {
			if n, added := h.byElement[e]; added {
				elements.add(n)
				know(n, o.Return)
			}
		}
		reads, shown = append(reads, i), append(shown, elements)
	}
	s.Elements += len(known)
	var stable []time.Duration
	for n, since := range known {
		last := len(reads) - 1
		missed := last
		for missed >= 0 && shown[missed].has(n) && h.ops[reads[missed]].Invoke > since {
			missed--
		}
		absent := missed >= 0 && h.ops[reads[missed]].Invoke > since
		switch {
		case last < 0 || h.ops[reads[last]].Invoke <= since:
			s.Unread++
		case absent && missed == last:
			s.Lost++
		case absent:
			stable = append(stable, time.Duration(h.ops[reads[missed]].Invoke-since))
		default:
			stable = append(stable, 0)
		}
	}
	return stable
}
