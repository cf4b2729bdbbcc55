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

// passing is a moment of the replay at which a version may begin to be missing, since it expires.
type passing struct {
	at    int64
	write int // its operation
}

// passings are in the order of time.
func (h *history) passings() []passing {
	var out []passing
	for _, i := range h.writes {
		if o := h.ops[i]; o.Expires != 0 && o.Kind == Put && o.Outcome != Fail {
			out = append(out, passing{o.fades(), i})
		}
	}
	slices.SortStableFunc(out, func(a, b passing) int { return cmp.Compare(a.at, b.at) })
	return out
}

// floor is what a read has to include, or not to show, when it begins.
type floor struct {
	written      set // strict writes acknowledged so far
	acknowledged set // writes acknowledged so far
	included     set // what strict reads have included so far
	erased       set // what strict deletes acknowledged so far have replaced
}

// progress is what is known at one moment of the replay.
type progress struct {
	floor
	invoked  int // writes
	deleted  set // deletes begun so far that may have happened, puts that may have expired, and all that either may have replaced
	dropped  set // what writes begun so far may have replaced without carrying its elements
	sessions map[string]*set
	waiting  map[int]start // reads under way
}

// start is what is known of a read when it begins.
type start struct {
	floor
	source int // the operation that its context came from
}

// replay goes through the history in the order of time, finds out what each operation covers, and judges each read.
func (h *history) replay() {
	p := &progress{sessions: map[string]*set{}, waiting: map[int]start{}}
	passing := h.passings()
	for _, e := range h.events() {
		for ; len(passing) > 0 && passing[0].at <= e.at && h.ops[passing[0].write].Invoke < e.at; passing = passing[1:] {
			h.expire(p, passing[0].write)
		}
		switch o := h.ops[e.op]; {
		case o.write() && !e.end:
			h.beginWrite(p, e.op)
		case o.Outcome != OK:
		case o.write():
			h.endWrite(p, e.op)
		case !e.end:
			p.waiting[e.op] = start{h.floor(p, e.op), h.source(e.op)}
		default:
			h.endRead(p, e.op, p.waiting[e.op])
			delete(p.waiting, e.op)
		}
	}
}

// floor is what this read will be held against: only a strict or a final one is promised anything of what others did.
func (h *history) floor(p *progress, op int) floor {
	var f floor
	if h.ops[op].Strict {
		f.written, f.included, f.erased = p.written.clone(), p.included.clone(), p.erased.clone()
	}
	if h.ops[op].Final {
		f.acknowledged = p.acknowledged.clone()
	}
	return f
}

func (h *history) beginWrite(p *progress, op int) {
	o, n := h.ops[op], h.number[op]
	p.invoked++
	h.past[n] = h.replaced(op)
	if o.Kind == Delete && o.Outcome != Fail {
		p.deleted.add(n)
		p.deleted.join(h.past[n].most)
	}
	if len(h.byElement) > 0 && o.drops() {
		p.dropped.join(h.past[n].most)
	}
}

// expire notes that the version of a put may be missing from now on, as if it had been deleted.
func (h *history) expire(p *progress, op int) {
	n := h.number[op]
	p.deleted.add(n)
	p.deleted.join(h.past[n].most)
	if len(h.byElement) > 0 {
		p.dropped.add(n)
		p.dropped.join(h.past[n].most)
	}
}

func (h *history) endWrite(p *progress, op int) {
	h.shown(op, p.invoked)
	o, n := h.ops[op], h.number[op]
	c := h.past[n].clone()
	c.add(n)
	h.answer(op, c)
	p.acknowledged.add(n)
	if o.Strict {
		p.written.add(n)
		if o.Kind == Delete {
			p.erased.join(h.past[n].least)
		}
	}
	if o.Session != "" {
		p.session(o.Session).join(c.least)
	}
}

func (h *history) endRead(p *progress, op int, began start) {
	o := h.ops[op]
	c := h.shown(op, p.invoked)
	c.most.join(p.deleted)
	h.answer(op, c)
	h.judgeContext(op, began.source)
	h.judgeExpiry(op)
	h.judgeElements(op, began.floor, p)
	if o.Strict {
		h.strictReads++
		h.judgeQuorum(op, began.floor)
		if !o.Minority {
			p.included.join(c.least)
		}
	}
	if o.Session != "" {
		h.judgeSession(op, *p.session(o.Session))
		p.session(o.Session).join(c.least)
	}
	if o.Final {
		h.finals = append(h.finals, op)
	}
}

func (p *progress) session(name string) *set {
	if p.sessions[name] == nil {
		p.sessions[name] = new(set)
	}
	return p.sessions[name]
}

// givers are the operations that answered with one token.
type givers struct {
	first int
	last  map[string]int // by client
}

func (h *history) answer(op int, c bounds) {
	h.covers[op] = c
	t := h.ops[op].ContextOut
	if t == "" {
		return
	}
	if _, known := h.byToken[t]; !known {
		h.byToken[t] = givers{op, map[string]int{}}
	}
	h.byToken[t].last[h.ops[op].Client] = op
}

// none stands for an operation that there is not.
const none = -1

// source is the operation that the context sent by op came from: the client's own last one that answered with it, else the
// first of anybody's. It has to be looked up when op begins, lest an operation be held against its own answer.
func (h *history) source(op int) int {
	o := h.ops[op]
	given, known := h.byToken[o.ContextIn]
	if !known {
		return none
	}
	if i, own := given.last[o.Client]; own {
		return i
	}
	return given.first
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
	source := h.source(op)
	if source == none {
		h.blame(Malformed, "nobody had been given the context that it sent", op)
		return bounds{}
	}
	return h.covers[source].clone()
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
