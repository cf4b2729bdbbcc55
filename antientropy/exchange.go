package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

const (
	messageTimeout = 30 * time.Second // for one answer; a node that is dead fails far earlier
	tries          = 3                // of one message; all of them may be repeated
	retryPause     = 200 * time.Millisecond

	leavesAhead = 4096    // leaves known to differ before their objects are compared
	firstWindow = 512     // leaves and objects in the first message of lists
	maxWindow   = 1 << 15 // in any
	maxItems    = 2048    // leaves in any
	maxKeyBytes = 4 << 20 // of keys that are held for one message of lists
)

// exchangeStep is how far an exchange has come.
type exchangeStep struct {
	Compared  int // classes that are done with
	Total     int
	Different int   // classes whose roots differed
	Sent      int64 // objects
	Received  int64
	Read      int64 // objects listed from the local store
	Bytes     int64 // both ways
	Messages  int   // asked
}

// exchangeResult is what an exchange has come to.
type exchangeResult struct {
	exchangeStep
	Began   time.Time
	Classes []classResult // in order
}

// classResult is what an exchange has come to for one class.
type classResult struct {
	Class ring.Class
	Equal bool   // everything that either node held when the exchange began is on both now
	Error string // why not
}

// of finds the result of a class; it is not equal where it was not compared.
func (x *exchangeResult) of(c ring.Class) classResult {
	i, ok := slices.BinarySearchFunc(x.Classes, c, func(r classResult, c ring.Class) int { return r.Class.Compare(c) })
	if !ok {
		return classResult{Class: c, Error: "not compared"}
	}
	return x.Classes[i]
}

// exchangeWith makes this node and another one equal in the classes that both own: in these, or in all where classes is nil. Both may
// take writes meanwhile. It waits while there is another exchange with this node, so that what it says holds from after the call. An
// error ends the exchange early; the result holds all the same, as far as it came. report may be nil, and is called after each message.
func (r *Repairer) exchangeWith(ctx context.Context, peer ring.NodeID, classes []ring.Class, report func(exchangeStep)) (exchangeResult, error) {
	unlock, err := r.lock(ctx, peer)
	if err != nil {
		return exchangeResult{}, fmt.Errorf("exchange with %s: %w", r.config.Name(peer), err)
	}
	defer unlock()
	x := &exchange{Repairer: r, ctx: ctx, peer: peer, report: report, window: firstWindow, hurry: r.owes(peer)}
	x.began, x.seq = time.Now(), r.sequence.Add(1)
	err = x.run(classes)
	result := x.result(err)
	r.settle(peer, x.seq, &result)
	r.count.exchanged(result.exchangeStep, err)
	if err != nil {
		return result, fmt.Errorf("exchange with %s: %w", r.config.Name(peer), err)
	}
	return result, nil
}

// exchange is one under way. What is known to differ waits in three places: inner nodes, leaves, and objects to be pushed. The deepest
// is worked on first, so that little waits.
type exchange struct {
	*Repairer
	ctx    context.Context
	peer   ring.NodeID
	layout *ring.Layout
	began  time.Time
	seq    uint64 // orders exchanges and losses of votes
	report func(exchangeStep)
	step   exchangeStep

	classes []comparison
	reader  leafReader

	nodes   []nodeRef
	leaves  []leafRef
	items   []*item // leaves that were read and not yet answered
	window  int     // how many leaves and objects the next message of lists may hold: as many as the last answer had room for
	push    push
	pushing time.Duration // spent on pushes so far
	hurry   bool          // this node needs it for its votes
}

// comparison is the state of one class.
type comparison struct {
	class    ring.Class
	compared bool   // the roots were
	waiting  int    // nodes, leaves, objects of it that are not done with
	received bool   // objects were merged here
	err      string // the first thing that went wrong
}

// nodeRef is an inner node that differs.
type nodeRef struct {
	at          int // place of its class
	level, node int
}

// leafRef is a leaf that differs.
type leafRef struct {
	at   int
	leaf int // of the whole ring
}

func (x *exchange) run(wanted []ring.Class) error {
	l := x.config.Membership.Layout()
	if l == nil {
		return sameLayout(nil, 0)
	}
	x.layout = l
	x.reader = x.leafReader(l)
	if err := x.choose(wanted); err != nil {
		return err
	}
	if err := x.compareRoots(wanted == nil); err != nil {
		return err
	}
	for {
		var err error
		switch {
		case len(x.items) > 0 || len(x.leaves) >= leavesAhead || len(x.leaves) > 0 && len(x.nodes) == 0:
			err = x.compareLists()
		case len(x.nodes) > 0:
			err = x.compareNodes()
		case x.push.waits():
			err = x.sendPush()
		default:
			return x.sync()
		}
		if err != nil {
			return err
		}
	}
}

// choose lists the classes that are compared.
func (x *exchange) choose(wanted []ring.Class) error {
	self := x.config.Membership.Self()
	if x.peer == self {
		return errors.New("a node does not exchange with itself")
	}
	if wanted == nil {
		wanted = x.listed(x.layout, x.peer, 0, x.layout.Partitions())
	} else {
		wanted = slices.Clone(wanted)
		slices.SortFunc(wanted, ring.Class.Compare)
		wanted = slices.Compact(wanted)
	}
	for _, c := range wanted {
		if !shared(x.layout, c, self, x.peer) {
			return fmt.Errorf("partition %d with n=%d is not owned by both", c.Partition, c.N)
		}
		x.classes = append(x.classes, comparison{class: c})
	}
	x.step.Total = len(x.classes)
	return nil
}

// fail notes that a class is not equal, and why.
func (x *exchange) fail(at int, format string, args ...any) {
	if c := &x.classes[at]; c.err == "" {
		c.err = fmt.Sprintf(format, args...)
	}
}

// damage notes that a leaf cannot be read, or is not what its tree says. The exchange goes on with everything else.
func (x *exchange) damage(at int, node ring.NodeID, leaf int, why string) error {
	if why == "" {
		why = "its objects are not what its tree says"
	}
	x.fail(at, "leaf %d on %s: %s", leaf, x.config.Name(node), why)
	if plant.On(plant.ExchangeStopsAtDamage) {
		return errors.New(why)
	}
	return nil
}

// add and done count what waits in a class.
func (x *exchange) add(at int) { x.classes[at].waiting++ }

func (x *exchange) done(at int) {
	c := &x.classes[at]
	if c.waiting--; c.waiting == 0 {
		x.step.Compared++
	}
}

// ask sends a message and waits for its answer. Messages may be repeated: all of them are questions, or merges.
func (x *exchange) ask(w []byte) ([]byte, error) {
	for try := 1; ; try++ {
		if err := sameLayout(x.config.Membership.Layout(), x.layout.Version()); err != nil {
			return nil, fmt.Errorf("the ring has changed meanwhile: %w", err)
		}
		ctx, cancel := context.WithTimeout(x.ctx, messageTimeout)
		answer, err := x.config.Peers.Exchange(ctx, x.peer, x.layout.Version(), w)
		cancel()
		x.step.Bytes += int64(len(w) + len(answer))
		x.step.Messages++
		if err == nil {
			return answer, nil
		}
		if try == tries || isStale(err) || !x.config.Membership.Alive(x.peer) {
			return nil, err
		}
		if err := sleep(x.ctx, retryPause*time.Duration(try)); err != nil {
			return nil, err
		}
	}
}

// told reports how far it has come.
func (x *exchange) told() {
	if x.report != nil {
		x.report(x.step)
	}
}

// sync makes sure that what was received is on disk, before anybody builds on its being here.
func (x *exchange) sync() error {
	if !slices.ContainsFunc(x.classes, func(c comparison) bool { return c.received }) {
		return nil
	}
	if err := syncStore(x.ctx, x.config.Store); err != nil {
		err = fmt.Errorf("sync store: %w", err)
		for at := range x.classes {
			if x.classes[at].received {
				x.fail(at, "%v", err)
			}
		}
		return err
	}
	return nil
}

// result is what it came to, where err ended it, or nothing did.
func (x *exchange) result(err error) exchangeResult {
	out := exchangeResult{exchangeStep: x.step, Began: x.began, Classes: make([]classResult, 0, len(x.classes))}
	for _, c := range x.classes {
		got := classResult{Class: c.class, Error: c.err}
		switch {
		case c.err != "":
		case err != nil && (!c.compared || c.waiting > 0 || c.received): // received, and not synced
			got.Error = err.Error()
		default:
			got.Equal = true
		}
		out.Classes = append(out.Classes, got)
	}
	slices.SortFunc(out.Classes, func(a, b classResult) int { return a.Class.Compare(b.Class) })
	return out
}

// rest waits after work that moved objects, longer the slower this node's requests are: background work gives way.
func (x *exchange) rest(spent time.Duration) error {
	over := x.config.Pressure() - 1
	if x.hurry {
		over /= 2
	}
	if !(over > 0) {
		return nil
	}
	return sleep(x.ctx, min(time.Duration(float64(spent)*min(over, 100)), maxRest))
}

const maxRest = 2 * time.Second
