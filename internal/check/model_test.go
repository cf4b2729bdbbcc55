package check

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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
	expires  bool // some puts expire
	sloppy   bool // some operations let stand-ins take the place of replicas
	collects bool // what is deleted or expired everywhere is forgotten, clock and all
	sets     bool // puts add an element to what they have read; a few replace the set with something else
	post     int  // how often the mail comes, in percent of the steps
	fresh    int  // percent of writes that replace nothing
	restarts int  // how often a replica restarts, in percent of the steps
	bug      string
	now      int64
	actor    vclock.Actor
	time     uint64
	mark     uint64 // what is stamped so early, and not known to a replica, was collected
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
	ahead       int64 // of its clock, ticks
}

// modelSkew is how wrong the clocks of replicas are at most, in ticks.
const modelSkew = 1

type mail struct {
	to     int
	object vclock.Object
	done   *acks // nil = nobody waits
}

// acks are what a coordinator has counted for a write.
type acks struct{ all, durable, standins int }

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
		m.replicas[i].ahead = int64(seed>>i%(2*modelSkew+1)) - modelSkew
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

// take merges what comes to a replica from elsewhere, but for what was collected there.
func (m *model) take(i int, o vclock.Object) {
	if !m.known(i, o) {
		m.keep(i, m.merge(m.refuse(m.replicas[i].object, o, m.mark), o))
	}
}

// known tells whether all of an object that comes to a replica was collected there, so that nothing is to be kept of it.
func (m *model) known(i int, o vclock.Object) bool {
	mine := m.replicas[i].object.Clock
	return m.bug != "watermark ignored" && len(o.Siblings) > 0 && !slices.ContainsFunc(o.Siblings, func(s vclock.Sibling) bool {
		return s.Time > m.mark || mine.Contains(s.Dot)
	})
}

// refuse is an object that, besides what it knows, covers what the other one still has and was collected here, up to mark.
func (m *model) refuse(o, other vclock.Object, mark uint64) vclock.Object {
	for _, s := range other.Siblings {
		if s.Time <= mark && !o.Clock.Contains(s.Dot) && m.bug != "watermark ignored" {
			o.Clock = o.Clock.With(s.Dot)
		}
	}
	return o
}

// view is what a reader was told: without the mark it would take what one replica had held before the collection for
// news to another one that it asked afterwards.
type view struct {
	object vclock.Object
	mark   uint64
}

func (m *model) view(i int) view { return view{m.replicas[i].object, m.mark} }

func (m *model) join(a, b view) view {
	if m.bug != "read without the mark" {
		a.object, b.object = m.refuse(a.object, b.object, a.mark), m.refuse(b.object, a.object, b.mark)
	}
	return view{m.merge(a.object, b.object), max(a.mark, b.mark)}
}

// wall is a replica's clock.
func (m *model) wall(i int) uint64 { return uint64(max(0, m.now+m.replicas[i].ahead)) }

// collect has all replicas hear from all, and forgets the object where it is nothing but deletes and what has expired.
func (m *model) collect() {
	if m.bug == "collected too early" { // one by one, without asking the others
		for i := range m.replicas {
			if m.garbage(m.replicas[i].object) {
				m.forget(i)
			}
		}
		return
	}
	for range 2 {
		for i := range m.replicas {
			for j := range m.replicas {
				m.take(i, m.replicas[j].object)
			}
		}
	}
	if !m.garbage(m.replicas[0].object) {
		return
	}
	m.mark = m.time
	for i := range m.replicas {
		m.forget(i)
	}
}

func (m *model) forget(i int) {
	m.actor++
	m.replicas[i].object, m.replicas[i].actor = vclock.Object{}, m.actor
}

// garbage tells whether an object holds nothing that anybody shows.
func (m *model) garbage(o vclock.Object) bool {
	for _, s := range o.Siblings {
		if !s.Tombstone && (s.Expiry == 0 || s.Expiry+2*modelSkew > uint64(m.now)) {
			return false
		}
	}
	return len(o.Siblings) > 0
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
					m.take(i, m.replicas[j].object)
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
		m.answerRead(op, i, o)
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
			m.take(d.to, d.object)
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
	case m.collects && m.chance(6):
		m.collect()
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

// answerRead answers with what replica i shows of an object.
func (m *model) answerRead(op, i int, o vclock.Object) {
	r := &m.ops[op]
	r.Outcome, r.Return, r.ContextOut = OK, m.tick(), token(o.Context())
	for _, s := range o.Siblings {
		expiry := s.Expiry
		switch m.bug {
		case "expired shown":
			expiry = 0
		case "hidden early":
			expiry -= min(expiry, 10)
		}
		if !s.Tombstone && (s.Expiry == 0 || expiry > m.wall(i) || expiry == 0 && m.bug == "expired shown") {
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
	if m.sloppy && m.chance(20) { // a stand-in that keeps nothing answers for the other
		o.Want, o.Sloppy, o.Standins, o.Strict, strict = 2, true, 1, false, false
	}
	var want vclock.Context
	if c.has && m.chance(50) {
		o.ContextIn, want = c.token, c.context
	}
	var got view
	op := m.invoke(o)
	c.steps = append(c.steps, func() bool { got = m.view(i); return true })
	if strict && m.bug != "stale read" {
		c.steps = append(c.steps, func() bool { got = m.join(got, m.view(j)); return true })
	}
	if m.bug != "session ignored" {
		c.steps = append(c.steps, func() bool { // as new as the context, however many replicas that takes
			for k := 0; !got.object.Clock.Covers(want.Clock) && k < 3; k++ {
				got = m.join(got, m.view(k))
			}
			return got.object.Clock.Covers(want.Clock) || want.Time <= m.mark // everybody had it, and may have forgotten it since
		})
	}
	if strict && m.bug != "no write-back" {
		for _, k := range []int{i, j} {
			c.steps = append(c.steps, func() bool { m.take(k, got.object); return true })
		}
	}
	c.steps = append(c.steps, func() bool {
		m.answerRead(op, i, got.object)
		c.token, c.context, c.content, c.has = m.ops[op].ContextOut, got.object.Context(), m.ops[op].Elements, true
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
	o.Sloppy = m.sloppy && m.chance(30)
	var ttl int64
	if m.expires && o.Kind == Put && m.chance(30) {
		ttl = 6 + m.rand.Int64N(15)
		o.Skew = 2 * modelSkew // one clock stamps, another one hides
		o.Expires = m.now + 1 + ttl
	}
	op := m.invoke(o)
	var after vclock.Object
	var dot vclock.Dot
	count := &acks{all: 1, durable: 1}
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
		if ttl > 0 {
			s.Expiry = m.wall(i) + uint64(ttl)
		}
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
			case o.Sloppy && m.chance(50), strings.HasPrefix(m.bug, "stand-ins") && m.chance(30):
				count.all, count.durable = count.all+1, count.durable+1
				if m.bug != "stand-ins hidden" {
					count.standins++
				}
				m.mail = append(m.mail, mail{to: k, object: after}) // its hint
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
		r.Standins, r.Strict = count.standins, count.standins == 0
		if r.Expires != 0 {
			r.Skew += r.Return - r.Invoke // it was stamped in between
		}
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
