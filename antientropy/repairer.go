package antientropy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Repairer is anti-entropy on one node. New, Run; Handle and the rest at any time after New. Safe for concurrent use.
type Repairer struct {
	config  Config
	answers chan struct{} // one for each message that is answered now
	wake    chan struct{} // has room for one: the loop looks at its plan again
	debts   debts
	plan    plan
	votes   votes
	verify  *verification
	resync  resync
	count   counters

	hints  *delivery   // hints.go
	purges *collection // purge.go

	sequence atomic.Uint64 // orders exchanges and losses of votes
	unsynced atomic.Int64  // classes without a vote, as of the last look

	randomMu sync.Mutex // guards config.Rand
	mu       sync.Mutex
	pairs    map[ring.NodeID]chan struct{} // full while there is an exchange with this node
}

// maxAnswers is how many messages of exchanges are answered at a time.
const maxAnswers = 4

// New makes a Repairer. It starts nothing.
func New(config Config) (*Repairer, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	r := &Repairer{
		config:  config,
		answers: make(chan struct{}, maxAnswers),
		wake:    make(chan struct{}, 1),
		pairs:   make(map[ring.NodeID]chan struct{}),
		verify:  newVerification(),
	}
	r.hints, r.purges = newDelivery(r), newCollection(r)
	return r, nil
}

// Run does what is to be done until ctx ends, and returns when all of it has stopped. It is called once.
func (r *Repairer) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	for _, part := range []struct {
		off bool
		run func(context.Context)
	}{{false, r.runExchanges}, {false, r.runHints}, {r.config.NoPurge, r.runPurges}, {false, r.runVerify}} {
		if !part.off {
			parts.Go(func() { part.run(ctx) })
		}
	}
	parts.Wait()
	return nil
}

// Met is told that another node is back: what waits for it is done now. It does not block.
func (r *Repairer) Met(id ring.NodeID) {
	r.exchangeSoon(id, nil)
	r.wakeHints(id)
}

// Handle answers a message of another node's Repairer.
func (r *Repairer) Handle(ctx context.Context, from ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	l := r.config.Membership.Layout()
	if err := sameLayout(l, layout); err != nil {
		return nil, err
	}
	if _, member := l.Member(from); !member {
		return nil, fmt.Errorf("answer repair: %s is not a member of ring %d", r.config.Name(from), layout)
	}
	if len(request) == 0 {
		return nil, fmt.Errorf("answer repair: %w: empty", errWire)
	}
	kind, payload := request[0], request[1:]
	if kind >= firstHandover && kind <= lastHandover {
		return r.handleHandover(ctx, from, l, kind, payload)
	}
	select {
	case r.answers <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("answer repair: too many are answered already: %w", ctx.Err())
	}
	defer func() { <-r.answers }()
	answer, err := r.answer(ctx, from, l, kind, payload)
	if err != nil {
		return nil, fmt.Errorf("answer repair: %w", err)
	}
	return answer, nil
}

// layoutError is why nodes with different layouts do not repair each other: they may disagree about who owns what.
type layoutError struct {
	text  string
	stale uint64 // this node's version, where the message's was older
}

func (e *layoutError) Error() string       { return e.text }
func (e *layoutError) NotApplied() bool    { return true }
func (e *layoutError) StaleLayout() uint64 { return e.stale }
func (e *layoutError) Outcome() string     { return outcomeStale }

const outcomeStale = "stale" // as quorum and peer call it

func sameLayout(mine *ring.Layout, version uint64) error {
	switch {
	case mine == nil:
		return &layoutError{text: "repair: this node knows no ring yet"}
	case mine.Version() > version:
		return &layoutError{text: fmt.Sprintf("repair: the message is of ring %d, this node has ring %d", version, mine.Version()), stale: mine.Version()}
	case mine.Version() < version:
		return &layoutError{text: fmt.Sprintf("repair: the message is of ring %d, this node still has ring %d", version, mine.Version())}
	}
	return nil
}

// isStale tells whether the nodes disagree about the layout.
func isStale(err error) bool {
	var o interface{ Outcome() string }
	return errors.As(err, &o) && o.Outcome() == outcomeStale
}

// lock waits until there is no exchange with the node, and begins one. unlock ends it.
func (r *Repairer) lock(ctx context.Context, id ring.NodeID) (unlock func(), err error) {
	r.mu.Lock()
	pair := r.pairs[id]
	if pair == nil {
		pair = make(chan struct{}, 1)
		r.pairs[id] = pair
	}
	r.mu.Unlock()
	select {
	case pair <- struct{}{}:
		return func() { <-pair }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sleep waits unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
