// Package quorum coordinates reads and writes: which replicas are asked, when enough of them have answered, what the answer
// rests on, and what must be repaired before it is given (DeCandia et al., "Dynamo", SOSP 2007, sections 4.4 to 4.6, with
// strict quorums by default). It knows nothing of HTTP, sockets or the disk format.
package quorum

import (
	"context"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Local is this node's store, as the coordinator and the replica side need it. All methods are safe for concurrent use.
// Objects are canonical encodings (vclock.AppendObject); digest is ring.Digest of them. A key never written is a nil object
// with digest 0 and no error; an error is never to be read as not-found.
type Local interface {
	// TryGet answers from memory only and never blocks; ok is false where the disk must be asked.
	TryGet(key ring.Key) (object []byte, digest uint64, ok bool)
	// Get reads the object. The bytes are the caller's to keep, not to change.
	Get(key ring.Key) (object []byte, digest uint64, err error)
	// Merge joins object into what is stored. It returns once a crash of the process cannot lose it; power loss can, until
	// Sync. The store does not keep object.
	Merge(key ring.Key, object []byte) error
	// Update replaces what is stored by what fn makes of it, atomically for this key, and returns the new encoding. An error
	// of fn is returned as it is and changes nothing. fn may be called once at most. Durability as Merge.
	Update(key ring.Key, fn func(old vclock.Object, after uint64) (vclock.Object, error)) (object []byte, digest uint64, err error)
	// Sync calls done once, from any goroutine, when everything that Merge and Update had returned from before the call is on
	// disk (one fsync serves all that wait), or with the error. done must not block.
	Sync(done func(error))
	// List calls yield for the keys of a bucket with this prefix, in (partition, name) order, beginning after the position
	// (afterPartition, afterName), over the given partitions (ascending). It reads the index only. State is Live, Deleted or
	// Mixed. It stops when yield returns false.
	List(bucket, prefix string, partitions []int, afterPartition int, afterName string, yield func(partition int, name string, state vclock.State) bool) error
}

// Peers asks other nodes, over the replica protocol. done is called exactly once, from any goroutine, and must not block.
// The deadline of ctx travels with the message; cancelling ctx after the call does not take the message back. An error
// for which NotApplied (below) holds never reached the replica's store.
type Peers interface {
	// Read asks for the object, or only for its digest, and gets the replica's watermark with it (see Collector). The bytes are the
	// receiver's to keep.
	Read(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, digestOnly bool, done func(object []byte, digest, watermark uint64, err error))
	// Write merges object on the replica, synced to disk before it answers where sync is set. The bytes are copied before
	// Write returns.
	Write(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error))
	// Coordinate has an owner coordinate a write; request and answer are this package's encodings. It blocks.
	Coordinate(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error)
	// List runs Local.List on another node; request and answer are this package's encodings. It blocks.
	List(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error)
	// Standin has another node keep an object for an owner, or tell what it keeps: HandleStandin there. It blocks.
	Standin(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error)
}

// Hints is a Local that keeps what other nodes lack. With a Local that is none there are neither hints nor stand-ins. An error with
// NotApplied has kept nothing.
type Hints interface {
	// Hint keeps that target lacks key. With object nil the object is this node's own, as an owner, and is read when it is handed over. Otherwise
	// object is kept for target, joined with what is kept for it already: it may be the last copy. Durability as Local.Merge.
	Hint(target ring.NodeID, key ring.Key, object []byte) error
	// HintFor joins what is kept for all other nodes under key, without what is this node's own. nil and 0 where nothing is.
	HintFor(key ring.Key) (object []byte, digest uint64, err error)
}

// Voter is a Local that may have lost data, or may be a copy of older ones: its "not found" counts only for classes where it votes. A Local
// that is none always votes. Votes is called for each request and must be cheap.
type Voter interface {
	Votes(c ring.Class) bool
}

// Collector is a Local that forgets keys once all owners have deleted them. Watermark is up to which time it had every version of a key that
// any owner had, or what replaced it: what it does not know of those was deleted and is forgotten. It only grows. 0 = it cannot tell. It is
// called for each read and must be cheap. A Local that is none forgets nothing.
type Collector interface {
	Watermark(key ring.Key) uint64
}

// Spacious is a Local that knows how full its disk is. Full is nil while client writes may be taken, else says why not; it is called for each
// write and must be cheap. Repairs are not asked about: Merge refuses them itself where it must.
type Spacious interface {
	Full() error
}

// Membership tells who owns what and who is alive, as this node sees it. Never blocks.
type Membership interface {
	Self() ring.NodeID
	Layout() *ring.Layout // nil until a ring is known
	Alive(id ring.NodeID) bool
}

// Observer is told what happened, for metrics. Calls must be cheap and never block. Class is "read", "write", "coordinate"
// "list" or "standin"; outcome "ok", "timeout", "error", "unreachable" or "overloaded". The events, others are to be passed over:
//
//	read_repair       replicas that a read brought up to date
//	hedge             reads that asked one more replica because another was late
//	conflict          siblings met by one read
//	siblings_warning  siblings that one write left, where there are many
//	digest_mismatch   reads whose replicas did not all hold the same
//	stale_layout      operations that met two versions of the ring
//	breaker_open      times that a peer was left alone because its calls kept failing
//	hint              owners that were down, for which a write left a hint on this node
//	hint_failed       such hints that could not be kept: the disk is full, the limit of that owner is reached, or the store failed
//	standin_write     writes that stand-ins took, as their coordinator counts them
//	standin_read      answers of stand-ins that a read rests on
type Observer interface {
	PeerCall(peer ring.NodeID, class, outcome string, took time.Duration)
	Quorum(op string, code Code) // op "read", "write", "list"; code "" = met
	Event(name string, n int)
	ClockSkew(peer ring.NodeID, ahead time.Duration)
}

// Value is what a client writes.
type Value struct {
	ContentType string
	Bytes       []byte
	Delete      bool          // a tombstone; the other fields are empty
	TTL         time.Duration // how long it is to live: 0 = as the bucket says, negative = for ever, else MinTTL to MaxTTL
}

// ReadOptions tunes one read. The zero value uses the bucket's settings.
type ReadOptions struct {
	R           Level           // Unset = the bucket's
	Sloppy      Choice          // ask stand-ins where fewer than r owners can be reached
	Session     *vclock.Context // the answer must be at least as new as this; nil = no such wish
	FullReceipt bool            // fill Receipt.Replicas
}

// WriteOptions tunes one write. The zero value uses the bucket's settings and replaces what the coordinating replica holds.
type WriteOptions struct {
	W, DW       Level           // Unset = the bucket's
	Sloppy      Choice          // stand-ins for owners that are down count
	Context     *vclock.Context // replaces exactly what this covers; nil = what the coordinating replica holds
	Fresh       bool            // replaces nothing: always a new sibling (Context must be nil)
	ReturnValue bool            // fill WriteResult.Object
	FullReceipt bool
}

// ReadResult is the merged answer of a read. A key never written, or deleted, is a result, not an error. Versions that have expired are shown
// as tombstones; the clock covers them.
type ReadResult struct {
	Object  vclock.Object
	Receipt Receipt
}

// WriteResult tells what a write did. Context covers the context that was sent (or what the write replaced) and the new
// version, never a sibling that the client has not been shown.
type WriteResult struct {
	Context vclock.Context
	Dot     vclock.Dot
	Expiry  uint64        // when the version ends, hybrid time in nanoseconds since 1970; 0 = never
	Object  vclock.Object // the object after the write, where ReturnValue asked for it
	Receipt Receipt
}

// Receipt says what an answer rests on.
type Receipt struct {
	N, Required    int
	Acked, Durable int  // writes
	Replied        int  // reads
	Agreed         bool // reads: all that replied held the same
	Repaired       int  // reads: replicas brought up to date before the answer
	Standins       int  // of Acked or Replied: stand-ins, not owners. Where there is one, only the end is promised: the owners get it later
	Ring           uint64
	Coordinator    string // node name
	Replicas       []ReplicaReceipt
}

// ReplicaReceipt is one replica's part in an answer.
type ReplicaReceipt struct {
	Node, Zone, Role string // role "owner" or "standin"
	OK, Durable      bool
	Took             time.Duration
	Error            string // "" where OK
}

// Code is a stable error code of the API.
type Code string

// The codes that the coordinator gives; httpapi adds its own.
const (
	CodeInvalid     Code = "invalid_argument"
	CodeSiblings    Code = "too_many_siblings"
	CodeConflict    Code = "conflict"
	CodeTooLarge    Code = "too_large"
	CodeUnavailable Code = "quorum_unavailable"
	CodeTimeout     Code = "quorum_timeout"
	CodeOverloaded  Code = "overloaded"
	CodeNotReady    Code = "not_ready"
	CodeInternal    Code = "internal"
	CodeFull        Code = "insufficient_storage" // the quorum cannot be met because disks are full; nothing was written
)

// Outcome says what became of a write that was not acknowledged.
type Outcome string

// Outcomes. NotApplied is said only where no replica can have kept the write.
const (
	NotApplied Outcome = "not_applied"
	Unknown    Outcome = "unknown"
)

// Error is how every operation of this package fails.
type Error struct {
	Code       Code
	Detail     string  // a sentence for people, with what to do next
	Outcome    Outcome // writes only
	N          int     // the quorum figures; 0 where no quorum was involved
	Required   int
	Acked      int // replicas that answered (reads) or acknowledged (writes)
	Durable    int // of them, synced (writes)
	Replicas   []ReplicaReceipt
	Context    *vclock.Context // CodeSiblings: what to send back to merge
	RetryAfter time.Duration   // CodeOverloaded
	Err        error           // the cause, if one
}

func (e *Error) Error() string {
	if e.Err != nil {
		return string(e.Code) + ": " + e.Detail + ": " + e.Err.Error()
	}
	return string(e.Code) + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.Err }
