// Package gossip keeps one node's view of its cluster: who is alive and where, and which layout of the ring is in force. It
// wraps memberlist (SWIM failure detection with Lifeguard's refinements; Dynamo's section 4.8) behind one Membership, and
// adds what memberlist leaves to its users: it meets again whom a long partition made it forget, keeps its peers on disk,
// forms the first ring exactly once (form_core.go), spreads layouts, and keeps the nodes of other clusters out.
//
// Liveness never changes ownership: that is the layout's matter alone. Gossip carries only the layout's version and hash;
// the layout itself is fetched from a node that has it, and is on disk before this node tells anybody of it.
package gossip

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/rondodb/rondo/ring"
)

// Membership is one node's part in the cluster: New, Open, Close. All methods are safe for concurrent use; before Open the
// node sees only what it has on disk.
type Membership struct {
	config  Config
	log     *slog.Logger
	process uint64    // random, to tell this process from others with the same id
	born    time.Time // zero of the clock that answers are timed by

	layout  atomic.Pointer[ring.Layout]
	view    atomic.Pointer[view]
	form    former
	randMu  sync.Mutex // guards config.Rand
	changes chan struct{}
	failed  chan error
	stats   counters

	mu       sync.Mutex
	own      meta // what this node says about itself
	ownAddr  string
	table    map[ring.NodeID]*entry
	foreign  map[ring.NodeID]string // nodes of other rings: identity of theirs
	told     map[string]struct{}    // faults already logged, each once
	conflict error                  // another process has this id
	claims   claims
	closed   bool
	disputed time.Time // when others were last seen to have another address of this node
	unsaved  bool      // the peers have changed since they were put on disk

	list       atomic.Pointer[memberlist.Memberlist]
	saying     gate   // one caller of memberlist.UpdateNode at a time
	ending     gate   // orders Leave and Shutdown
	savedPeers []byte // as on disk; the join loop's
	opened     time.Time
	announce   chan struct{} // own has changed
	wakeForm   chan struct{} // the view has changed
	wakeJoin   chan struct{} // a member was lost, or an address is disputed
	ctx        context.Context
	cancel     context.CancelFunc
	loops      sync.WaitGroup
}

// New reads what the node knows from Config.Meta and starts nothing.
func New(config Config) (*Membership, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure membership: %w", err)
	}
	m := &Membership{
		config: config, log: config.Logger, changes: make(chan struct{}, 1), failed: make(chan error, 1),
		born: time.Now(), table: map[ring.NodeID]*entry{}, foreign: map[ring.NodeID]string{}, told: map[string]struct{}{},
		announce: make(chan struct{}, 1), wakeForm: make(chan struct{}, 1), wakeJoin: make(chan struct{}, 1),
		opened: time.Now(), saying: make(gate, 1), ending: make(gate, 1),
	}
	var random [8]byte
	crand.Read(random[:]) // never fails
	m.process = binary.BigEndian.Uint64(random[:])
	if err := m.load(); err != nil {
		return nil, err
	}
	m.own = meta{
		Weight: uint16(config.Weight), Expect: uint16(config.Expect), Partitions: uint32(config.Partitions), Process: m.process,
		Name: config.Name, Zone: config.Zone, HTTPAddr: config.HTTPAddr, PeerAddr: config.PeerAddr, Version: config.Version,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh()
	return m, nil
}

// now is nanoseconds on the Membership's own clock, which no change of the wall clock moves.
func (m *Membership) now() int64 { return int64(time.Since(m.born)) }

// load reads layout, forming state and peers from disk.
func (m *Membership) load() error {
	b, err := m.config.Meta.GetMeta(metaLayout)
	if err != nil {
		return fmt.Errorf("load layout: %w", err)
	}
	if b != nil {
		l, err := ring.Decode(b)
		if err != nil {
			return fmt.Errorf("load layout: %w", err)
		}
		m.layout.Store(l)
	}
	if err := m.loadForm(); err != nil {
		return err
	}
	return m.loadPeers()
}

// The names of this package's records in MetaStore.
const (
	metaLayout = "gossip/layout"
	metaForm   = "gossip/form"
	metaPeers  = "gossip/peers"
	metaAddr   = "gossip/address" // this node's own, the last time
)

// Open binds the gossip address and begins to look for the cluster. A fresh node that is meant to be alone has its ring when
// Open returns.
func (m *Membership) Open() error {
	m.ctx, m.cancel = context.WithCancel(context.Background())
	transport := m.config.Transport
	if transport == nil {
		ctx, cancel := context.WithTimeout(m.ctx, lookUpTime)
		s, err := m.openSockets(ctx)
		cancel()
		if err != nil {
			m.cancel()
			return fmt.Errorf("open membership: %w", err)
		}
		transport = s
	}
	ip, port, err := transport.FinalAdvertiseAddr("", 0)
	if err == nil {
		err = m.settleAddress(net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	}
	if err == nil {
		err = m.formAlone() // only now: a start that fails on its address must not leave a ring behind
	}
	if err == nil {
		var list *memberlist.Memberlist
		if list, err = memberlist.Create(m.listConfig(transport)); err == nil {
			m.list.Store(list)
		}
	}
	if err != nil {
		m.cancel()
		return fmt.Errorf("open membership: %w", errors.Join(err, transport.Shutdown()))
	}
	m.loops.Go(m.announceLoop)
	m.loops.Go(m.joinLoop)
	m.loops.Go(m.formLoop)
	return nil
}

const lookUpTime = 5 * time.Second

// settleAddress takes the address that others will know. Where it is not the one of the last start, they may hold on to that.
func (m *Membership) settleAddress(addr string) error {
	last, err := m.config.Meta.GetMeta(metaAddr)
	if err != nil {
		return fmt.Errorf("load own address: %w", err)
	}
	if string(last) != addr {
		if err := m.config.Meta.PutMeta(metaAddr, []byte(addr)); err != nil {
			return fmt.Errorf("keep own address: %w", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened, m.ownAddr = time.Now(), addr
	if last != nil && string(last) != addr {
		m.disputed = m.opened
	}
	m.refresh()
	return nil
}

// Leave tells the others that this node goes, so that they need not find out. It waits up to timeout for the word to be
// out; where nobody hears it, that is logged and no error. Call it once, before Close.
func (m *Membership) Leave(timeout time.Duration) error {
	m.SetDraining()
	m.ending.enter()
	defer m.ending.leave()
	list := m.list.Load()
	m.mu.Lock()
	gone := m.closed || list == nil || m.conflict != nil // a duplicate must not say goodbye in the other one's name
	m.mu.Unlock()
	if gone {
		return nil
	}
	if err := m.say(timeout / 2); err != nil {
		m.log.Debug("others may not know yet that this node drains", "reason", err)
	}
	if err := list.Leave(timeout / 2); err != nil {
		m.log.Info("no other node heard that this one leaves; they will notice", "reason", err)
	}
	return nil
}

// Close stops everything that Open started and returns when it is gone. memberlist's own goroutines end within its timeouts
// after that; none of them calls back into this package with effect.
func (m *Membership) Close() error {
	list := m.list.Load()
	m.mu.Lock()
	if m.closed || list == nil {
		m.closed = true
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.ending.enter()
	err := list.Shutdown()
	m.ending.leave()
	m.loops.Wait()
	if err != nil {
		return fmt.Errorf("close membership: %w", err)
	}
	return nil
}

// Self is this node's id.
func (m *Membership) Self() ring.NodeID { return m.config.Self }

// Layout is the layout in force, nil until there is one. It never blocks.
func (m *Membership) Layout() *ring.Layout { return m.layout.Load() }

// GossipAddr is the address at which others meet this node: what they pass to --join. "" before Open.
func (m *Membership) GossipAddr() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ownAddr
}

// Changes yields when something has changed: a layout was adopted, a node came or went, or described itself anew. Several
// changes may be one event. It has one consumer.
func (m *Membership) Changes() <-chan struct{} { return m.changes }

// Failed yields once, when another running process turns out to have this node's id and has run for longer. This node has
// left the gossip by then, is never ready again, and must be stopped.
func (m *Membership) Failed() <-chan error { return m.failed }

// gate lets one caller in at a time. Unlike with a mutex, those that wait do not hold up virtual time.
type gate chan struct{}

func (g gate) enter() { g <- struct{}{} }
func (g gate) leave() { <-g }

// signal wakes a loop; a signal that is already waiting stands for this one too.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// once tells whether this fault is new; it is remembered. The caller holds mu.
func (m *Membership) once(fault string) bool {
	if _, known := m.told[fault]; known {
		return false
	}
	if len(m.told) >= maxTold {
		clear(m.told)
	}
	m.told[fault] = struct{}{}
	return true
}

const maxTold = 4096

// jitter is d, give or take a tenth.
func (m *Membership) jitter(d time.Duration) time.Duration {
	m.randMu.Lock()
	defer m.randMu.Unlock()
	return d - d/10 + time.Duration(m.config.Rand.Int64N(int64(d/5)+1))
}

// choose is a number below n.
func (m *Membership) choose(n int) int {
	m.randMu.Lock()
	defer m.randMu.Unlock()
	return m.config.Rand.IntN(n)
}

// shuffle puts n things in random order.
func (m *Membership) shuffle(n int, swap func(i, j int)) {
	m.randMu.Lock()
	defer m.randMu.Unlock()
	m.config.Rand.Shuffle(n, swap)
}
