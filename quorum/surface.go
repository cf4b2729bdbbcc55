package quorum

import (
	"time"

	"github.com/rondodb/rondo/vclock"
)

// Bucket holds a bucket's settings.
type Bucket struct {
	N        int   // replicas, 1 to MaxN
	R, W, DW Level // never Unset
	Sloppy   bool
	LWW      bool          // resolve "lww"; false = "siblings"
	TTL      time.Duration // of values that do not say how long they live; 0 = for ever
}

// DefaultBucket is what a bucket that nobody has set has.
var DefaultBucket = Bucket{N: 3, R: Quorum, W: Quorum, DW: Quorum}

// ListOptions selects one page of a bucket's keys.
type ListOptions struct {
	Prefix string
	Limit  int    // 1 to 1000
	Cursor string // "" = from the start; else ListPage.Cursor of the page before
	R      Level  // Unset = the bucket's
	Values bool   // read each key too
}

// ListPage is one page of keys that hold at least one value. Cursor is "" at the end. Objects is parallel to Keys where
// values were asked for.
type ListPage struct {
	Keys    []string
	Objects []vclock.Object
	Cursor  string
}

// Explanation is what every replica of a key holds, asked directly; nothing is repaired by looking.
type Explanation struct {
	Partition  int
	Token      uint64
	Ring       uint64
	Bucket     Bucket
	Preference []string // node names, in order; the first N own the key
	Replicas   []ReplicaState
}

// ReplicaState is one replica's answer to Explain.
type ReplicaState struct {
	ReplicaReceipt
	Found  bool
	Hint   bool // Object is what a stand-in keeps for owners
	Object vclock.Object
	Digest uint64 // equal exactly where the stored objects are
}
