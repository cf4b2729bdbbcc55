package antientropy

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// PartitionStatus is what this node knows of the equality of one of its partitions.
type PartitionStatus struct {
	Class ring.Class
	Root  uint64    // hash of the tree
	Equal time.Time // since when everything that this node held is known to be on all other owners, and the other way round; zero = not since the start
	Peers []PeerDebt
}

// PeerDebt is how long ago a partition was equal with one other owner.
type PeerDebt struct {
	Node  ring.NodeID
	Equal time.Time // zero = not since the start
	Error string    // why the last try failed, "" where it did not
}

// HintProgress is how the delivery of hints to one node goes.
type HintProgress struct {
	HintStat
	Delivered uint64  // since the start of the process
	Rate      float64 // hints per second, over the last seconds
	Error     string  // why nothing is delivered now, "" where it is, or nothing waits
}

// TombstoneStatus is the state of collection, for operators.
type TombstoneStatus struct {
	Waiting   int64 // tombstones and expired values on this node
	Oldest    time.Time
	Collected uint64 // since the start of the process
	Refused   uint64 // late versions that were refused or turned into deletes
	Blocker   string // what stops collection now: a node and why; "" where nothing does
	Classes   []ClassTombstones
}

// ClassTombstones is the backlog of one class.
type ClassTombstones struct {
	TombstoneStat
	Marks   Marks
	Blocker string
}

// Status is a snapshot, cheap enough for every scrape.
type Status struct {
	Partitions []PartitionStatus // those that this node owns and that hold anything, or are unsynced
	Unsynced   int               // classes without a vote that hold something or must be compared
	Hints      []HintProgress
	HintsKnown bool
	Paused     bool // delivery of hints
	Tombstones TombstoneStatus

	Exchanges, ExchangesFailed   uint64 // with one peer each
	ObjectsSent, ObjectsReceived uint64
	ExchangeBytes                uint64 // both ways
	VerifiedObjects              uint64
	DamagedObjects               uint64
	WrongLeaves                  uint64
	VerifyAge                    time.Duration // since the last complete verification ended; 0 = none yet
}

// Status tells how things stand.
func (r *Repairer) Status() Status {
	s := Status{
		Tombstones: r.tombstoneStatus(),
		Exchanges:  r.count.exchanges.Load(), ExchangesFailed: r.count.failed.Load(),
		ObjectsSent: r.count.sent.Load(), ObjectsReceived: r.count.received.Load(), ExchangeBytes: r.count.bytes.Load(),
		VerifiedObjects: r.count.verified.Load(), DamagedObjects: r.count.damaged.Load(), WrongLeaves: r.count.wrong.Load(),
		VerifyAge: r.verify.age(time.Now()),
	}
	s.Hints, s.HintsKnown = r.hintStatus()
	s.Paused = r.hintsPaused()
	l := r.config.Membership.Layout()
	if l == nil {
		return s
	}
	self, now := r.config.Membership.Self(), time.Now()
	held, unsynced := r.config.Store.Classes(), r.config.Store.Unsynced()
	all := append(slices.Clone(held), unsynced...)
	slices.SortFunc(all, ring.Class.Compare)
	reader := r.leafReader(l)
	without := set(unsynced)
	for _, c := range slices.Compact(all) {
		if c.Partition >= l.Partitions() || !l.Owns(self, c.Partition, c.N) {
			continue
		}
		p := PartitionStatus{Class: c, Equal: now}
		if err := reader.build(c); err == nil {
			p.Root = reader.tree.root()
		}
		for _, id := range l.Owners(c.Partition, c.N) {
			if id == self {
				continue
			}
			d := r.debts.of(c, id)
			p.Peers = append(p.Peers, PeerDebt{Node: id, Equal: d.equal, Error: d.err})
			if d.equal.Before(p.Equal) {
				p.Equal = d.equal
			}
		}
		if without[c] && (p.Root != 0 || len(p.Peers) > 0) {
			s.Unsynced++
		}
		if p.Root != 0 || without[c] && len(p.Peers) > 0 {
			s.Partitions = append(s.Partitions, p)
		}
	}
	return s
}

// counters are totals since the start.
type counters struct {
	exchanges, failed        atomic.Uint64
	sent, received, bytes    atomic.Uint64
	purged                   atomic.Uint64 // objects that were refused because all of them had been collected, here or on the other side
	verified, damaged, wrong atomic.Uint64
}

func (c *counters) exchanged(s exchangeStep, err error) {
	c.exchanges.Add(1)
	if err != nil {
		c.failed.Add(1)
	}
	c.sent.Add(uint64(s.Sent))
	c.received.Add(uint64(s.Received))
	c.bytes.Add(uint64(s.Bytes))
}
