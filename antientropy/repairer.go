package antientropy

import (
	"context"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Repairer is anti-entropy on one node. New, Run; Handle and the rest at any time after New. Safe for concurrent use.
type Repairer struct {
	config Config
}

// New makes a Repairer. It starts nothing.
func New(config Config) (*Repairer, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Repairer{config: config}, nil
}

// Run does what is to be done until ctx ends, and returns when all of it has stopped. It is called once.
func (r *Repairer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Met is told that another node is back: what waits for it is done now. It does not block.
func (r *Repairer) Met(id ring.NodeID) {}

// Handle answers a message of another node's Repairer.
func (r *Repairer) Handle(ctx context.Context, from ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	return nil, nil
}

// Progress is one step of Repair, for people and as JSON.
type Progress struct {
	Peer       string  `json:"peer,omitempty"`   // node name
	Partitions int     `json:"partitions"`       // compared so far
	Total      int     `json:"total"`            // to be compared
	Different  int     `json:"different"`        // of the compared ones
	Sent       int64   `json:"objects_sent"`     // objects
	Received   int64   `json:"objects_received"` // objects
	Read       int64   `json:"objects_read"`     // listed from the local store on the way
	Bytes      int64   `json:"bytes"`            // both ways, messages of this exchange
	Seconds    float64 `json:"seconds"`          // since the start
	Error      string  `json:"error,omitempty"`  // what could not be done; the rest goes on
	Done       bool    `json:"done,omitempty"`   // last line
	OK         bool    `json:"ok,omitempty"`     // last line: everything is equal now, or was already
}

// Repair exchanges one partition, or all that this node owns where partition is negative, with every other owner now, and tells how it
// goes. It fails only where nothing could be begun; what goes wrong on the way is told by progress, which is called from one goroutine.
func (r *Repairer) Repair(ctx context.Context, partition int, progress func(Progress)) error {
	return nil
}

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
func (r *Repairer) Status() Status { return Status{} }

// PauseHints stops the delivery of hints, or lets it go on. They are kept all the same. It is not remembered over a restart.
func (r *Repairer) PauseHints(paused bool) {}
