package storage

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Errors of this package, to be found by errors.Is; ErrFailed is in disk.go.
var (
	ErrClosed     = errors.New("store is closed")
	ErrCorrupt    = errors.New("stored data is damaged")                // what was asked for is there but cannot be trusted
	ErrLocked     = errors.New("data directory is in use")              // by another process, or twice by this one
	ErrForeign    = errors.New("not a data directory that can be used") // unknown format, or somebody else's files
	ErrPartitions = errors.New("partition count")                       // not set yet, or different from before
)

// Config says where the data is and how much memory it may take. The zero value of every field but Dir is its default.
type Config struct {
	Dir             string       // data directory, created if missing
	Logger          *slog.Logger // nil = silent
	CacheBytes      int64        // object cache with its index, outside of the Go heap; default 128 MiB, raised to 1 MiB at least, negative = none
	BlockCacheBytes int          // default 32 MiB
	WriteBuffer     int          // bytes of a memory table; default 32 MiB; up to three are held
	Reserve         int64        // bytes of the volume that client writes leave free (ErrFull); default 2*WriteBuffer and 5 % of the volume, but at most a quarter of it
	HintLimit       int64        // bytes of hints for one node (ErrHintLimit); default 1 GiB, but at most a tenth of the volume
	// LastWriteWins tells which buckets keep only the newest sibling. It is called for every write and must be fast; nil =
	// none.
	LastWriteWins func(bucket string) bool
	// Replicas is the replica count of a bucket, 1 to 7: with the partition it makes the class of an object. Anything else says that it is
	// not known now, and what it was last goes on. It is called for every write and must be fast; nil = always 3.
	Replicas func(bucket string) int
	Now      func() time.Time // the wall clock, for what expires; nil = time.Now
	// Backend replaces the files in Dir/db, for tests. The caller closes it.
	Backend storage.Storage

	adjust  func(*disk)                           // tests plant faults here
	room    func() (free, total int64, err error) // tests say here how much room there is
	noTrees bool                                  // to measure what trees cost
}

func (c *Config) validate() error {
	if c.Dir == "" {
		return errors.New("data directory is not set")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.LastWriteWins == nil {
		c.LastWriteWins = func(string) bool { return false }
	}
	if c.Replicas == nil {
		c.Replicas = func(string) int { return usualReplicas }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.CacheBytes == 0:
		c.CacheBytes = defaultCache
	case c.CacheBytes > maxCache:
		return fmt.Errorf("object cache of %d bytes: at most %d can be used", c.CacheBytes, int64(maxCache))
	case c.CacheBytes > 0:
		c.CacheBytes = max(c.CacheBytes, minCache)
	}
	if c.BlockCacheBytes == 0 {
		c.BlockCacheBytes = 32 << 20
	}
	if c.WriteBuffer == 0 {
		c.WriteBuffer = 32 << 20
	}
	if c.BlockCacheBytes < 0 || c.WriteBuffer < 0 || c.Reserve < 0 || c.HintLimit < 0 {
		return fmt.Errorf("negative size: block cache %d, write buffer %d, reserve %d, hints %d", c.BlockCacheBytes, c.WriteBuffer, c.Reserve, c.HintLimit)
	}
	return nil
}

const stripes = 4096

// stripe serialises the writes of the keys whose leaves fall on it: all keys of a leaf have one stripe.
type stripe struct {
	sync.Mutex
	generation atomic.Uint64 // of the writes that have ended; see objectCache
}

// Store is one node's database. All methods are safe for concurrent use.
type Store struct {
	cfg      Config
	log      *slog.Logger
	dir      *directory
	disk     *disk
	backend  storage.Storage // nil where the caller owns it
	db       *leveldb.DB
	cache    *objectCache
	sync     *syncer
	gate     *gate
	stripes  [stripes]stripe
	scratch  sync.Pool
	count    counters
	settling sync.Mutex // SetPartitions

	incarnation vclock.Actor
	unclean     bool         // this start found no clean stop
	lenient     bool         // goleveldb refused a strict open
	partitions  atomic.Int64 // 0 = not set yet

	votes    votes
	breakage breakage
	space    space
	hints    hints

	trees      *merkleTrees // nil as long as partitions is 0
	generation generation   // of the trees
	filing     filing
	marking    sync.Mutex // one change of marks at a time
	floor      floor

	live       liveKeys
	background sync.WaitGroup // what ends by itself
	watching   sync.WaitGroup // what does not
	stopping   chan struct{}
}

// NodeID is this node's identity: minted with the directory, kept in its node.json.
func (s *Store) NodeID() ring.NodeID { return s.dir.id }

// Incarnation is the actor of the dots that this run of the store mints.
func (s *Store) Incarnation() vclock.Actor { return s.incarnation }

// Get reads the object from the cache or the disk. A key never written is a nil object with digest 0. An object that cannot be
// trusted is an error that wraps ErrCorrupt. The bytes are the caller's to keep, not to change.
func (s *Store) Get(key ring.Key) (object []byte, digest uint64, err error) {
	if object, digest, ok := s.TryGet(key); ok {
		return object, digest, nil
	}
	if !s.gate.enter() {
		return nil, 0, ErrClosed
	}
	defer s.gate.leave()
	s.count.gets.Add(1)

	k := appendDataKey(make([]byte, 0, 16+len(key.Bucket)+len(key.Name)), key)
	st := s.stripe(key)
	generation := st.generation.Load()
	value, err := s.read(k)
	if err != nil {
		return nil, 0, err
	}
	if value != nil {
		if object, digest, err = splitValue(value); err != nil {
			if plant.On(plant.CorruptIsMissing) {
				return nil, 0, nil
			}
			return nil, 0, s.corrupt(key, err)
		}
	}
	if st.TryLock() { // a writer at work sets the cache itself
		if st.generation.Load() == generation {
			if value == nil {
				value = absent
			}
			s.cache.set(k, value)
		}
		st.Unlock()
	}
	return object, digest, nil
}

// read gets a value from the database; nil where there is none.
func (s *Store) read(k []byte) ([]byte, error) {
	value, err := s.db.Get(k, nil)
	switch {
	case err == nil:
		return value, nil
	case errors.Is(err, leveldb.ErrNotFound), plant.On(plant.CorruptIsMissing) && lderrors.IsCorrupted(err):
		return nil, nil
	}
	return nil, s.readFailed(err)
}

// readFailed makes an error of a goleveldb read into one of this package.
func (s *Store) readFailed(err error) error {
	if !lderrors.IsCorrupted(err) {
		return fmt.Errorf("read database: %w", err)
	}
	s.count.corrupt.Add(1)
	err = fmt.Errorf("read database: %w: %w", ErrCorrupt, err)
	s.broken(err)
	return err
}

// corrupt counts a damaged object and says which one it is.
func (s *Store) corrupt(key ring.Key, err error) error {
	s.count.corrupt.Add(1)
	if !errors.Is(err, ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	err = fmt.Errorf("read object %q of bucket %q: %w", key.Name, key.Bucket, err)
	s.broken(err)
	return err
}

// write hands a batch to the kernel. A failure that goleveldb will not get over is kept.
func (s *Store) write(b *leveldb.Batch) error { return s.writeWith(b, nil) }

// writeSynced writes a batch that is on disk when it returns.
func (s *Store) writeSynced(b *leveldb.Batch) error {
	return s.writeWith(b, &opt.WriteOptions{Sync: true})
}

func (s *Store) writeWith(b *leveldb.Batch, options *opt.WriteOptions) error {
	err := s.disk.failed()
	if err == nil {
		if err = s.db.Write(b, options); err == nil {
			return nil
		}
		if failed := s.disk.failed(); failed != nil {
			err = failed
		} else if lderrors.IsCorrupted(err) { // met by a compaction: goleveldb is read-only from here on
			err = s.disk.fail("compact", err)
		} else if causeOf(err) == DiskFull { // as well by a compaction, which tries again; nothing reached the journal
			err = fmt.Errorf("%w: %w", s.space.refusal(s.space.needed()), err)
		}
	}
	return fmt.Errorf("write database: %w", err)
}

// stripe is the lock of a key.
func (s *Store) stripe(key ring.Key) *stripe { return s.stripeOf(ring.Leaf(key.Token)) }

// Sync calls done once, from any goroutine, when everything that Merge, Update and Hint had returned from before the call
// is on disk, or with the error. done must not block.
func (s *Store) Sync(done func(error)) {
	s.count.syncs.Add(1)
	if s.gate.closed() {
		done(ErrClosed)
		return
	}
	if s.disk.clean() || plant.On(plant.AckBeforeSync) {
		done(nil)
		return
	}
	if !s.sync.sync(done) {
		done(ErrClosed)
	}
}

// Healthy is nil while the store takes writes. An error that wraps ErrFailed: they are refused until the store is opened again. One that
// wraps ErrStalled: they are refused until the disk moves. What the store may say about what it holds is another matter: Votes.
func (s *Store) Healthy() error {
	if err := s.disk.failed(); err != nil {
		return err
	}
	return s.disk.stalled()
}

func formatActor(a vclock.Actor) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(a >> (56 - 8*i))
	}
	return hex.EncodeToString(b[:])
}
