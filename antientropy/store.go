package antientropy

import (
	"context"

	"github.com/rondodb/rondo/ring"
)

// Store is this node's store as anti-entropy needs it. All methods are safe for concurrent use. Objects are canonical encodings
// (vclock.AppendObject); digest is ring.Digest of one. An error is never to be read as "nothing there".
type Store interface {
	Trees
	Hints
	Purges
	Votes

	Get(key ring.Key) (object []byte, digest uint64, err error)
	// Merge joins object into what is stored. An error with Purged() true says that every version in it was collected here as a
	// tombstone, or expired, on all owners: what is left to do is to forget it where it came from.
	Merge(key ring.Key, object []byte) error
	// Sync calls done once everything that had returned before the call is on disk. done must not block.
	Sync(done func(error))
}

// Trees are the Merkle trees. A class has one; its leaves change in the same batch as the objects, so that a restart finds them as
// they are.
type Trees interface {
	// Classes lists the classes that hold an object, in order.
	Classes() []ring.Class
	// Leaves appends to dst the hashes of the leaves of a class: ring.Leaves/partitions of them, 0 for an empty one. A hash is the XOR of
	// a hash of each object's token and digest. Writes go on meanwhile: it is no snapshot.
	Leaves(dst []uint64, c ring.Class) []uint64
	// ReadLeaf calls yield for the objects of a class in one leaf (of the whole ring, as ring.Leaf counts), in token order, as they are at
	// one instant, until it returns false. object is valid until yield returns. sound is false where what is there is not what
	// the tree says, or cannot be read: then absence proves nothing. What can be read is yielded all the same. sound is meant only
	// where yield never returned false.
	ReadLeaf(c ring.Class, leaf int, yield func(key ring.Key, object []byte, digest uint64) bool) (sound bool, err error)
	// VerifyPartition checks every object of a partition against its checksum, and the leaves of its trees against the objects. Leaves
	// that are wrong are put right. pace is called now and then with the bytes read since; an error of it ends the walk. Damage that
	// only a new start heals is reported by the store itself, not by err.
	VerifyPartition(partition int, pace func(bytes int) error) (VerifyResult, error)
}

// VerifyResult is what one walk over a partition found.
type VerifyResult struct {
	Objects, Bytes int64
	Damaged        int // objects whose checksum is wrong, or blocks that cannot be read
	WrongLeaves    int // leaves that were not what the data says; they are right now
}

// Votes says for which classes this node's "not found" counts. A store that lost data, or was restored from a copy, votes for a class
// only once it has synced with every other owner.
type Votes interface {
	// Unsynced lists classes without a vote, over all replica counts from 1 to 7, also those without any object. nil = none.
	Unsynced() []ring.Class
	// Restored tells whether nothing was lost: the data are a copy of an older state. Then a class that nobody else owns needs no sync.
	Restored() bool
	// MarkSynced gives classes their votes back, on disk before it returns.
	MarkSynced(classes []ring.Class) error
	// Distrust takes the votes of classes away, on disk before it returns: this node has found that it was rolled back. Their Marks are
	// reset.
	Distrust(why string, classes []ring.Class) error
}

// Marks are how far the collection of tombstones has come in one class; hybrid times in nanoseconds since 1970, on disk, growing.
type Marks struct {
	Fence     uint64 // no version stamped so early is minted here any more
	Watermark uint64 // all versions stamped so early were on all owners, or replaced there; what comes later is refused
	Released  uint64 // all owners have that watermark: tombstones stamped so early may go
}

// Purges is the store's part in collecting tombstones.
type Purges interface {
	Marks(c ring.Class) Marks
	// SetFence, SetWatermark and SetReleased raise one mark of these classes (a lower one changes nothing), on disk before they return. When
	// SetFence returns, every write minted before it is in the store. One class that is refused (its tree is being made anew, or data of it
	// were found missing since its fence was set) is an error for all of them, and changes none.
	SetFence(classes []ring.Class, at uint64) error
	SetWatermark(classes []ring.Class, at uint64) error
	SetReleased(classes []ring.Class, at uint64) error
	// Purge drops objects of a class all of whose versions are tombstones stamped, or values expired, at Marks.Released or before;
	// limit of them at most. more tells that there may be others.
	Purge(c ring.Class, limit int) (dropped int, more bool, err error)
	// Forget drops the object if it still has this digest, as Purge would: another owner has proved that it was collected.
	Forget(key ring.Key, digest uint64) (dropped bool, err error)
	// Tombstones tells what waits to be collected now: tombstones, and values that have expired; class by class, in order. Cheap.
	Tombstones() []TombstoneStat
}

// TombstoneStat is the backlog of one class.
type TombstoneStat struct {
	Class  ring.Class
	Count  int64
	Oldest uint64 // hybrid time of the oldest, nanoseconds since 1970
}

// Hint says that another node lacks an object.
type Hint struct {
	Key     ring.Key
	Object  []byte // valid until yield returns; nil where there is nothing left to hand over
	Own     bool   // the object is this node's own, as an owner; else it is kept for the target only, and may be the last copy
	Version uint64 // names this state of the hint, for DropHint
}

// HintStat tells what is kept for one target.
type HintStat struct {
	Target    ring.NodeID
	Count     int64
	Bytes     int64 // on disk, about
	Oldest    int64 // Unix nanoseconds, 0 = unknown
	Divergent []int // partitions for which hints were dropped at the limit, ascending
}

// Hints are what is kept for other nodes. Newest state only, one for each target and key.
type Hints interface {
	// Hints calls yield for what is kept for target, in token order, after the key after where it is not nil, until yield returns false.
	Hints(target ring.NodeID, after *ring.Key, yield func(Hint) bool) error
	// DropHint forgets a hint if it is still at this version.
	DropHint(target ring.NodeID, key ring.Key, version uint64) error
	// HintStats is cheap. known is false while the store still counts what an earlier run left.
	HintStats() (stats []HintStat, known bool)
	// HintsIn counts the hints with objects of their own (Hint.Own false) in one partition; unknown while HintStats is.
	HintsIn(partition int) (count int64, known bool)
	// Undiverge takes the mark that hints were dropped from a target's partition.
	Undiverge(target ring.NodeID, partition int) error
}

// Peers asks other nodes. The layout version travels along; the other side answers only under the same one.
type Peers interface {
	// Exchange sends one message of this package and blocks for the answer of the other node's Repairer.Handle.
	Exchange(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error)
}

// Membership tells who owns what and who is alive, as this node sees it. Never blocks.
type Membership interface {
	Self() ring.NodeID
	Layout() *ring.Layout // nil until a ring is known
	Alive(id ring.NodeID) bool
}
