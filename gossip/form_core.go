package gossip

import (
	"maps"
	"slices"

	"github.com/rondodb/rondo/ring"
)

// How a cluster gets its first ring, and why it gets only one.
//
// A fresh node that proposes a ring names an attempt (itself, a number it never used before), the set S of its members, and
// the layout. It locks itself on the attempt, then asks every other member of S to lock too. A node is locked on at most one
// attempt at a time; a node that cannot lock on an attempt refuses it for good. Locks and refusals are on disk before
// anybody hears of them. The attempt is decided once every member of S has locked on it; whoever finds that out adopts the
// layout. The proposer finds out by asking. If it falls silent, any locked member asks all others, and asking has whoever
// is not locked refuse. The proposer itself need not answer then: it locked before it asked anybody.
//
// Claim: no two attempts whose sets share a node are both decided.
//
//  1. A member that refused an attempt does not lock on it later: refusals are for good.
//  2. A lock is released only when some member of S has refused the attempt, or has formed another ring.
//  3. If any member of S has refused an attempt, the attempt is never decided. Take the first to refuse it. It was not
//     locked then. Had it been locked before, it had released the lock, so by 2 someone had refused earlier (or formed
//     another ring, see 5), which contradicts "first". So it never was locked, and by 1 it never will be.
//  4. So if an attempt is decided, none of its members ever releases its lock on it, except by adopting its layout. A node of
//     two sets would have to hold two locks at a time, or to lock after it formed; it does neither.
//  5. A node that is locked adopts only the layout of the attempt it is locked on. So a node that formed another ring was
//     not locked on this attempt then, and never will be: as good as a refusal.
//
// Therefore with N fresh nodes in all and sets of at least N, there is one ring. (Of more than 2N-1 fresh nodes, two groups
// of N that have never seen each other could form two rings; their nodes then refuse each other by the rings' identities.)
//
// The price: an attempt that was locked by some is not given up while one of its members can neither be asked nor has
// refused, because that member may know that it is decided. Ready tells who is waited for.

// formLock is an attempt that a node is bound by.
type formLock struct {
	Proposer ring.NodeID   `json:"proposer"`
	Attempt  uint64        `json:"attempt"`
	Ring     string        `json:"ring"`    // identity of the ring that it would make
	Members  []ring.NodeID `json:"members"` // S
	Layout   []byte        `json:"layout"`
}

func (l *formLock) is(proposer ring.NodeID, attempt uint64) bool {
	return l != nil && l.Proposer == proposer && l.Attempt == attempt
}

// missing lists the members whose lock self, itself locked, still has to hear of.
func (l *formLock) missing(self ring.NodeID, locked map[ring.NodeID]bool) []ring.NodeID {
	var out []ring.NodeID
	for _, id := range l.Members {
		if id != self && id != l.Proposer && !locked[id] {
			out = append(out, id)
		}
	}
	return out
}

// formState is what a fresh node must not forget. Values are immutable: each step returns the next one.
type formState struct {
	Attempt uint64                 `json:"attempt"` // last one that this node proposed
	Lock    *formLock              `json:"lock,omitempty"`
	Refused map[ring.NodeID]uint64 `json:"refused,omitempty"` // by proposer: its attempts up to this one are refused
}

// formReply is a node's answer about an attempt.
type formReply uint8

const (
	replyLocked formReply = iota + 1
	replyRefused
	replyFormed // it has a layout, which comes with the answer
)

// propose locks self on its next attempt. The node must not be locked.
func (s formState) propose(self ring.NodeID, ringID string, members []ring.NodeID, layout []byte) formState {
	s.Attempt++
	s.Lock = &formLock{Proposer: self, Attempt: s.Attempt, Ring: ringID, Members: members, Layout: layout}
	return s
}

// ask is what a member that has not formed does when the proposer asks it to lock.
func (s formState) ask(l *formLock) (formState, formReply) {
	switch {
	case s.Lock.is(l.Proposer, l.Attempt):
		return s, replyLocked
	case s.Lock == nil && s.Refused[l.Proposer] < l.Attempt:
		s.Lock = l
		return s, replyLocked
	}
	return s.refuse(l.Proposer, l.Attempt), replyRefused
}

// query is what a member that has not formed does when another member asks how the attempt stands.
func (s formState) query(proposer ring.NodeID, attempt uint64) (formState, formReply) {
	if s.Lock.is(proposer, attempt) {
		return s, replyLocked
	}
	return s.refuse(proposer, attempt), replyRefused
}

// release gives up the attempt that a member has refused.
func (s formState) release() formState {
	proposer, attempt := s.Lock.Proposer, s.Lock.Attempt
	s.Lock = nil
	return s.refuse(proposer, attempt)
}

func (s formState) refuse(proposer ring.NodeID, attempt uint64) formState {
	if s.Refused[proposer] >= attempt {
		return s
	}
	refused := maps.Clone(s.Refused)
	if refused == nil {
		refused = map[ring.NodeID]uint64{}
	}
	refused[proposer] = attempt
	s.Refused = refused
	return s
}

// equal tells whether there is nothing new to put on disk.
func (s formState) equal(o formState) bool {
	return s.Attempt == o.Attempt && s.Lock == o.Lock && maps.Equal(s.Refused, o.Refused)
}

// verdict is what a locked node concludes from an answer.
type verdict uint8

const (
	wait    verdict = iota
	decided         // the attempt's layout is the cluster's
	giveUp          // release the lock
)

// judge is what self, locked on l, concludes when member answers about l. formedRing is the identity that comes with
// replyFormed. It notes locks in locked.
func (l *formLock) judge(self, member ring.NodeID, reply formReply, formedRing string, locked map[ring.NodeID]bool) verdict {
	if !slices.Contains(l.Members, member) {
		return wait
	}
	switch reply {
	case replyFormed:
		if formedRing == l.Ring {
			return decided
		}
		return giveUp
	case replyRefused:
		return giveUp
	case replyLocked:
		locked[member] = true
	}
	if len(l.missing(self, locked)) == 0 {
		return decided
	}
	return wait
}
