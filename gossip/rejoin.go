package gossip

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/plant"
)

// memberlist never looks for whom it has forgotten, and forgets the dead; two halves of a long partition would stay apart
// for ever. So this loop, as long as the node lives, looks the seeds up again and dials every address at which a node may be
// that is not alive here: the seeds', those of the layout's dead members, and those of other peers on disk. That nobody
// answers is normal.

// fastPhase is how long a lost member is dialed at the fast rate.
const fastPhase = 30 * time.Second

// tellJoin is how often the log says that nobody was met.
const tellJoin = time.Minute

// joinState is the loop's memory.
type joinState struct {
	last     time.Time // of the last round
	due      time.Duration
	lost     time.Time // when a member was last lost, or an own address disputed
	missing  int
	told     time.Time
	failing  bool
	loopback bool // the warning about a loopback address was given
}

func (m *Membership) joinLoop() {
	list := m.list.Load()
	var s joinState
	for {
		if err := m.sendClaims(list); err != nil {
			m.log.Warn("cannot stop gossip", "error", err)
		}
		m.savePeers()
		if m.joinIsDue(&s) {
			m.joinRound(&s)
		}
		select {
		case <-m.ctx.Done():
			m.savePeers()
			return
		case <-time.After(m.jitter(m.config.Timing.RejoinFast)):
		case <-m.wakeJoin:
			s.lost = time.Now()
			select { // several losses come together
			case <-m.ctx.Done():
			case <-time.After(min(m.config.Timing.RejoinFast, 100*time.Millisecond)):
			}
		}
	}
}

// joinIsDue decides whether to look for nodes now: at the fast rate while alone or shortly after a loss.
func (m *Membership) joinIsDue(s *joinState) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conflict != nil {
		return false
	}
	v, l := m.view.Load(), m.layout.Load()
	if plant.On(plant.RejoinOff) && l != nil && !s.last.IsZero() {
		return false
	}
	missing := 0
	if l != nil {
		for _, member := range l.Members() {
			if n := v.nodes[member.ID]; n == nil || !n.up {
				missing++
			}
		}
	}
	if missing > s.missing {
		s.lost = time.Now()
	}
	s.missing = missing
	alone := v.others == 0 && (missing > 0 || len(m.config.Join) > 0) || l == nil && v.others+1 < m.config.Expect
	fast := alone || m.isDisputed() || !s.lost.IsZero() && time.Since(s.lost) < fastPhase
	return s.last.IsZero() || fast && time.Since(s.last) >= m.config.Timing.RejoinFast || time.Since(s.last) >= s.due
}

// isDisputed tells whether others have lately been seen to hold on to another address of this node. The caller holds mu.
func (m *Membership) isDisputed() bool {
	return !m.disputed.IsZero() && time.Since(m.disputed) < disputePhase
}

const disputePhase = 15 * time.Second

// parallelJoins bounds the dials under way.
const parallelJoins = 8

// joinRound looks up the seeds and dials everybody who is not alive.
func (m *Membership) joinRound(s *joinState) {
	s.last, s.due = time.Now(), m.jitter(m.config.Timing.RejoinInterval)
	seeds, lookUpErr := m.resolveSeeds()
	targets := m.joinTargets(seeds)
	m.warnLoopback(s, seeds)

	var (
		work  sync.WaitGroup
		mu    sync.Mutex
		met   int
		fault = lookUpErr
		slots = make(chan struct{}, parallelJoins)
	)
	for _, addr := range targets {
		slots <- struct{}{}
		if m.ctx.Err() != nil {
			break
		}
		work.Go(func() {
			defer func() { <-slots }()
			m.stats.joinAttempts.Add(1)
			_, err := m.list.Load().Join([]string{addr})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				m.stats.joinFailures.Add(1)
				fault = err
			} else {
				met++
			}
		})
	}
	work.Wait()
	m.tellJoin(s, met, fault)
}

// tellJoin logs that nobody can be met, at once and then every minute, and when that is over.
func (m *Membership) tellJoin(s *joinState, met int, fault error) {
	alone := m.view.Load().others == 0
	if m.ctx.Err() != nil {
		return
	}
	switch {
	case alone && met == 0 && fault != nil:
		if !s.failing || time.Since(s.told) >= tellJoin {
			s.told = time.Now()
			m.log.Warn("no other node can be met yet; trying again for as long as it takes", "join", m.config.Join, "reason", lastLine(fault))
		}
		s.failing = true
	case s.failing && !alone:
		s.failing = false
		m.log.Info("met other nodes")
	}
}

// lastLine is the gist of memberlist's multi-line errors.
func lastLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.TrimLeft(lines[len(lines)-1], "\t *")
}

// resolveSeeds looks up every address of every seed. The error is one of those that failed.
func (m *Membership) resolveSeeds() ([]string, error) {
	var (
		work  sync.WaitGroup
		mu    sync.Mutex
		found []string
		fault error
	)
	ctx, cancel := context.WithTimeout(m.ctx, m.config.Timing.Stream)
	defer cancel()
	for _, seed := range m.config.Join {
		host, port, err := net.SplitHostPort(seed)
		if err != nil || net.ParseIP(host) != nil {
			mu.Lock() // look-ups of earlier names may be under way
			if fault = cmp.Or(fault, err); err == nil {
				found = append(found, seed)
			}
			mu.Unlock()
			continue
		}
		work.Go(func() {
			ips, err := m.config.Resolve(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fault = err
			}
			for _, ip := range ips {
				found = append(found, net.JoinHostPort(ip.String(), port))
			}
		})
	}
	work.Wait()
	return found, fault
}

// maxTargets bounds the addresses dialed in one round; over several rounds chance picks all.
const maxTargets = 64

// joinTargets is where to dial: seeds and known nodes that are not alive here. While others hold on to another address of
// this node, they cannot reach it, so some of the living are dialed too, until they have taken the new one.
func (m *Membership) joinTargets(seeds []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.layout.Load()
	alive := map[string]bool{m.ownAddr: true}
	var known []string
	for id, e := range m.table {
		switch {
		case e.gossip == "" || m.isForeign(id, &e.meta):
		case e.up && m.isDisputed():
			known = append(known, e.gossip)
		case e.up:
			alive[e.gossip] = true
		case l == nil || isMember(l, id) || m.view.Load().others == 0 || time.Since(e.seen) < rememberDead:
			known = append(known, e.gossip)
		}
	}
	m.shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	m.shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	var out []string
	for _, addr := range slices.Concat(seeds[:min(len(seeds), maxTargets/2)], known) {
		if !alive[addr] && len(out) < maxTargets {
			alive[addr] = true
			out = append(out, addr)
		}
	}
	return out
}

// warnLoopback tells once that others cannot dial this node back.
func (m *Membership) warnLoopback(s *joinState, seeds []string) {
	host, _, err := net.SplitHostPort(m.GossipAddr())
	if err != nil || s.loopback || !net.ParseIP(host).IsLoopback() {
		return
	}
	for _, seed := range seeds {
		if host, _, err := net.SplitHostPort(seed); err == nil && !net.ParseIP(host).IsLoopback() {
			s.loopback = true
			m.log.Warn("this node advertises a loopback address, at which the nodes that it joins cannot reach it: set --advertise",
				"gossip", m.GossipAddr(), "join", seed)
			return
		}
	}
}
