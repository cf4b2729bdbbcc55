package httpapi

import "time"

// ClusterView is the answer of GET /v1/cluster: the members as this node sees them.
type ClusterView struct {
	Cluster             string       `json:"cluster"` // the name that operators gave it
	Ring                uint64       `json:"ring"`    // version of the ring; 0 = none yet
	Members             []MemberView `json:"members"`
	HintsPending        int          `json:"hints_pending"`        // on the node that answers
	DivergentPartitions int          `json:"divergent_partitions"` // of the node that answers: not known to be equal on all owners since the start of its process, or hints for them were dropped
}

// MemberView is one node of the cluster. Addresses are host:port.
type MemberView struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	HTTP       string `json:"http"`
	Peer       string `json:"peer"`
	Gossip     string `json:"gossip"`
	Zone       string `json:"zone"`
	Weight     int    `json:"weight"`
	State      string `json:"state"`      // member, joining, leaving or none
	Health     string `json:"health"`     // alive, suspect or dead
	Partitions int    `json:"partitions"` // that it owns a replica of, with the default n
	Version    string `json:"version"`
}

// NodeView is the answer of GET /v1/node: this node.
type NodeView struct {
	Name        string     `json:"name"`
	ID          string     `json:"id"`
	Cluster     string     `json:"cluster"`
	Ring        uint64     `json:"ring"`
	HTTP        string     `json:"http"`
	Peer        string     `json:"peer"`
	Gossip      string     `json:"gossip"`
	Zone        string     `json:"zone"`
	Weight      int        `json:"weight"`
	Version     string     `json:"version"`
	Incarnation string     `json:"incarnation"` // of the store, 16 hexadecimal digits
	Ready       bool       `json:"ready"`
	Reason      string     `json:"reason"` // why it is not ready, else ""
	UptimeS     float64    `json:"uptime_s"`
	Partitions  int        `json:"partitions"` // as in MemberView
	Keys        int64      `json:"keys"`       // with at least one value, in this node's store
	DiskBytes   int64      `json:"disk_bytes"`
	Hints       []HintView `json:"hints"`

	Repair     RepairView        `json:"repair"`
	Disk       DiskView          `json:"disk"`
	Tombstones TombstonesSummary `json:"tombstones"`
	Merkle     []PartitionView   `json:"merkle,omitzero"` // left to the API, which asks Node.Partitions where the client wants it
}

// Stats is a snapshot of the parts below the coordinator, for metrics. Counters count from the start of the process.
type Stats struct {
	Store  StoreStats
	Gossip GossipStats
	Peers  []PeerStats

	Hints      HintsView
	Repair     RepairView
	Disk       DiskView
	Tombstones TombstonesView // Partitions may be left out
}

// Durations is a histogram of durations.
type Durations struct {
	Bounds []time.Duration // upper bounds, ascending
	Counts []uint64        // per bucket, not cumulative; one more than Bounds, for what is above the last
	Count  uint64
	Sum    time.Duration
}

// LevelStats is one level of the database.
type LevelStats struct {
	Tables int
	Bytes  int64
}

// StoreStats is a snapshot of the local store.
type StoreStats struct {
	Gets, CacheHits          uint64 // reads; those that the object cache answered
	Merges, Updates          uint64
	Unchanged                uint64 // merges and updates that wrote nothing
	Syncs                    uint64 // waits for durability
	SyncWaiting              int    // of them waiting now
	CorruptObjects           uint64
	JournalSyncs, OtherSyncs Durations
	LiveKeys                 int64
	LiveKeysKnown            bool
	DiskBytes                int64
	CacheBytes, CacheEntries uint64
	BlockCacheBytes          int
	OpenTables               int
	Levels                   []LevelStats
	WriteDelays              int64
	WriteDelay               time.Duration
	WritePaused              bool
	MemoryCompactions        uint64
	TableCompactions         uint64
	CompactionTime           time.Duration
	UncleanStart             bool
	LenientStart             bool
	Damaged                  bool           // something was found lost, and has not been brought back yet
	Reopens                  map[string]int // by cause: how often the store was closed and opened again to heal it
}

// GossipStats is a snapshot of membership. Members by health come from ClusterView.
type GossipStats struct {
	HealthScore    int // memberlist's own; 0 = healthy, higher = this node is slow itself
	RejoinAttempts uint64
	RefusedNodes   uint64 // of other clusters, or that did not fit
}

// PeerStats is a snapshot of the replica protocol's connections to one other node.
type PeerStats struct {
	ID          string
	Connections int    // open now
	InFlight    int    // requests waiting for an answer
	Dials       uint64 // connections opened or tried
	Sent        uint64 // bytes
	Received    uint64 // bytes
}
