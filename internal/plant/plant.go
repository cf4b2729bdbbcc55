// Package plant has the known bugs that the tests must find. With the build tag "planted" one of them at a time can be
// switched on: by Set, or by its name in the environment variable RONDO_PLANT of a process. Without the tag On is a constant
// false, and the compiler removes every trace of them.
//
// Each bug sits where the real mistake would: one line at the mechanism that keeps the promise. A comment at its constant
// says which promise it breaks, by the rules of internal/check where one of them tells it, and how it shows.
//
// Waiting for what they belong to: a message of an old ring accepted, a write to the new owners only (ring changes); an increment applied
// twice by a retry (counters); a compare-and-set read without a round, a promise not synced (linearizable buckets).
package plant

import "slices"

// Bug is one planted bug. The zero value is none.
type Bug int

// The bugs.
const (
	none Bug = iota

	// AckBeforeSync: storage says "on disk" before the fsync. Lost: a power cut takes acknowledged writes; a kill of the process
	// does not show it.
	AckBeforeSync
	// FsyncRetried: storage tries a failed fsync again and believes the second one, though the kernel may have dropped the pages.
	// Lost, on such a kernel; before that, a store that acknowledges anything after a failed fsync.
	FsyncRetried
	// CorruptIsMissing: storage reads a damaged block or object as a key that was never written. Quorum and Lost: a replica votes
	// "nothing here", and a blind write over it makes that true.
	CorruptIsMissing
	// StaleCache: a write leaves what the object cache holds as it was. Quorum and Backwards: reads keep giving the older object.
	// Lost: the next write of the key starts from it.
	StaleCache
	// TombstoneDropped: a deleted object is removed from the database at once, with its clock. Zombie: a replica that had not
	// heard of the delete brings the value back.
	TombstoneDropped
	// ReusedDot: a store keeps its incarnation after an unclean stop, though it may have lost what it counted. Lost: a new write
	// gets the dot of a lost one, and replicas that hold the one drop the other.
	ReusedDot
	// AmnesiacVotes: a store that has found its data lost says that it is healthy, and so its "not found" counts in read quorums.
	// Quorum: reads miss acknowledged writes.
	AmnesiacVotes

	// FlattenedContext: contexts fill the gaps between the dots that they cover. Lost: a write replaces versions that its writer
	// never saw.
	FlattenedContext
	// LWWTieBreak: a merge keeps only the newest sibling, in every bucket. Lost: concurrent writes.
	LWWTieBreak
	// MergeNotIdempotent: a merge adds the siblings of an object that was seen before once more. Stale and Zombie: a message that
	// comes late or twice brings replaced versions back.
	MergeNotIdempotent

	// WideToken: the context that a write returns covers the siblings that it left, which its writer was not shown. Lost: the
	// writer's next write drops them, without any fault.
	WideToken
	// WallClockOnly: a write is stamped by the coordinator's clock, even if what it replaces is stamped later. Lost, in buckets
	// where the last writer wins and clocks differ: the write loses to what it replaced, or to what is long replaced.
	WallClockOnly
	// ShortQuorumWrite: a write is acknowledged one acknowledgement short of w. Receipt, and Quorum: a read that begins later misses it; Lost,
	// where the one replica dies.
	ShortQuorumWrite
	// ShortQuorumRead: a read is answered one replica short of r. Receipt, and Quorum: it misses acknowledged writes.
	ShortQuorumRead
	// StaleDigest: a digest that differs is taken as agreeing with the object at hand. Quorum: the read shows the older one.
	StaleDigest
	// RepairOff: a read that met stale replicas answers without bringing them up to date. Backwards: what it showed, a later
	// quorum read may not show; and replicas differ although they were read.
	RepairOff
	// SessionIgnored: a read with a context answers with what the first replicas hold. Session: it is older than its context.
	SessionIgnored
	// FailureDishonest: a write that some replica may hold is answered not_applied. Rejected: it is shown later.
	FailureDishonest
	// ListingSkips: a page's cursor goes to where the replicas were read, not to where the page ends. A walk misses keys that
	// were there all the time.
	ListingSkips

	// LateReply: an answer is taken by the call that now has the slot of the one it belongs to. A read gives another key's
	// object (Phantom), a write is acknowledged by the answer to another (Quorum, Lost).
	LateReply
	// ForeignPeer: a node of another cluster of the same name is talked to. Phantom: its objects come in; Lost: it acknowledges
	// writes that this cluster never sees again.
	ForeignPeer

	// RejoinOff: a node that has a ring looks for others once, at its start, and never again. Two halves of a long split stay
	// apart for ever: quorums fail long after the network has healed.
	RejoinOff
	// VoteNotKept: a node forgets at a restart what it is locked on while the first ring forms. Two rings are formed.
	VoteNotKept

	// BadContextIsNone: a context that cannot be read is taken for none sent. Lost: the write replaces what the replica holds, not
	// what its writer saw.
	BadContextIsNone

	// HintDropEarly: a hint is forgotten when it is sent, not when it has arrived. Diverged: with exchange switched off, what was sent
	// while the target died again never arrives; Lost, where a stand-in's hint was the last copy.
	HintDropEarly
	// HintForFormerOwner: a stand-in's hint whose target no longer owns the key is dropped, not taken to those who do. Lost.
	HintForFormerOwner
	// StandinsCountAsOwners: stand-ins take the place of owners in writes that did not ask for it. Quorum: strict reads miss them.
	StandinsCountAsOwners

	// TreeNotUpdated: a write leaves the Merkle tree as it was. Diverged: replicas differ for ever, and their trees say that they are equal.
	TreeNotUpdated
	// ExchangeStopsAtDamage: an exchange ends at the first object that one side cannot read. Diverged: nothing behind it is compared.
	ExchangeStopsAtDamage
	// UnsyncedVotes: a store that has lost data, or was set back, votes before it has synced. Quorum.
	UnsyncedVotes

	// CollectTooEarly: tombstones are collected though not every owner has taken part. Zombie: one that was away brings the value back.
	CollectTooEarly
	// WatermarkIgnored: a version from below the watermark is taken like any other. Zombie: a late message or an old disk undoes a delete.
	WatermarkIgnored
	// CounterFloorLost: after an object was collected the counters of its dots begin at 1 again. Lost: an old tombstone that turns up
	// swallows the new value.
	CounterFloorLost
	// ExpiryIgnoredByReads: a version is shown after it has expired.
	ExpiryIgnoredByReads

	// FullDiskAccepts: a store takes client writes until its disk is full to the last byte.
	FullDiskAccepts

	end
)

var names = [...]string{
	none:               "none",
	AckBeforeSync:      "ack-before-sync",
	FsyncRetried:       "fsync-retried",
	CorruptIsMissing:   "corrupt-is-missing",
	StaleCache:         "stale-cache",
	TombstoneDropped:   "tombstone-dropped",
	ReusedDot:          "reused-dot",
	AmnesiacVotes:      "amnesiac-votes",
	FlattenedContext:   "flattened-context",
	LWWTieBreak:        "lww-tie-break",
	MergeNotIdempotent: "merge-not-idempotent",
	WideToken:          "wide-token",
	WallClockOnly:      "wall-clock-only",
	ShortQuorumWrite:   "short-quorum-write",
	ShortQuorumRead:    "short-quorum-read",
	StaleDigest:        "stale-digest",
	RepairOff:          "repair-off",
	SessionIgnored:     "session-ignored",
	FailureDishonest:   "failure-dishonest",
	ListingSkips:       "listing-skips",
	LateReply:          "late-reply",
	ForeignPeer:        "foreign-peer",
	RejoinOff:          "rejoin-off",
	VoteNotKept:        "vote-not-kept",
	BadContextIsNone:   "bad-context-is-none",

	HintDropEarly:         "hint-drop-early",
	HintForFormerOwner:    "hint-for-former-owner",
	StandinsCountAsOwners: "standins-count-as-owners",
	TreeNotUpdated:        "tree-not-updated",
	ExchangeStopsAtDamage: "exchange-stops-at-damage",
	UnsyncedVotes:         "unsynced-votes",
	CollectTooEarly:       "collect-too-early",
	WatermarkIgnored:      "watermark-ignored",
	CounterFloorLost:      "counter-floor-lost",
	ExpiryIgnoredByReads:  "expiry-ignored-by-reads",
	FullDiskAccepts:       "full-disk-accepts",
}

// String is the bug's name, as in RONDO_PLANT.
func (b Bug) String() string {
	if b < none || b >= end {
		return "unknown"
	}
	return names[b]
}

// All lists the bugs. The slice is the caller's.
func All() []Bug {
	out := make([]Bug, 0, end-1)
	for b := none + 1; b < end; b++ {
		out = append(out, b)
	}
	return out
}

// Named finds a bug by its name; false where there is none of that name.
func Named(name string) (Bug, bool) {
	b := Bug(slices.Index(names[:], name))
	return max(b, none), b > none
}
