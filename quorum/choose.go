package quorum

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// peerMost bounds the requests in flight to one peer: one that hangs must not collect the late writes of all clients.
const peerMost = 4096

// peerState is what this node has learnt about one peer by calling it. Safe for concurrent use.
type peerState struct {
	inFlight atomic.Int32
	full     atomic.Int64 // Unix nanoseconds at which it said that its disk is full; 0 = never
	table    *peerTable

	mu      sync.Mutex
	breaker breaker
	latency latency
}

// peerTable holds the states of all peers ever called. Lookups take no lock.
type peerTable struct {
	states atomic.Pointer[map[ring.NodeID]*peerState]
	mu     sync.Mutex // guards growth and rand
	rand   *rand.Rand
}

func (t *peerTable) get(id ring.NodeID) *peerState {
	if m := t.states.Load(); m != nil {
		if s := (*m)[id]; s != nil {
			return s
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	grown := map[ring.NodeID]*peerState{}
	if m := t.states.Load(); m != nil {
		if s := (*m)[id]; s != nil {
			return s
		}
		grown = maps.Clone(*m)
	}
	s := &peerState{table: t}
	grown[id] = s
	t.states.Store(&grown)
	return s
}

// fullMemory is for how long a peer that said that its disk is full is not counted on for writes: then it is tried again.
const fullMemory = time.Second

func (s *peerState) saidFull(now time.Time) bool {
	at := s.full.Load()
	ago := now.UnixNano() - at
	return at != 0 && ago >= 0 && ago < int64(fullMemory)
}

func (s *peerState) ready(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breaker.ready(now)
}

// acquire claims a request; where it returns nil settle must follow, with the same time.
func (s *peerState) acquire(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight.Load() >= peerMost {
		return errBusy
	}
	if !s.breaker.acquire(now) {
		return errBreaker
	}
	s.inFlight.Add(1)
	return nil
}

// settle notes how a request that was sent at sent ended. It tells whether the breaker opened.
func (s *peerState) settle(now, sent time.Time, class, outcome string) (opened bool) {
	s.inFlight.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch outcome {
	case outcomeOverloaded:
		s.breaker.unsure(now)
		return false
	case outcomeTimeout, outcomeUnreachable:
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return s.breaker.silence(now, sent, s.table.rand)
	}
	s.breaker.reply(now)
	if class == "read" && outcome == outcomeOK {
		s.latency.observe(now, now.Sub(sent))
	}
	return false
}

// met notes that the peer has come to this node by itself.
func (s *peerState) met(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker.reply(now)
}

// late notes that a read has waited for this long.
func (s *peerState) late(now time.Time, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency.late(now, waited)
}

func (s *peerState) percentile() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latency.percentile()
}

// standing is ready and score, with one lock.
func (s *peerState) standing(now time.Time) (ready bool, score float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breaker.ready(now), s.latency.score(now, int(s.inFlight.Load()))
}

// candidate is one owner as a choice between replicas sees it.
type candidate struct {
	index    int // in the preference list
	self     bool
	usable   bool
	sameZone bool
	score    float64 // lower is better
}

// before orders candidates: those that can be asked first, then this node itself, its zone, and the quicker ones.
func (a candidate) before(b candidate) bool {
	switch {
	case a.usable != b.usable:
		return a.usable
	case a.self != b.self:
		return a.self
	case a.sameZone != b.sameZone:
		return a.sameZone
	}
	return a.score < b.score
}

// choice is the owners of a key in the order in which to ask them; the first usable of them can be asked now.
type choice struct {
	order  [MaxN]int8
	n      int
	usable int
}

// choose ranks the owners of a key.
func (c *Coordinator) choose(t *target, now time.Time) choice {
	var space [MaxN]candidate
	list := space[:0]
	me, member := t.layout.Member(c.self)
	for i, id := range t.owners {
		k := candidate{index: i, self: id == c.self}
		if k.self {
			k.usable, k.sameZone = c.state.fit(t.class(), toRead) == nil, true
		} else {
			k.usable, k.score = c.table.get(id).standing(now)
			k.usable = k.usable && c.config.Membership.Alive(id)
			if m, ok := t.layout.Member(id); ok && member {
				k.sameZone = m.Zone == me.Zone
			}
		}
		at := len(list)
		list = append(list, k)
		for ; at > 0 && k.before(list[at-1]); at-- {
			list[at] = list[at-1]
		}
		list[at] = k
	}
	out := choice{n: len(list)}
	for i, k := range list {
		out.order[i] = int8(k.index)
		if k.usable {
			out.usable++
		}
	}
	return out
}

// settled ends one call to a peer: its state and the observer learn of it.
func (c *Coordinator) settled(s *peerState, id ring.NodeID, class string, sent time.Time, err error) (took time.Duration) {
	now := time.Now()
	took = now.Sub(sent)
	outcome := outcomeOf(err)
	if s.settle(now, sent, class, outcome) {
		c.config.Observer.Event("breaker_open", 1)
		c.config.Logger.Warn("a node does not answer, leaving it alone for a moment", "node", id, "class", class, "outcome", outcome, "error", err)
	}
	switch outcome {
	case outcomeFull:
		s.full.Store(now.UnixNano())
		outcome = outcomeError
	case outcomeStale:
		outcome = outcomeError
	}
	c.config.Observer.PeerCall(id, class, outcome, took)
	return took
}
