package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Coordinator serves operations on keys with their replicas. Errors are of type *quorum.Error. A value's bytes belong to
// the API again once Put has returned.
type Coordinator interface {
	Get(ctx context.Context, key ring.Key, options quorum.ReadOptions) (quorum.ReadResult, error)
	Put(ctx context.Context, key ring.Key, value quorum.Value, options quorum.WriteOptions) (quorum.WriteResult, error)
	List(ctx context.Context, bucket string, options quorum.ListOptions) (quorum.ListPage, error)
	Explain(ctx context.Context, key ring.Key) (quorum.Explanation, error)
}

// Buckets holds the settings of buckets. Errors are of type *quorum.Error. Get takes no lock.
type Buckets interface {
	Get(bucket string) quorum.Bucket
	All() map[string]quorum.Bucket
	Set(ctx context.Context, bucket string, settings quorum.Bucket) error
	Delete(ctx context.Context, bucket string) error
}

// Node tells about this node and the cluster as it sees it. Safe for concurrent use; nothing here but Repair may block for long.
type Node interface {
	// Ready tells whether the node is in the ring and can serve; if not, why, in one sentence.
	Ready() (ok bool, why string)
	// Layout is the ring, nil until one is known. It is called on every request.
	Layout() *ring.Layout
	// Cluster is what GET /v1/cluster answers.
	Cluster() ClusterView
	// Status is what GET /v1/node answers.
	Status() NodeView
	// Stats is a snapshot of the parts below the coordinator, taken once per scrape of /metrics.
	Stats() Stats
	// Partitions is the state of the Merkle trees, partition by partition in order, for GET /v1/node?merkle=true.
	Partitions() []PartitionView
	// Hints is what GET /v1/hints answers, PauseHints what POST /v1/hints does.
	Hints() HintsView
	PauseHints(paused bool)
	// Tombstones is what GET /v1/tombstones answers.
	Tombstones() TombstonesView
	// Repair compares one partition, or all that this node owns where partition is negative, with every other owner, and makes them
	// equal. It blocks until it is done or ctx ends. progress is called from one goroutine; with Done in the last call, and only there. It
	// fails, best with a *quorum.Error, only where nothing could be begun: then progress was never called.
	Repair(ctx context.Context, partition int, progress func(RepairProgress)) error
}

// Limits of values and of the defaults below.
const (
	DefaultMaxValue = 4 << 20  // bytes of one value
	MaxMaxValue     = 32 << 20 // the most that Config.MaxValue may be

	maxKey         = 1024     // bytes
	maxBucket      = 128      // bytes
	maxContentType = 255      // bytes
	maxSettings    = 64 << 10 // bytes of a bucket's settings
	maxHeader      = 32 << 10 // bytes of a request's head
	defaultTimeout = 5 * time.Second
	minTimeout     = time.Millisecond
	maxTimeout     = 60 * time.Second
)

// Config is what a Server is made of.
type Config struct {
	Coordinator Coordinator
	Buckets     Buckets
	Node        Node
	Sealer      func() *vclock.Sealer // nil until a ring is known; called on every request
	Metrics     *Metrics              // nil = its own
	Logger      *slog.Logger          // nil = discarded
	Version     string                // of the build, for people

	MaxValue       int64 // bytes of one value, at most 32 MiB; 0 = 4 MiB
	MaxRequests    int   // client requests in flight; 0 = 1024
	MaxBodies      int64 // bytes of request bodies in memory at once; 0 = 256 MiB, and at least 4 values
	MaxConnections int   // open connections; 0 = 10,000
}

func (c *Config) validate() error {
	switch {
	case c.Coordinator == nil, c.Buckets == nil, c.Node == nil, c.Sealer == nil:
		return errors.New("the API needs a coordinator, bucket settings, a node and a sealer")
	case c.MaxValue < 0 || c.MaxValue > MaxMaxValue:
		return fmt.Errorf("largest value of %d bytes: use 1 to %d", c.MaxValue, MaxMaxValue)
	case c.MaxRequests < 0, c.MaxBodies < 0, c.MaxConnections < 0:
		return errors.New("a limit of the API is negative")
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxValue == 0 {
		c.MaxValue = DefaultMaxValue
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 1024
	}
	if c.MaxBodies == 0 {
		c.MaxBodies = 256 << 20
	}
	c.MaxBodies = max(c.MaxBodies, 4*c.MaxValue)
	if c.MaxConnections == 0 {
		c.MaxConnections = 10_000
	}
	return nil
}
