package gossip

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// former drives the forming protocol of form_core.go.
type former struct {
	mu      sync.Mutex           // guards what follows, and orders adoptions; held while the disk is written
	state   formState            // as it is on disk
	heard   map[ring.NodeID]bool // members whose lock on the same attempt is known
	silent  time.Time            // since when the proposer of the lock has not been heard
	follows string               // the ring that this fresh node met first

	// The form loop's own.
	agreed time.Time // since when all fresh nodes see the same set
	set    uint64    // that set's hash

	locked atomic.Bool
	reason atomic.Pointer[string]
}

func (f *former) setReason(reason string) { f.reason.Store(&reason) }

// take makes state the present one, after it is on disk. The caller holds mu.
func (f *former) take(state formState) {
	if f.state.Lock != state.Lock {
		f.heard, f.silent = map[ring.NodeID]bool{}, time.Now()
	}
	f.state = state
	f.locked.Store(state.Lock != nil)
}

// forget is for a node that has a layout. The caller holds mu.
func (f *former) forget() {
	f.take(formState{})
	f.setReason("")
}

func (m *Membership) loadForm() error {
	m.form.setReason("starting")
	if m.layout.Load() != nil {
		return nil
	}
	b, err := m.config.Meta.GetMeta(metaForm)
	if err != nil {
		return fmt.Errorf("load forming state: %w", err)
	}
	var state formState
	if len(b) > 0 {
		if err := json.Unmarshal(b, &state); err != nil {
			return fmt.Errorf("load forming state: %w", err)
		}
	}
	m.form.take(state)
	return nil
}

// keep puts the state on disk, then in force. The caller holds form.mu.
func (m *Membership) keep(state formState) error {
	if state.equal(m.form.state) {
		return nil
	}
	b, err := json.Marshal(state)
	if err == nil && !plant.On(plant.VoteNotKept) {
		err = m.config.Meta.PutMeta(metaForm, b)
	}
	if err != nil {
		return fmt.Errorf("keep forming state: %w", err)
	}
	m.form.take(state)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh()
	signal(m.announce)
	return nil
}

// formAlone makes a ring of this node alone, where that is what it was started for.
func (m *Membership) formAlone() error {
	if m.layout.Load() != nil || m.config.Expect > 1 || len(m.config.Join) > 0 {
		return nil
	}
	m.form.mu.Lock()
	defer m.form.mu.Unlock()
	if m.form.state.Lock != nil {
		return nil // an earlier start with other flags; the loop finds out what became of it
	}
	v := m.view.Load()
	if err := m.propose(v, []ring.NodeID{m.config.Self}); err != nil {
		return err
	}
	return m.decide("formed alone")
}

// propose locks this node on a new attempt. The caller holds form.mu.
func (m *Membership) propose(v *view, members []ring.NodeID) error {
	var id [16]byte
	crand.Read(id[:]) // never fails
	ringID := hex.EncodeToString(id[:])
	list := make([]ring.Member, len(members))
	for i, id := range members {
		n := v.nodes[id]
		list[i] = ring.Member{ID: id, Name: n.Name, Zone: n.Zone, Weight: n.Weight}
	}
	l, err := ring.First(ringID, m.config.Partitions, list)
	if err != nil {
		return fmt.Errorf("propose a ring: %w", err)
	}
	m.stats.formAttempts.Add(1)
	return m.keep(m.form.state.propose(m.config.Self, ringID, members, l.Encode()))
}

// decide adopts the layout of the present lock. The caller holds form.mu.
func (m *Membership) decide(why string) error {
	l, err := ring.Decode(m.form.state.Lock.Layout)
	if err != nil {
		return fmt.Errorf("adopt the ring that was formed: %w", err)
	}
	_, err = m.adoptLocked(l, why)
	return err
}

// formLoop brings this node to a layout, and to newer ones later.
func (m *Membership) formLoop() {
	for {
		m.formStep()
		pause := m.config.Timing.FormTick
		if m.layout.Load() != nil {
			pause = m.config.Timing.RejoinInterval // and whenever the view changes
			if len(m.newer()) > 0 {
				pause = m.config.Timing.RejoinFast
			}
		}
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(pause):
		case <-m.wakeForm:
			select { // changes come in swarms
			case <-m.ctx.Done():
				return
			case <-time.After(formPause):
			}
		}
	}
}

const formPause = 20 * time.Millisecond

// formStep does what is due at present.
func (m *Membership) formStep() {
	if m.fetch() || m.layout.Load() != nil {
		return
	}
	m.form.mu.Lock()
	lock := m.form.state.Lock
	m.form.mu.Unlock()
	if lock != nil {
		m.pursue(lock)
		return
	}
	members, reason := m.ripe()
	if members == nil {
		m.form.setReason(reason)
		return
	}
	m.form.mu.Lock()
	var err error
	if m.form.state.Lock == nil && m.layout.Load() == nil { // still
		err = m.propose(m.view.Load(), members)
	}
	lock = m.form.state.Lock
	m.form.mu.Unlock()
	switch {
	case err != nil:
		m.form.setReason(err.Error())
	case lock != nil:
		m.pursue(lock)
	}
}

// pursue asks whom this node has not heard of about the attempt that it is locked on: its own one, or one whose proposer may
// have gone.
func (m *Membership) pursue(lock *formLock) {
	self := m.config.Self
	m.form.mu.Lock()
	missing := lock.missing(self, m.form.heard)
	away := time.Since(m.form.silent) >= m.config.Timing.FormAway
	m.form.mu.Unlock()
	r := formRequest{Kind: kindAsk, Proposer: lock.Proposer, Attempt: lock.Attempt, Layout: lock.Layout}
	targets := missing
	if lock.Proposer != self {
		// The proposer itself can tell that the attempt is over: it would still be locked otherwise.
		r.Kind, r.Layout = kindQuery, nil
		targets = []ring.NodeID{lock.Proposer}
		if away || len(missing) == 0 {
			targets = append(targets, missing...)
		}
	}
	if len(missing) == 0 {
		m.conclude(lock, decided, nil)
		return
	}
	payload, err := json.Marshal(r)
	if err != nil {
		m.form.setReason(err.Error())
		return
	}
	var calls sync.WaitGroup
	for _, id := range targets {
		calls.Go(func() { m.inquire(lock, id, payload) })
	}
	calls.Wait()
	m.form.mu.Lock()
	still, missing := m.form.state.Lock == lock, lock.missing(self, m.form.heard)
	m.form.mu.Unlock()
	switch {
	case !still:
	case lock.Proposer == self:
		m.form.setReason("forming the ring that this node has proposed: waiting for the answer of " + m.namesOf(missing))
	case away:
		m.form.setReason(fmt.Sprintf("forming the ring that %s has proposed: it is silent, and so are %s; waiting for it, or for all of these",
			m.nameOf(lock.Proposer), m.namesOf(missing)))
	default:
		m.form.setReason(fmt.Sprintf("forming the ring that %s has proposed", m.nameOf(lock.Proposer)))
	}
}

// inquire asks one member and concludes from its answer. No answer is none.
func (m *Membership) inquire(lock *formLock, id ring.NodeID, payload []byte) {
	ctx, cancel := context.WithTimeout(m.ctx, m.config.Timing.Call)
	defer cancel()
	b, err := m.config.Peers.Call(ctx, id, callForm, payload)
	var answer formAnswer
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	var l *ring.Layout
	ringID := ""
	if err == nil && answer.Reply == replyFormed {
		if l, err = ring.Decode(answer.Layout); err == nil {
			ringID = l.Cluster()
		}
	}
	if err != nil {
		m.log.Debug("no answer about the ring to be formed", "node", m.nameOf(id), "error", err)
		return
	}
	m.form.mu.Lock()
	if m.form.state.Lock != lock {
		m.form.mu.Unlock()
		return
	}
	if id == lock.Proposer {
		m.form.silent = time.Now()
	}
	v := lock.judge(m.config.Self, id, answer.Reply, ringID, m.form.heard)
	m.form.mu.Unlock()
	if v != wait {
		m.conclude(lock, v, l)
	}
}

// conclude ends the attempt for this node. l is the layout that a member has formed already, if that is why.
func (m *Membership) conclude(lock *formLock, v verdict, l *ring.Layout) {
	m.form.mu.Lock()
	defer m.form.mu.Unlock()
	if m.form.state.Lock != lock || m.layout.Load() != nil {
		return
	}
	var err error
	switch {
	case v == giveUp:
		err = m.keep(m.form.state.release())
	case l != nil:
		_, err = m.adoptLocked(l, "formed by others")
	default:
		err = m.decide("formed with all its members")
	}
	if err != nil {
		m.log.Error("cannot conclude the forming of the ring, will try again", "error", err)
	}
}
