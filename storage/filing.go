package storage

import (
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

const (
	usualReplicas = 3        // of buckets that have no settings of their own
	noteFiled     = "filed/" // followed by a bucket: the replica count that its objects are filed under
	noteFiling    = "filing" // there while that is being changed for a bucket
	filedLen      = 1 + 8    // n, since
)

// filing says in which classes the objects of each bucket are: under which replica count. That is the bucket's setting as this store
// last heard of it, noted here, because trees must take an object out of the leaf that they put it in. A bucket's replica count
// changes only while it holds no key, or so it is meant; where it does hold some, all trees are computed anew.
type filing struct {
	mu     sync.Mutex                   // one change at a time
	noted  atomic.Pointer[filedBuckets] // never changed in place
	moving atomic.Bool                  // a change is under way: no tree can be trusted
}

type filed struct {
	n int
	// since is the highest watermark of any class of n when the bucket came to it. Such watermarks say nothing about this bucket's
	// versions, which were not exchanged in that class; later ones do.
	since uint64
}

func (f *filing) get(bucket string) filed { return f.noted.Load().get(bucket) }

// filedBuckets are the buckets that are not, or were not always, filed under the usual count.
type filedBuckets map[string]filed

func (f filedBuckets) get(bucket string) filed {
	if len(f) > 0 {
		if b, ok := f[bucket]; ok {
			return b
		}
	}
	return filed{n: usualReplicas}
}

// class is that of a key now. The caller holds the key's stripe, or does without the certainty that it stays so.
func (s *Store) class(key ring.Key) ring.Class {
	return ring.Class{Partition: partitionOf(key.Token, s.trees.partitions), N: s.filing.get(key.Bucket).n}
}

// lock takes the stripe of a key that is to be written, once its bucket is filed as its settings say.
func (s *Store) lock(key ring.Key) (*stripe, ring.Class, error) {
	if s.partitions.Load() == 0 {
		return nil, ring.Class{}, fmt.Errorf("write object: %w is not set yet", ErrPartitions)
	}
	st := s.stripe(key)
	for {
		st.Lock()
		c := s.class(key)
		n, known := s.wanted(key.Bucket)
		if !known || n == c.N {
			return st, c, nil
		}
		st.Unlock()
		if err := s.file(key.Bucket, n); err != nil {
			return nil, ring.Class{}, err
		}
	}
}

// wanted is what the settings of a bucket say.
func (s *Store) wanted(bucket string) (n int, known bool) {
	n = s.cfg.Replicas(bucket)
	return n, n >= 1 && n <= maxReplicas
}

// refile follows the settings of all buckets that are noted. Others follow when they are next written or verified.
func (s *Store) refile() error {
	for bucket, have := range *s.filing.noted.Load() {
		if n, known := s.wanted(bucket); known && n != have.n {
			if err := s.file(bucket, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// file changes the replica count that a bucket's objects are filed under. A crash on the way leaves noteFiling, and so all trees are
// computed anew.
func (s *Store) file(bucket string, n int) error {
	f := &s.filing
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.get(bucket).n == n {
		return nil
	}
	f.moving.Store(true) // before the rounds are void: no new one begins until the bucket is where it belongs
	next := filed{n: n, since: s.voidRounds(n)}
	var b leveldb.Batch
	b.Put(storeKey(noteFiled+bucket), binary.BigEndian.AppendUint64([]byte{byte(n)}, next.since))
	b.Put(storeKey(noteFiling), []byte(bucket))
	if err := s.write(&b); err != nil { // the journal keeps the order: no write under the new count is there without it
		return fmt.Errorf("file bucket: %w", err)
	}
	unlock := s.lockAll()
	noted := maps.Clone(*f.noted.Load())
	noted[bucket] = next
	f.noted.Store(&noted)
	snapshot, err := s.db.GetSnapshot() // all that is filed under the old count
	unlock()
	if err != nil {
		return fmt.Errorf("file bucket: take snapshot: %w", err)
	}
	defer snapshot.Release()
	holds, err := s.holdsBucket(snapshot, bucket)
	if err != nil {
		return fmt.Errorf("file bucket: %w", err)
	}
	b.Reset()
	b.Delete(storeKey(noteFiling))
	if holds {
		s.log.Warn("the replica count of a bucket that holds keys has changed: Merkle trees are computed anew", "bucket", bucket, "n", n)
		s.generation.mu.Lock()
		err = s.raise(&b)
		s.generation.mu.Unlock()
	} else {
		err = s.write(&b)
	}
	if err != nil {
		return fmt.Errorf("file bucket: %w", err)
	}
	f.moving.Store(false)
	return nil
}

// holdsBucket tells whether the index has a key of the bucket, deleted ones included. Where it may be wrong the answer is yes.
func (s *Store) holdsBucket(snapshot *leveldb.Snapshot, bucket string) (bool, error) {
	for p := range s.trees.sound {
		if !s.trees.sound[p].Load() {
			return true, nil
		}
	}
	it := snapshot.NewIterator(util.BytesPrefix([]byte{spaceIndex}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	var prefix []byte
	for p := range s.trees.partitions {
		prefix = appendIndexKey(prefix[:0], p, bucket, "")
		if it.Seek(prefix) && len(it.Key()) >= len(prefix) && string(it.Key()[:len(prefix)]) == string(prefix) {
			return true, nil
		}
		if err := it.Error(); err != nil {
			return false, s.readFailed(err)
		}
	}
	return false, nil
}

// loadFiling reads the notes.
func (s *Store) loadFiling() error {
	noted := filedBuckets{}
	prefix := storeKey(noteFiled)
	err := s.eachRecord(prefix, func(k, v []byte) error {
		if len(v) != filedLen || v[0] < 1 || v[0] > maxReplicas {
			return fmt.Errorf("%w: replica count %x of a bucket", ErrCorrupt, v)
		}
		noted[string(k[len(prefix):])] = filed{n: int(v[0]), since: binary.BigEndian.Uint64(v[1:])}
		return nil
	})
	if err != nil {
		return err
	}
	s.filing.noted.Store(&noted)
	return nil
}
