package quorum

import (
	"context"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Get reads a key from r of its owners. The answer joins what they hold, and r replicas hold it by the time it is given, so
// that no later quorum read can be older. Stand-ins are not among those r for longer than the answer: where the receipt tells of any, a later
// read may be older, until what they keep was handed over. Errors are of type *Error. The object's values must not be changed: they may be
// shared with the store.
func (c *Coordinator) Get(ctx context.Context, key ring.Key, options ReadOptions) (ReadResult, error) {
	if e := c.enter(&c.reads); e != nil {
		e.Outcome = ""
		c.config.Observer.Quorum("read", e.Code)
		return ReadResult{}, e
	}
	defer c.leave(&c.reads)
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	began := time.Now()
	result, e := c.get(ctx, key, options)
	if e != nil {
		e.Outcome = ""
		if e.Code == CodeTimeout {
			c.paced(&c.readPace, began)
		}
		c.config.Observer.Quorum("read", e.Code)
		return ReadResult{}, e
	}
	c.paced(&c.readPace, began)
	c.config.Observer.Quorum("read", "")
	if n := result.Object.Values(); n > 1 {
		c.config.Observer.Event("conflict", n)
	}
	return result, nil
}

// get reads until an attempt ends with an answer that stands: under one layout from first to last, and as new as the
// session wants it.
func (c *Coordinator) get(ctx context.Context, key ring.Key, options ReadOptions) (ReadResult, *Error) {
	c.hedges.earn()
	var p patience
	wide := false // ask every owner: the session was ahead of those that were asked
	for pause := 10 * time.Millisecond; ; {
		t, e := c.target(key)
		if e != nil {
			return ReadResult{}, e
		}
		if options.R == None {
			return ReadResult{}, &Error{Code: CodeInvalid, Detail: "r must be at least 1"}
		}
		r, e := t.required("r", options.R, t.bucket.R)
		if e != nil {
			return ReadResult{}, e
		}
		t.sloppy = options.Sloppy.Or(t.bucket.Sloppy)
		if e := c.enough(&t, r, toRead); e != nil {
			return ReadResult{}, e
		}
		a := attempt{c: c, t: t, key: key, options: options, tally: readTally{n: t.n, r: r}, wide: wide, began: time.Now()}
		result, e := a.run(ctx)
		switch {
		case e == nil:
			if l := c.config.Membership.Layout(); l == t.layout || l != nil && l.Version() == t.layout.Version() {
				result.Object = shown(result.Object, c.now())
				return result, nil
			}
			c.config.Observer.Event("stale_layout", 1) // the ring changed meanwhile: ask its new owners
			continue
		case a.older:
			wide = true
			if e := sleep(ctx, pause); e != nil {
				return ReadResult{}, a.sessionError(e)
			}
			pause = min(2*pause, 200*time.Millisecond)
			continue
		case ctx.Err() == nil:
			if i, stale := a.staleReply(); stale && c.awaitLayout(ctx, &p, a.node(i), t.layout.Version(), staleLayout(a.parts[i].err)) {
				continue
			}
		}
		return ReadResult{}, e
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// attempt is one try of a read under one layout.
type attempt struct {
	c       *Coordinator
	t       target
	key     ring.Key
	options ReadOptions
	tally   readTally
	order   choice
	next    int     // of order: who is asked next
	behind  *behind // sloppy: whom to ask in place of owners that are down; nil until one is
	calls   int     // of stand-ins
	wide    bool
	began   time.Time

	replies  chan readReply
	timer    *time.Timer
	hedge    hedgeStage
	parts    [MaxN]readPart
	repaired int
	older    bool // every replica that could be asked answered, and the session has seen more
}

// readPart is what is known of one owner's part in a read.
type readPart struct {
	asked time.Time
	err   error
	took  time.Duration
}

type readReply struct {
	index  int8
	kind   replyKind
	object []byte
	digest uint64
	mark   uint64 // the replica's watermark
	err    error
	took   time.Duration
}

type replyKind uint8

const (
	replyDigest replyKind = iota
	replyObject
	replyRepair
)

// hedgeStage is how far a read has gone because of silence.
type hedgeStage uint8

const (
	hedgeArmed  hedgeStage = iota // waiting for the 95th percentile
	hedgeSilent                   // waiting until silence is failure
	hedgeDone
)

// run asks, waits, merges, repairs, and answers.
func (a *attempt) run(ctx context.Context) (ReadResult, *Error) {
	c := a.c
	a.order = c.choose(&a.t, a.began)
	defer func() {
		if a.timer != nil {
			a.c.stopTimer(a.timer)
		}
	}()
	a.start(ctx)
	for {
		for {
			v := a.tally.verdict()
			if v == won {
				break
			}
			if v == fetch {
				a.tally.wanted(func(i int) { a.send(ctx, i, true) })
				continue
			}
			if v == pending && a.short() && (a.askNext(ctx) || a.askStandins(ctx)) || v == lost && a.askStandins(ctx) {
				continue
			}
			if v == lost || a.tally.count(slotWaiting, slotWaiting)+a.tally.count(slotFetch, slotFetch) == 0 {
				return ReadResult{}, a.failure(nil)
			}
			if err := a.wait(ctx); err != nil {
				return ReadResult{}, a.failure(err)
			}
		}
		object := a.tally.merged()
		if a.options.Session == nil || plant.On(plant.SessionIgnored) || a.tally.recent(object, *a.options.Session) {
			return a.answer(ctx, object)
		}
		// The session has seen more than these replicas: ask every other one before giving up.
		for a.askNext(ctx) || a.askStandins(ctx) {
		}
		if a.tally.count(slotWaiting, slotFetch) == 0 || !a.more(ctx) {
			if ctx.Err() != nil {
				return ReadResult{}, a.sessionError(ctx.Err())
			}
			a.older = true
			return ReadResult{}, a.sessionError(nil)
		}
	}
}

// more waits until one more replica is covered than now; false where none can be.
func (a *attempt) more(ctx context.Context) bool {
	for have := a.tally.replied(); a.tally.replied() <= have; {
		a.tally.wanted(func(i int) { a.send(ctx, i, true) })
		if a.tally.count(slotWaiting, slotWaiting)+a.tally.count(slotFetch, slotFetch) == 0 {
			return false
		}
		if a.wait(ctx) != nil {
			return false
		}
	}
	return true
}

// start sends the digest requests first, so that they are under way while this node reads its own store.
func (a *attempt) start(ctx context.Context) {
	asks := a.tally.r
	if a.wide {
		asks = a.order.usable
	}
	asks = min(asks, a.order.usable)
	a.next = asks
	if asks == 0 {
		return
	}
	first := int(a.order.order[0])
	if first != a.t.self {
		a.send(ctx, first, true)
	}
	for k := 1; k < asks; k++ {
		a.send(ctx, int(a.order.order[k]), a.wide)
	}
	if first == a.t.self {
		a.readLocal()
	}
}

// short tells whether too few replicas have been asked for the read to be won.
func (a *attempt) short() bool {
	return a.tally.count(slotWaiting, slotFull) < a.tally.r
}

// askNext asks the next usable owner that was not asked, for the object where none is known or expected. False where
// there is none left.
func (a *attempt) askNext(ctx context.Context) bool {
	for a.next < a.order.usable {
		i := int(a.order.order[a.next])
		a.next++
		if a.tally.slots[i].state != slotIdle {
			continue
		}
		if i == a.t.self {
			a.readLocal()
		} else {
			a.send(ctx, i, a.wide || a.options.Session != nil || a.tally.count(slotFull, slotFull) == 0)
		}
		return true
	}
	return false
}

// readLocal reads this node's own replica, in the request's goroutine.
func (a *attempt) readLocal() {
	i, local := a.t.self, a.c.config.Local
	a.parts[i].asked = time.Now()
	var (
		object []byte
		digest uint64
		err    error
	)
	mark := a.c.state.read(a.key, func() {
		var ok bool
		if object, digest, ok = local.TryGet(a.key); !ok {
			object, digest, err = local.Get(a.key)
		}
	})
	if err != nil {
		a.note(readReply{index: int8(i), kind: replyObject, err: err, took: time.Since(a.parts[i].asked)})
		return
	}
	a.note(readReply{index: int8(i), kind: replyObject, object: object, digest: digest, mark: mark})
}

// send asks another owner. Half of the time that is left is what one replica may take where there is another one to ask.
func (a *attempt) send(ctx context.Context, i int, full bool) {
	c, id, now := a.c, a.t.owners[i], time.Now()
	if a.tally.slots[i].state == slotIdle {
		a.tally.asked(i)
	}
	a.parts[i].asked = now
	state := c.table.get(id)
	kind := replyDigest
	if full {
		kind = replyObject
	}
	if err := state.acquire(now); err != nil {
		a.note(readReply{index: int8(i), kind: kind, err: err})
		return
	}
	until := now.Add(c.config.Timeout)
	if at, ok := ctx.Deadline(); ok {
		until = at
		if a.next < a.order.usable {
			until = now.Add(at.Sub(now) / 2)
		}
	}
	c.life.more()
	replies := a.inbox()
	c.config.Peers.Read(deadline{until}, id, a.t.layout.Version(), a.key, !full, func(object []byte, digest, watermark uint64, err error) {
		replies <- readReply{int8(i), kind, object, digest, watermark, err, c.settled(state, id, "read", now, err)}
		c.life.end()
	})
}

// inbox is where replies come in. It has room for all that can come: a digest and an object of each owner, one answer of each stand-in.
func (a *attempt) inbox() chan readReply {
	if a.replies == nil {
		room := 2 * a.t.n
		if a.t.self >= 0 {
			room -= 2
		}
		if a.t.sloppy {
			room += standinCalls
		}
		a.replies = make(chan readReply, room)
	}
	return a.replies
}

// note adds a reply to the tally. An object that cannot be read is a failure of its replica, never a key that is not there.
func (a *attempt) note(r readReply) {
	i := int(r.index)
	p := &a.parts[i]
	p.took, p.err = r.took, r.err
	switch {
	case r.err != nil:
		a.tally.fail(i)
	case r.kind == replyDigest && plant.On(plant.StaleDigest):
		a.tally.addDigest(i, a.tally.sameDigest(r.digest), r.mark)
	case r.kind == replyDigest:
		a.tally.addDigest(i, r.digest, r.mark)
	case len(r.object) == 0 && r.digest == 0:
		a.tally.addObject(i, 0, vclock.Object{}, r.mark)
	default:
		o, err := vclock.DecodeObject(r.object)
		if err != nil {
			p.err = err
			a.tally.fail(i)
			return
		}
		a.tally.addObject(i, r.digest, o, r.mark)
	}
}
