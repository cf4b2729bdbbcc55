package check

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/rondodb/rondo/vclock"
)

// model is a cluster of three replicas of one key, step by step in one goroutine: clients overlap, messages come late, twice or
// (until the end) not at all, answers get lost, replicas restart. Strict quorums of two, reads write back. The flags say what
// histories may contain; bugs plants a mistake.
type model struct {
	rand     *rand.Rand
	deletes  bool // clients delete, with contexts
	blind    bool // clients write without contexts
	weak     bool // some reads ask one replica only
	sets     bool // puts add an element to what they have read; a few replace the set with something else
	post     int  // how often the mail comes, in percent of the steps
	fresh    int  // percent of writes that replace nothing
	restarts int  // how often a replica restarts, in percent of the steps
	bug      string
	now      int64
	actor    vclock.Actor
	time     uint64
	values   int
	contents map[string][]string // by value: the elements that its put wrote
	replicas [3]replica
	clients  [4]client
	mail     []mail
	ops      []Op
}

type replica struct {
	object, old vclock.Object
	actor       vclock.Actor
}

type mail struct {
	to     int
	object vclock.Object
	done   *acks // nil = nobody waits
}

// acks are what a coordinator has counted for a write.
type acks struct{ all, durable int }

type client struct {
	name    string
	token   string
	context vclock.Context
	has     bool          // a token
	content []string      // the elements that came with the token
	steps   []func() bool // of the operation under way; a step that returns false is tried again
}

func (m *model) tick() int64 { m.now++; return m.now }

func (m *model) chance(percent int) bool { return m.rand.IntN(100) < percent }

func newModel(seed uint64) *model {
	m := &model{rand: rand.New(rand.NewPCG(seed, 7)), post: 40, fresh: 15, restarts: 3, contents: map[string][]string{}}
	for i := range m.replicas {
		m.actor++
		m.replicas[i].actor = m.actor
	}
	for i := range m.clients {
		m.clients[i].name = fmt.Sprintf("c%d", i)
	}
	return m
}

func (m *model) merge(a, b vclock.Object) vclock.Object {
	out := vclock.Merge(a, b)
	if m.bug == "lww" {
		out = out.LastWriter()
	}
	if m.bug == "zombie" && out.State() == vclock.Deleted {
		return vclock.Object{} // the tombstone is dropped at once
	}
	return out
}

func (m *model) keep(i int, o vclock.Object) {
	if m.chance(20) {
		m.replicas[i].old = m.replicas[i].object
	}
	m.replicas[i].object = o
}

// token is the text of a context: one context, one text.
func token(c vclock.Context) string {
	return hex.EncodeToString(vclock.AppendClock(nil, c.Clock)) + fmt.Sprintf("-%d", c.Time)
}

// run makes a history: some steps, then everybody hears from everybody, then final reads.
func (m *model) run(steps int) []Op {
	for range steps {
		m.step()
	}
	for i := range m.clients {
		m.clients[i].steps = nil // whoever is under way never hears the answer
	}
	if m.bug == "diverged" {
		m.mail = nil
	} else {
		for range 2 {
			for i := range m.replicas {
				for j := range m.replicas {
					m.keep(i, m.merge(m.replicas[i].object, m.replicas[j].object))
				}
			}
		}
	}
	for i := range m.replicas {
		o := m.replicas[i].object
		if m.bug == "hidden difference" && i == 1 {
			o.Clock = o.Clock.With(vclock.Dot{Actor: m.actor + 1, Counter: 1})
		}
		op := m.invoke(Op{Client: "final", Kind: Read, Node: fmt.Sprint(i), Final: true})
		m.answerRead(op, o)
		m.ops[op].Digest = fmt.Sprintf("%x", sha256.Sum256(vclock.AppendObject(nil, o)))
	}
	return m.ops
}

func (m *model) step() {
	switch c := &m.clients[m.rand.IntN(len(m.clients))]; {
	case m.chance(m.post) && len(m.mail) > 0: // a message arrives, is lost, or will arrive again
		i := m.rand.IntN(len(m.mail))
		d := m.mail[i]
		if !m.chance(20) {
			m.mail = append(m.mail[:i], m.mail[i+1:]...)
		}
		if m.chance(80) {
			m.keep(d.to, m.merge(m.replicas[d.to].object, d.object))
			if d.done != nil {
				d.done.all++
				if m.bug != "acknowledged before the sync" || !m.chance(10) {
					d.done.durable++
				}
			}
		}
	case m.chance(m.restarts): // a replica restarts
		r := &m.replicas[m.rand.IntN(len(m.replicas))]
		if m.bug == "reused dot" {
			r.object = r.old // and goes on under the same actor
		} else {
			m.actor++
			r.actor = m.actor
		}
	case len(c.steps) > 0:
		if m.chance(2) { // the client gives up
			c.steps = nil
			if m.bug == "rejected" && m.ops[len(m.ops)-1].Client == c.name {
				o := &m.ops[len(m.ops)-1]
				o.Outcome, o.Return = Fail, m.tick()
			}
			return
		}
		if c.steps[0]() {
			c.steps = c.steps[1:]
		}
	case m.chance(45):
		m.read(c)
	default:
		m.write(c)
	}
}

func (m *model) invoke(o Op) int {
	o.ID, o.Key, o.Outcome, o.Invoke = len(m.ops), "k", Unknown, m.tick()
	m.ops = append(m.ops, o)
	return o.ID
}

func (m *model) answerRead(op int, o vclock.Object) {
	r := &m.ops[op]
	r.Outcome, r.Return, r.ContextOut = OK, m.tick(), token(o.Context())
	for _, s := range o.Siblings {
		if !s.Tombstone {
			r.Values = append(r.Values, string(s.Value))
		}
	}
	for i, v := range r.Values {
		if m.bug == "sibling left out" && i > 0 && m.chance(20) {
			continue
		}
		r.Elements = union(r.Elements, m.contents[v]...)
	}
	if m.bug == "ghost element" && m.chance(5) {
		r.Elements = append(r.Elements, "ghost")
	}
	r.Acked = r.Want
	if m.bug == "phantom" && len(r.Values) > 0 && m.chance(5) {
		r.Values[0] += "?"
	}
}

func (m *model) read(c *client) {
	i, j := m.rand.IntN(3), m.rand.IntN(3)
	for j == i {
		j = m.rand.IntN(3)
	}
	strict := !(m.weak && m.chance(40))
	o := Op{Client: c.name, Kind: Read, Node: fmt.Sprint(i), Strict: strict, Want: 1}
	if strict {
		o.Want = 2
	}
	var want vclock.Context
	if c.has && m.chance(50) {
		o.ContextIn, want = c.token, c.context
	}
	var got vclock.Object
	op := m.invoke(o)
	c.steps = append(c.steps, func() bool { got = m.replicas[i].object; return true })
	if strict && m.bug != "stale read" {
		c.steps = append(c.steps, func() bool { got = m.merge(got, m.replicas[j].object); return true })
	}
	if m.bug != "session ignored" {
		c.steps = append(c.steps, func() bool { // as new as the context, however many replicas that takes
			for k := 0; !got.Clock.Covers(want.Clock) && k < 3; k++ {
				got = m.merge(got, m.replicas[k].object)
			}
			return got.Clock.Covers(want.Clock)
		})
	}
	if strict && m.bug != "no write-back" {
		for _, k := range []int{i, j} {
			c.steps = append(c.steps, func() bool { m.keep(k, m.merge(m.replicas[k].object, got)); return true })
		}
	}
	c.steps = append(c.steps, func() bool {
		m.answerRead(op, got)
		c.token, c.context, c.content, c.has = m.ops[op].ContextOut, got.Context(), m.ops[op].Elements, true
		return true
	})
}

func (m *model) write(c *client) {
	i := m.rand.IntN(3)
	m.values++
	o := Op{Client: c.name, Kind: Put, Value: fmt.Sprintf("v%d", m.values), Node: fmt.Sprint(i), ContextIn: Fresh, Strict: true, Want: 2, WantDurable: 2}
	var past vclock.Context
	switch {
	case m.blind && m.chance(25):
		o.ContextIn = ""
	case c.has && !m.chance(m.fresh):
		o.ContextIn, past = c.token, c.context
		if m.deletes && m.chance(35) {
			o.Kind, o.Value = Delete, ""
		}
	}
	var content []string
	if m.sets && o.Kind == Put && !m.chance(3) {
		o.Element = "e" + o.Value
		if content = []string{o.Element}; o.ContextIn != Fresh && o.ContextIn != "" {
			content = union(content, c.content...)
		}
		m.contents[o.Value] = content
	}
	op := m.invoke(o)
	var after vclock.Object
	var dot vclock.Dot
	count := &acks{1, 1}
	enough := 2
	if m.bug == "answered too early" && m.chance(10) {
		enough = 1
	}
	lost := m.bug == "lost write" && m.chance(10)
	apply := func() bool {
		r := &m.replicas[i]
		if o.ContextIn == "" {
			past = vclock.Context{Clock: r.object.Clock, Time: r.object.MaxTime()}
		}
		m.time = max(m.time, r.object.MaxTime(), past.Time) + 1
		s := vclock.Sibling{Time: m.time, Tombstone: o.Kind == Delete, Value: []byte(o.Value)}
		after, dot = r.object.Put(r.actor, past.Clock, s)
		if m.bug == "lww" {
			after = after.LastWriter()
		}
		if lost {
			count.all, count.durable = 2, 2
			return true
		}
		m.keep(i, after)
		for k := range m.replicas {
			switch {
			case k == i:
			case m.bug == "lost hint" && m.chance(30):
				count.all, count.durable = count.all+1, count.durable+1 // a stand-in took it, and drops its hint
			default:
				m.mail = append(m.mail, mail{k, after, count})
			}
		}
		if m.bug == "lost hint" && count.all > 1 && m.chance(30) {
			m.replicas[i].object, m.replicas[i].actor = vclock.Object{}, m.actor+1000 // the one owner that had it is wiped
			m.actor++
			m.mail = nil
		}
		return true
	}
	c.steps = append(c.steps, apply, func() bool { return count.all >= enough }, func() bool {
		next := past.With(dot, m.time)
		switch m.bug {
		case "wide token":
			next = after.Context()
		case "flattened context":
			next.Clock = flattened(next.Clock)
		}
		r := &m.ops[op]
		r.Outcome, r.Return, r.ContextOut, r.Acked, r.Durable = OK, m.tick(), token(next), count.all, count.durable
		c.token, c.context, c.content, c.has = r.ContextOut, next, content, true
		return true
	})
}

// flattened pretends that whoever has seen a dot has seen all of its actor's before it.
func flattened(c vclock.Clock) vclock.Clock {
	out := c
	for d := range c.Dots {
		for n := uint64(1); n <= d.Counter; n++ {
			out = out.With(vclock.Dot{Actor: d.Actor, Counter: n})
		}
	}
	return out
}

// union is a with what it lacks of b; a stays as it is.
func union(a []string, b ...string) []string {
	a = slices.Clip(a)
	for _, e := range b {
		if !slices.Contains(a, e) {
			a = append(a, e)
		}
	}
	return a
}
