package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// MetaStore keeps small named values, synced to disk before PutMeta returns. A value never put is nil without an error.
type MetaStore interface {
	GetMeta(name string) ([]byte, error)
	PutMeta(name string, value []byte) error
}

// BucketPeers carries this package's messages about bucket settings to another node, and its answer back: what
// Buckets.HandleSettings makes of it there. It blocks, until ctx ends at the latest.
type BucketPeers interface {
	Settings(ctx context.Context, to ring.NodeID, payload []byte) ([]byte, error)
}

// BucketsConfig is what a registry of bucket settings is made of.
type BucketsConfig struct {
	Meta       MetaStore
	Peers      BucketPeers
	Membership Membership
	Local      Local        // to know whether a bucket holds keys
	Logger     *slog.Logger // nil = discarded
	// PushTimeout bounds how long a change may take to reach the live nodes; 0 = 1 s.
	PushTimeout time.Duration
	Now         func() time.Time // the wall clock, which stamps changes; nil = time.Now
}

// metaBuckets is the name under which the registry is kept.
const metaBuckets = "buckets"

// snapshot is one state of the registry. It is never changed.
type snapshot struct {
	entries map[string]bucketEntry
	hash    uint64
}

// Buckets holds the settings of all buckets: a register per bucket that the newest change wins, the same on every node
// once they have met. It starts nothing. Safe for concurrent use; Get takes no lock.
type Buckets struct {
	config  BucketsConfig
	state   atomic.Pointer[snapshot]
	mu      sync.Mutex // one change of state at a time
	changes chan struct{}
}

// NewBuckets loads the registry from the store.
func NewBuckets(config BucketsConfig) (*Buckets, error) {
	if config.Meta == nil || config.Membership == nil {
		return nil, errors.New("bucket settings need a store and a membership")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.PushTimeout <= 0 {
		config.PushTimeout = time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	kept, err := config.Meta.GetMeta(metaBuckets)
	if err != nil {
		return nil, fmt.Errorf("read bucket settings: %w", err)
	}
	entries := map[string]bucketEntry{}
	if len(kept) > 0 {
		if entries, err = decodeBuckets(kept); err != nil {
			return nil, fmt.Errorf("read bucket settings: %w", err)
		}
	}
	b := &Buckets{config: config, changes: make(chan struct{}, 1)}
	b.state.Store(newSnapshot(entries))
	return b, nil
}

func newSnapshot(entries map[string]bucketEntry) *snapshot {
	return &snapshot{entries: entries, hash: ring.Digest(encodeBuckets(entries))}
}

// Get is the settings of a bucket: the defaults where nobody has set any.
func (b *Buckets) Get(bucket string) Bucket {
	if e, ok := b.state.Load().entries[bucket]; ok {
		return e.settings
	}
	return DefaultBucket
}

// All is the settings of every bucket that has its own. The map is the caller's.
func (b *Buckets) All() map[string]Bucket {
	out := map[string]Bucket{}
	for name, e := range b.state.Load().entries {
		if !e.deleted {
			out[name] = e.settings
		}
	}
	return out
}

// Hash is equal exactly where two nodes know the same settings.
func (b *Buckets) Hash() uint64 { return b.state.Load().hash }

// Changes yields after Hash has changed. Changes in between are told once.
func (b *Buckets) Changes() <-chan struct{} { return b.changes }

// Encode is the whole registry in its canonical form.
func (b *Buckets) Encode() []byte { return encodeBuckets(b.state.Load().entries) }

// MergeRemote joins what another node knows into this registry, and keeps the result on disk before anyone sees it.
func (b *Buckets) MergeRemote(payload []byte) (changed bool, err error) {
	other, err := decodeBuckets(payload)
	if err != nil {
		return false, fmt.Errorf("merge bucket settings: %w", err)
	}
	return b.adopt(other)
}

// adopt joins entries into the registry, on disk first.
func (b *Buckets) adopt(other map[string]bucketEntry) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.state.Load()
	next := maps.Clone(old.entries)
	for name, e := range other {
		if have, ok := next[name]; !ok || e.newer(have) {
			next[name], changed = e, true
		}
	}
	if !changed {
		return false, nil
	}
	if len(next) > bucketsMost {
		return false, fmt.Errorf("merge bucket settings: more than %d buckets with settings of their own", bucketsMost)
	}
	if err := b.config.Meta.PutMeta(metaBuckets, encodeBuckets(next)); err != nil {
		return false, fmt.Errorf("keep bucket settings: %w", err)
	}
	b.state.Store(newSnapshot(next))
	b.config.Logger.Info("bucket settings have changed", "buckets", len(next))
	select {
	case b.changes <- struct{}{}:
	default:
	}
	return true, nil
}

// holdsKeys tells whether the local store has anything of a bucket in its index, traces of deleted keys included: those
// count too, because replicas that become owners would not know of the deletes.
func (b *Buckets) holdsKeys(bucket string) (bool, error) {
	layout := b.config.Membership.Layout()
	if layout == nil || b.config.Local == nil {
		return false, errors.New("this node has no ring or no store yet")
	}
	partitions := make([]int, layout.Partitions())
	for i := range partitions {
		partitions[i] = i
	}
	state, n := conditionOf(b.config.Local), b.Get(bucket).N
	for _, p := range partitions {
		if layout.Owns(b.config.Membership.Self(), p, n) {
			if err := state.votes(ring.Class{Partition: p, N: n}); err != nil {
				return false, fmt.Errorf("look for keys of bucket %q: %w", bucket, err)
			}
		}
	}
	found := false
	err := b.config.Local.List(bucket, "", partitions, 0, "", func(int, string, vclock.State) bool {
		found = true
		return false
	})
	if err != nil {
		return false, fmt.Errorf("look for keys of bucket %q: %w", bucket, err)
	}
	return found, nil
}
