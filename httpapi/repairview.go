package httpapi

// RepairProgress is one line of the answer of POST /v1/repair: how far it has come, with one other node.
type RepairProgress struct {
	Peer       string  `json:"peer,omitempty"`   // node name
	Partitions int     `json:"partitions"`       // compared so far; a partition counts once for each other owner and replica count
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

// HintsView is the answer of GET /v1/hints: what waits here for other nodes.
type HintsView struct {
	Paused  bool       `json:"paused"` // nothing is delivered until an operator lets it go on
	Known   bool       `json:"known"`  // false while the store still counts what an earlier run left: figures are too small
	Targets []HintView `json:"targets"`
}

// HintView is what waits here for one other node.
type HintView struct {
	Target              string  `json:"target"` // node name
	ID                  string  `json:"id"`     // of the node
	Count               int     `json:"count"`
	Bytes               int64   `json:"bytes"`                // on disk, about
	OldestS             float64 `json:"oldest_s"`             // age, 0 where nothing waits
	Delivered           uint64  `json:"delivered"`            // since the start of the process
	Rate                float64 `json:"rate"`                 // hints delivered per second, over the last seconds
	Error               string  `json:"error"`                // why nothing is delivered now; "" where it is, or nothing waits
	DivergentPartitions int     `json:"divergent_partitions"` // for which hints were dropped at the limit; exchange mends them
}

// TombstonesView is the answer of GET /v1/tombstones: what waits to be collected here, and why it still waits.
type TombstonesView struct {
	TombstonesSummary
	Collected  uint64                `json:"collected"`  // objects, since the start of the process
	Refused    uint64                `json:"refused"`    // late versions that were refused, since the start of the process
	Partitions []TombstonesPartition `json:"partitions"` // those that hold any
}

// TombstonesSummary is the backlog in three figures.
type TombstonesSummary struct {
	Waiting int64   `json:"waiting"`  // tombstones and expired values on this node
	OldestS float64 `json:"oldest_s"` // age of the oldest, 0 where none waits
	Blocker string  `json:"blocker"`  // a node and why it stops collection now; "" where nothing does
}

// TombstonesPartition is the backlog of one partition, for the buckets with one replica count.
type TombstonesPartition struct {
	Partition  int      `json:"partition"`
	N          int      `json:"n"`
	Waiting    int64    `json:"waiting"`
	OldestS    float64  `json:"oldest_s"`
	WatermarkS *float64 `json:"watermark_s"` // age of the time up to which all owners agreed to collect; null where they never did
	Blocker    string   `json:"blocker"`
}

// PartitionView is what this node knows of the equality of one of its partitions, for the buckets with one replica count.
type PartitionView struct {
	Partition int        `json:"partition"`
	N         int        `json:"n"`
	Root      string     `json:"root"`    // hash of the Merkle tree, 16 hexadecimal digits
	EqualS    *float64   `json:"equal_s"` // for how long it has been known to be equal on all owners; null = not since the start of the process
	Peers     []PeerDebt `json:"peers"`   // the other owners
	Synced    bool       `json:"synced"`  // false: this node lost data of it, and its "not found" does not count until it has synced
}

// PeerDebt is how long ago a partition was last equal with one other owner.
type PeerDebt struct {
	Node   string   `json:"node"`
	EqualS *float64 `json:"equal_s"` // null = not since the start of the process
	Error  string   `json:"error"`   // why the last try failed, "" where it did not
}

// RepairView is anti-entropy on this node in short. Counters count from the start of the process.
type RepairView struct {
	OldestEqualS    float64  `json:"oldest_equal_s"` // the longest time since a partition was equal on all owners; 0 where none was yet, or none has other owners
	NeverEqual      int      `json:"never_equal"`    // partitions that were not equal yet since the start of the process
	Unsynced        int      `json:"unsynced"`       // partitions whose "not found" does not count, since data were lost
	Exchanges       uint64   `json:"exchanges"`      // with one other node each, failed ones included
	Failed          uint64   `json:"failed"`         // of the exchanges
	ObjectsSent     uint64   `json:"objects_sent"`
	ObjectsReceived uint64   `json:"objects_received"`
	Bytes           uint64   `json:"bytes"` // of exchanges, both ways
	VerifiedObjects uint64   `json:"verified_objects"`
	DamagedObjects  uint64   `json:"damaged_objects"`
	WrongLeaves     uint64   `json:"wrong_leaves"` // of Merkle trees; they were put right
	VerifyAgeS      *float64 `json:"verify_age_s"` // since everything on disk was last verified; null = not yet since the start of the process
}

// DiskView is the space on the disk that holds the data.
type DiskView struct {
	FreeBytes    int64 `json:"free_bytes"`
	TotalBytes   int64 `json:"total_bytes"` // 0 = unknown
	ReserveBytes int64 `json:"reserve_bytes"`
	Full         bool  `json:"full"` // less than the reserve is free: client writes are refused
}
