package vclock

import (
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// dotSet is the naive model of a clock: every dot, one by one.
type dotSet map[Dot]bool

func (m dotSet) clock(pick func(n int) int) Clock {
	// Any order of insertion must give the same clock.
	dots := slices.SortedFunc(maps.Keys(m), Dot.Compare)
	var c Clock
	for len(dots) > 0 {
		i := pick(len(dots))
		c = c.With(dots[i])
		dots = slices.Delete(dots, i, i+1)
	}
	return c
}

func (m dotSet) union(o dotSet) dotSet {
	out := maps.Clone(m)
	maps.Copy(out, o)
	return out
}

func (m dotSet) covers(o dotSet) bool {
	for d := range o {
		if !m[d] {
			return false
		}
	}
	return true
}

func (m dotSet) next(a Actor) uint64 {
	n := uint64(0)
	for d := range m {
		if d.Actor == a {
			n = max(n, d.Counter)
		}
	}
	return n + 1
}

// system is what a history runs: the package's own functions, or a copy with a planted bug.
type system struct {
	put       func(o Object, actor Actor, ctx Clock, s Sibling) (Object, Dot)
	merge     func(a, b Object) Object
	readToken func(o Object) Context
	// putToken is what a writer gets back; after is the object once written.
	putToken func(ctx Context, d Dot, time uint64, after Object) Context
	// restart is the actor of a replica that lost what it did not send, and starts again.
	restart func(old, fresh Actor) Actor
}

// genuine is the package as it is.
func genuine() system {
	return system{
		put:       Object.Put,
		merge:     Merge,
		readToken: Object.Context,
		putToken:  func(ctx Context, d Dot, time uint64, _ Object) Context { return ctx.With(d, time) },
		restart:   func(_, fresh Actor) Actor { return fresh },
	}
}

type ids map[int]bool

func (s ids) add(o ids) ids {
	out := maps.Clone(s)
	maps.Copy(out, o)
	return out
}

// write is one write of the model: its number, and all writes that it replaced, directly or through others.
type write struct {
	dot    Dot
	past   ids
	delete bool
	time   uint64
}

// state is an object together with what it must mean: the set of all writes that it knows of.
type state struct {
	object Object
	known  ids
}

// session is a client's context together with the writes that it stands for.
type session struct {
	context Context
	known   ids
}

// history runs random puts, deletes, merges, late and repeated messages, and crashes that lose state over a few replicas of
// one key, and compares each state with the model after each step.
type history struct {
	sys      system
	choose   func(n int) int
	writes   []write
	replicas []state
	actors   []Actor
	durable  []state // what a replica comes back with when it loses its newest state
	mail     []state // messages: states that were sent, each delivered any number of times, in any order
	sessions []session
	steps    int
	minted   Actor
	seen     []Object // every state ever reached

	// cut says that contexts are cut down: until all have heard from all, stale siblings may be there and clocks may lack
	// what only a context told. Nothing may be missing.
	cut bool
}

const (
	replicaCount = 3
	clientCount  = 3
)

func newHistory(sys system, choose func(n int) int) *history {
	h := &history{sys: sys, choose: choose, minted: 100}
	for range replicaCount {
		h.minted++
		h.actors = append(h.actors, h.minted)
		h.replicas = append(h.replicas, state{known: ids{}})
		h.durable = append(h.durable, state{known: ids{}})
	}
	for range clientCount {
		h.sessions = append(h.sessions, session{known: ids{}})
	}
	return h
}

// run takes steps, then lets every replica hear from every other, and checks that they agree on exactly the maximal set.
func (h *history) run(steps int) error {
	for range steps {
		if err := h.step(); err != nil {
			return err
		}
	}
	for i := range h.replicas {
		for j := range h.replicas {
			h.join(i, h.replicas[j])
		}
	}
	h.cut = false
	for i := range h.replicas {
		h.join(i, h.replicas[replicaCount-1])
		if err := h.check("end", h.replicas[i]); err != nil {
			return err
		}
	}
	first := AppendObject(nil, h.replicas[0].object)
	for i := range h.replicas {
		if got := AppendObject(nil, h.replicas[i].object); string(got) != string(first) {
			return fmt.Errorf("replicas 0 and %d differ at the end:\n%+v\n%+v", i, h.replicas[0].object, h.replicas[i].object)
		}
	}
	return nil
}

func (h *history) step() error {
	h.steps++
	i, c := h.choose(replicaCount), h.choose(clientCount)
	switch h.choose(10) {
	case 0, 1, 2: // a write with the client's context
		return h.put(i, c, h.sessions[c], h.choose(4) == 0)
	case 3: // a write that replaces nothing
		return h.put(i, c, session{known: ids{}}, false)
	case 4: // a write without a context: it replaces what the replica holds
		r := h.replicas[i]
		return h.put(i, c, session{Context{Clock: r.object.Clock, Time: r.object.MaxTime()}, r.known}, h.choose(4) == 0)
	case 5, 6: // a read of one or two replicas
		o, known := h.replicas[i].object, h.replicas[i].known
		if j := h.choose(replicaCount); j != i {
			o, known = h.sys.merge(o, h.replicas[j].object), known.add(h.replicas[j].known)
		}
		if err := h.check("read", state{o, known}); err != nil {
			return err
		}
		h.sessions[c] = h.session(h.sys.readToken(o), known)
	case 7: // a message goes out
		h.mail = append(h.mail, h.replicas[i])
		h.durable[i] = h.replicas[i] // what others have heard of was synced
	case 8: // a message arrives
		if len(h.mail) > 0 {
			return h.deliver(i, h.mail[h.choose(len(h.mail))])
		}
	case 9: // a crash loses what was not synced
		if h.choose(3) == 0 && !h.cut {
			h.minted++
			h.actors[i] = h.sys.restart(h.actors[i], h.minted)
			h.replicas[i] = h.durable[i]
		}
	}
	return nil
}

// session is a client that holds this context. A context that was cut down stands for the versions in it and all that
// they replaced.
func (h *history) session(c Context, known ids) session {
	if h.cut {
		known = ids{}
		for id, w := range h.writes {
			if c.Clock.Contains(w.dot) {
				known = known.add(w.past).add(ids{id: true})
			}
		}
	}
	return session{c, known}
}

func (h *history) put(i, c int, s session, del bool) error {
	r := h.replicas[i]
	now := uint64(h.steps + h.choose(50)) // clocks are far apart
	w := Sibling{Time: max(now, r.object.MaxTime()+1, s.context.Time+1), Tombstone: del}
	if !del {
		w.ContentType, w.Value = TypeText, fmt.Appendf(nil, "w%d", len(h.writes))
	}
	o, d := h.sys.put(r.object, h.actors[i], s.context.Clock, w)
	id := len(h.writes)
	h.writes = append(h.writes, write{dot: d, past: s.known, delete: del, time: w.Time})
	h.replicas[i] = state{o, r.known.add(s.known).add(ids{id: true})}
	h.sessions[c] = h.session(h.sys.putToken(s.context, d, w.Time, o), s.known.add(ids{id: true}))
	if err := h.check(fmt.Sprintf("put w%d", id), h.replicas[i]); err != nil {
		return err
	}
	// Some writes reach nobody; most are synced and sent at once, as a coordinator does.
	if h.choose(4) != 0 {
		h.durable[i] = h.replicas[i]
		h.mail = append(h.mail, h.replicas[i])
	}
	return nil
}

func (h *history) deliver(i int, m state) error {
	h.join(i, m)
	return h.check("merge", h.replicas[i])
}

func (h *history) join(i int, m state) {
	h.replicas[i] = state{h.sys.merge(h.replicas[i].object, m.object), h.replicas[i].known.add(m.known)}
	h.durable[i] = h.replicas[i]
}

// check compares a state with the model: its siblings are exactly the known writes that no known write replaced, and its
// clock has seen exactly the known writes.
func (h *history) check(what string, s state) error {
	h.seen = append(h.seen, s.object)
	want := map[Dot]int{}
	covered := ids{}
	for id := range s.known {
		covered = covered.add(h.writes[id].past)
	}
	for id := range s.known {
		if !covered[id] {
			want[h.writes[id].dot] = id
		}
	}
	got := map[Dot]int{}
	for _, sib := range s.object.Siblings {
		got[sib.Dot]++
		id, ok := want[sib.Dot]
		if !ok && h.cut {
			continue
		}
		if !ok {
			return fmt.Errorf("%s: sibling %v %q must not be there", what, sib.Dot, sib.Value)
		}
		if w := h.writes[id]; sib.Tombstone != w.delete || !w.delete && string(sib.Value) != fmt.Sprintf("w%d", id) {
			return fmt.Errorf("%s: sibling %v holds %q, want w%d", what, sib.Dot, sib.Value, id)
		}
	}
	for d, id := range want {
		if got[d] != 1 {
			return fmt.Errorf("%s: w%d (%v) is there %d times, want once", what, id, d, got[d])
		}
	}
	for id, w := range h.writes {
		if h.cut {
			break
		}
		if s.object.Clock.Contains(w.dot) != s.known[id] {
			return fmt.Errorf("%s: the clock says that w%d (%v) was seen: %v, want %v", what, id, w.dot, !s.known[id], s.known[id])
		}
	}
	return nil
}

// encodings are the states as bytes, for comparing.
func encodings(objects ...Object) []string {
	out := make([]string, len(objects))
	for i, o := range objects {
		out[i] = string(AppendObject(nil, o))
	}
	return out
}

func sameBytes(t rapid.TB, what string, got, want Object) {
	t.Helper()
	if e := encodings(got, want); e[0] != e[1] {
		t.Fatalf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}
