package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Config is what a Coordinator is made of.
type Config struct {
	Local       Local
	Peers       Peers
	Membership  Membership
	Buckets     *Buckets
	Observer    Observer     // nil = nobody listens
	Logger      *slog.Logger // nil = discarded
	Rand        *rand.Rand   // owned by the coordinator from then on; nil = seeded by the runtime
	Incarnation vclock.Actor // of the local store: the actor of the dots minted here
	Name        string       // of this node, for receipts while it is not a member of the ring; "" = its id

	Reads, Writes, Repairs, Lists int              // most in flight of each class; 0 = 1024, 1024, 64, 16
	Timeout                       time.Duration    // of an operation whose context has no deadline; 0 = 5 s
	LateTimeout                   time.Duration    // how long acknowledgements and repairs may outlive their request; 0 = 5 s
	LayoutWait                    time.Duration    // how long an operation waits for a layout that a replica knows and this node does not; 0 = 2 s
	Now                           func() time.Time // the wall clock, which stamps writes; nil = time.Now
	// CatchUp is told that another node works with a newer layout than this one; nil = nobody. It must not block.
	CatchUp func(from ring.NodeID, version uint64)
}

func (c *Config) validate() error {
	switch {
	case c.Local == nil, c.Peers == nil, c.Membership == nil, c.Buckets == nil:
		return errors.New("coordinator needs a store, peers, a membership and bucket settings")
	case c.Incarnation == 0:
		return errors.New("coordinator needs the incarnation of the store")
	}
	if c.Observer == nil {
		c.Observer = deaf{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	for _, d := range []struct {
		field    *int
		standard int
	}{{&c.Reads, 1024}, {&c.Writes, 1024}, {&c.Repairs, 64}, {&c.Lists, 16}} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.LateTimeout <= 0 {
		c.LateTimeout = 5 * time.Second
	}
	if c.LayoutWait <= 0 {
		c.LayoutWait = 2 * time.Second
	}
	return nil
}

// deaf is the observer of those who have none.
type deaf struct{}

func (deaf) PeerCall(ring.NodeID, string, string, time.Duration) {}
func (deaf) Quorum(string, Code)                                 {}
func (deaf) Event(string, int)                                   {}
func (deaf) ClockSkew(ring.NodeID, time.Duration)                {}

// Coordinator serves client operations with the replicas of their keys. All methods are safe for concurrent use.
type Coordinator struct {
	config  Config
	self    ring.NodeID
	replica *Replica
	table   peerTable
	clock   hybridClock
	hedges  hedgeBudget
	life    *lifetime
	reads   gate
	writes  gate
	repairs gate
	lists   gate      // pages
	scans   gate      // pieces of other nodes' pages
	stands  gate      // for owners that other nodes cannot reach
	timers  sync.Pool // of *time.Timer, stopped
	state   condition // of the local store
	hints   Hints     // the local store; nil where it keeps none
	hintLog throttle

	began               time.Time
	readPace, writePace pace
}

// New makes a coordinator. It starts nothing; Close ends the work that operations leave behind.
func New(config Config) (*Coordinator, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	c := &Coordinator{
		config: config, self: config.Membership.Self(), life: newLifetime(),
		reads: gate{name: "reads", limit: int64(config.Reads)}, writes: gate{name: "writes", limit: int64(config.Writes)},
		repairs: gate{name: "repairs", limit: int64(config.Repairs)}, lists: gate{name: "lists", limit: int64(config.Lists)},
		scans:  gate{name: "index scans", limit: 4 * int64(config.Lists)},
		stands: gate{name: "operations as a stand-in", limit: int64(config.Writes)},
		state:  conditionOf(config.Local), began: time.Now(),
	}
	c.hints, _ = config.Local.(Hints)
	c.table.rand = config.Rand
	c.replica = &Replica{
		local: config.Local, state: c.state, membership: config.Membership, buckets: config.Buckets, observer: config.Observer,
		catchUp: config.CatchUp, now: config.Now, began: c.began,
	}
	return c, nil
}

// Replica is the side of this package that serves other coordinators from the same store.
func (c *Coordinator) Replica() *Replica { return c.replica }

// Met is told that a node has connected to this one: if it did not answer before, it is asked again from now on. It does not block.
func (c *Coordinator) Met(id ring.NodeID) { c.table.get(id).met(time.Now()) }

// InFlight is how many reads, writes, background repairs and listings this node coordinates now.
func (c *Coordinator) InFlight() (reads, writes, repairs, lists int64) {
	return c.reads.n.Load(), c.writes.n.Load(), c.repairs.n.Load(), c.lists.n.Load()
}

// Close refuses new operations and returns when every operation, late acknowledgement and background repair has ended.
// That takes LateTimeout at most, if the peers keep their deadlines.
func (c *Coordinator) Close() { c.life.close() }

// enter admits one operation of a class; leave must follow where it returns nil.
func (c *Coordinator) enter(g *gate) *Error {
	if !c.life.begin() {
		return &Error{Code: CodeNotReady, Detail: "this node is shutting down: ask another one", Outcome: NotApplied}
	}
	if !g.enter() {
		c.life.end()
		return &Error{
			Code: CodeOverloaded, Outcome: NotApplied, RetryAfter: time.Second,
			Detail: fmt.Sprintf("this node already has %d %s in flight, its limit: send less at once, or ask another node", g.limit, g.name),
		}
	}
	return nil
}

func (c *Coordinator) leave(g *gate) {
	g.leave()
	c.life.end()
}

// bounded gives ctx a deadline where it has none.
func (c *Coordinator) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.config.Timeout)
}

// target is where an operation on one key goes, under one layout.
type target struct {
	layout    *ring.Layout
	bucket    Bucket
	n         int // replicas: the bucket's, or all members where there are fewer
	partition int
	owners    []ring.NodeID
	self      int  // this node's place in owners, -1 if it is none
	sloppy    bool // stand-ins may take the place of owners that are down
}

// class is what the store knows the key's replicas by.
func (t *target) class() ring.Class { return ring.Class{Partition: t.partition, N: t.bucket.N} }

func (c *Coordinator) target(key ring.Key) (target, *Error) {
	layout := c.config.Membership.Layout()
	if layout == nil {
		return target{}, c.notReady()
	}
	t := target{layout: layout, bucket: c.config.Buckets.Get(key.Bucket), partition: layout.Partition(key.Token), self: -1}
	t.owners = layout.Owners(t.partition, t.bucket.N)
	t.n = len(t.owners)
	for i, id := range t.owners {
		if id == c.self {
			t.self = i
		}
	}
	return t, nil
}

// notReady says why there is no ring yet.
func (c *Coordinator) notReady() *Error {
	return notReady(c.config.Membership)
}

func notReady(m Membership) *Error {
	detail := "this node knows no ring yet"
	if r, ok := m.(interface{ Ready() (bool, string) }); ok {
		if ready, why := r.Ready(); !ready && why != "" {
			detail = why
		}
	}
	return &Error{Code: CodeNotReady, Detail: detail, Outcome: NotApplied}
}

// required is the number of replicas that an operation needs: the request's level, or the bucket's. What cannot be met is
// an error with the arithmetic.
func (t *target) required(name string, asked, standard Level) (int, *Error) {
	level, whose, code := standard, "the bucket's "+name, CodeUnavailable
	if asked != Unset {
		level, whose, code = asked, name, CodeInvalid
	}
	k := level.Count(t.n)
	if k <= t.n {
		return k, nil
	}
	detail := fmt.Sprintf("%s=%v cannot be met: the key has n=%d replicas", whose, level, t.n)
	if t.n < t.bucket.N {
		detail += fmt.Sprintf(", because the ring has %d members (the bucket's n is %d)", t.n, t.bucket.N)
	}
	return 0, &Error{Code: code, Detail: detail, Outcome: NotApplied, N: t.n, Required: k}
}

func (t *target) receipt(id ring.NodeID) ReplicaReceipt {
	r := ReplicaReceipt{Node: string(id), Role: "owner"}
	if m, ok := t.layout.Member(id); ok {
		r.Node, r.Zone = m.Name, m.Zone
	}
	return r
}

// name is how receipts call this node.
func (c *Coordinator) name(l *ring.Layout) string {
	if m, ok := l.Member(c.self); ok {
		return m.Name
	}
	if c.config.Name != "" {
		return c.config.Name
	}
	return string(c.self)
}

// patience is how long one operation will wait for layouts, all its attempts together.
type patience struct {
	until time.Time
	step  time.Duration
}

// awaitLayout waits until this node knows the layout version newer, or a moment where newer is 0: then the other side is
// the one to catch up. False when the operation's patience or ctx ended first.
func (c *Coordinator) awaitLayout(ctx context.Context, p *patience, from ring.NodeID, have, newer uint64) bool {
	c.config.Observer.Event("stale_layout", 1)
	if newer > have && c.config.CatchUp != nil {
		c.config.CatchUp(from, newer)
	}
	now := time.Now()
	if p.until.IsZero() {
		p.until, p.step = sooner(ctx, now, c.config.LayoutWait), 5*time.Millisecond
	}
	pause := time.NewTimer(p.step)
	defer pause.Stop()
	for p.until.After(time.Now()) {
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
		p.step = min(2*p.step, 100*time.Millisecond)
		if l := c.config.Membership.Layout(); newer == 0 || l != nil && l.Version() >= newer {
			return true
		}
		pause.Reset(p.step)
	}
	return false
}

// sooner is the earlier deadline of ctx and d from now.
func sooner(ctx context.Context, now time.Time, d time.Duration) time.Time {
	at := now.Add(d)
	if limit, ok := ctx.Deadline(); ok && limit.Before(at) {
		return limit
	}
	return at
}
