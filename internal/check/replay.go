package check

import (
	"cmp"
	"fmt"
	"slices"
)

// event is the begin or the end of an operation.
type event struct {
	at  int64
	op  int
	end bool
}

// events are in the order of time. At one instant ends come first, since what has ended is known to what begins; but an
// operation that takes no time begins before it ends.
func (h *history) events() []event {
	var out []event
	for i, o := range h.ops {
		out = append(out, event{o.Invoke, i, false})
		if o.Outcome != Unknown {
			out = append(out, event{max(o.Return, o.Invoke), i, true})
		}
	}
	rank := func(e event) int {
		switch {
		case !e.end:
			return 1
		case h.ops[e.op].Invoke < e.at:
			return 0
		}
		return 2
	}
	slices.SortStableFunc(out, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(rank(a), rank(b)))
	})
	return out
}

// replay goes through the history in the order of time, finds out what each operation covers, and judges each read.
func (h *history) replay() {
	var (
		written  set // strict writes acknowledged so far
		included set // what strict reads have included so far
		erased   set // what strict deletes acknowledged so far have replaced
		deleted  set // deletes begun so far that may have happened, and all that they may have replaced
		invoked  int
		sessions = map[string]*set{}
		floors   = make([]floor, len(h.ops)) // of each strict read
	)
	for _, e := range h.events() {
		o := h.ops[e.op]
		switch n := h.number[e.op]; {
		case !e.end && o.write():
			invoked++
			h.past[n] = h.replaced(e.op)
			if o.Kind == Delete && o.Outcome != Fail {
				deleted.add(n)
				deleted.join(h.past[n].most)
			}
		case !e.end:
			if o.Strict {
				floors[e.op] = floor{written.clone(), included.clone(), erased.clone()}
			}
		case o.Outcome != OK:
		case o.write():
			h.shown(e.op, invoked)
			c := h.past[n].clone()
			c.add(n)
			h.answer(e.op, c)
			if o.Strict {
				written.add(n)
				if o.Kind == Delete {
					erased.join(h.past[n].least)
				}
			}
			if o.Session != "" {
				session(sessions, o.Session).join(c.least)
			}
		default:
			c := h.shown(e.op, invoked)
			c.most.join(deleted)
			h.answer(e.op, c)
			h.judgeContext(e.op)
			if o.Strict {
				h.strictReads++
				h.judgeQuorum(e.op, floors[e.op])
				included.join(c.least)
			}
			if o.Session != "" {
				h.judgeSession(e.op, *session(sessions, o.Session))
				session(sessions, o.Session).join(c.least)
			}
			if o.Final {
				h.finals = append(h.finals, e.op)
			}
		}
	}
}

// floor is what a strict read has to include, or not to show, when it begins.
type floor struct{ written, included, erased set }

func session(sessions map[string]*set, name string) *set {
	if sessions[name] == nil {
		sessions[name] = new(set)
	}
	return sessions[name]
}

func (h *history) answer(op int, c bounds) {
	h.covers[op] = c
	if t := h.ops[op].ContextOut; t != "" {
		h.byToken[t] = append(h.byToken[t], op)
	}
}

// replaced is what a write covers by its context, and so replaces for good.
func (h *history) replaced(op int) bounds {
	o := h.ops[op]
	switch o.ContextIn {
	case Fresh:
		return bounds{}
	case "":
		// It replaces what its coordinator held: nothing for certain, and at most what had begun before it returned.
		n := len(h.writes)
		if o.Outcome != Unknown {
			n, _ = slices.BinarySearchFunc(h.writes, o.Return, func(w int, at int64) int { return cmp.Compare(h.ops[w].Invoke, at+1) })
		}
		return bounds{most: first(n)}
	}
	source, ok := h.source(op)
	if !ok {
		h.blame(Malformed, "nobody had been given the context that it sent", op)
		return bounds{}
	}
	return h.covers[source].clone()
}

// source is the operation that the context sent by op came from: the client's own last one that answered with it, else the
// first of anybody's.
func (h *history) source(op int) (int, bool) {
	o := h.ops[op]
	given := h.byToken[o.ContextIn]
	if len(given) == 0 {
		return 0, false
	}
	for _, i := range slices.Backward(given) {
		if h.ops[i].Client == o.Client {
			return i, true
		}
	}
	return given[0], true
}

// shown is what the versions in an answer cover: themselves, and all that they replaced. It judges them on the way.
func (h *history) shown(op, invoked int) bounds {
	var out bounds
	var numbers []int
	o := h.ops[op]
	for i, v := range o.Values {
		n, sent := h.byValue[v]
		switch {
		case slices.Contains(o.Values[:i], v):
			h.blame(Duplicate, fmt.Sprintf("%q is shown twice", v), op)
			continue
		case !sent:
			h.blame(Phantom, fmt.Sprintf("%q was never sent", v), op)
			continue
		case n >= invoked:
			h.blame(Phantom, fmt.Sprintf("%q is shown before it was sent", v), op, h.writes[n])
			continue
		case h.ops[h.writes[n]].Outcome == Fail:
			h.blame(Rejected, fmt.Sprintf("%q is shown, and its write was answered as not applied", v), op, h.writes[n])
		}
		numbers = append(numbers, n)
		out.join(h.past[n])
	}
	for _, n := range numbers {
		for _, by := range numbers {
			if h.past[by].least.has(n) {
				h.blame(Stale, fmt.Sprintf("%s is shown beside %s, which replaced it", h.name(n), h.name(by)), op, h.writes[n], h.writes[by])
			}
		}
	}
	for _, n := range numbers {
		out.add(n)
	}
	return out
}
