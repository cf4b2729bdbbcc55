package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// List calls yield for the keys of a bucket with this prefix, in (partition, name) order, beginning after the position
// (afterPartition, afterName), over the given partitions (ascending). It reads the index only. It stops when yield returns
// false. Objects that change meanwhile may be told as they were before. Values that have expired when it is called count as tombstones.
// yield may call the store, but not Close.
func (s *Store) List(bucket, prefix string, partitions []int, afterPartition int, afterName string, yield func(partition int, name string, state vclock.State) bool) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	known := int(s.partitions.Load())
	if known == 0 {
		return fmt.Errorf("list keys: %w is not set yet", ErrPartitions)
	}
	it := s.db.NewIterator(&util.Range{Start: []byte{spaceIndex}, Limit: []byte{spaceIndex + 1}}, nil)
	defer it.Release()
	now := s.now()
	var start, seek []byte
	for _, p := range partitions {
		if p < afterPartition {
			continue
		}
		if p < 0 || p >= known {
			return fmt.Errorf("list keys: partition %d of %d", p, known)
		}
		start = appendIndexKey(start[:0], p, bucket, prefix)
		seek = append(seek[:0], start...)
		if p == afterPartition {
			position := append(appendIndexKey(nil, p, bucket, afterName), 0) // the first key after it
			if bytes.Compare(position, seek) > 0 {
				seek = position
			}
		}
		names := len(start) - len(prefix)
		for ok := it.Seek(seek); ok; ok = it.Next() {
			k := it.Key()
			if !bytes.HasPrefix(k, start) {
				break
			}
			entry, err := parseEntry(it.Value())
			if err != nil {
				return s.corrupt(ring.Key{Bucket: bucket, Name: string(k[names:])}, err)
			}
			if !yield(p, string(k[names:]), entry.at(now)) {
				return nil
			}
		}
		if err := it.Error(); err != nil { // a damaged block ends an iterator early
			return fmt.Errorf("list keys: %w", s.readFailed(err))
		}
	}
	return nil
}

// Scan calls yield for every object whose token is in [fromToken, toToken], in token order, as they were when it was called.
// object is valid until yield returns. An object that cannot be trusted ends it with an error.
func (s *Store) Scan(fromToken, toToken uint64, yield func(key ring.Key, object []byte) bool) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	r := &util.Range{Start: appendDataToken(nil, fromToken), Limit: []byte{spaceData + 1}}
	if toToken != math.MaxUint64 {
		r.Limit = appendDataToken(nil, toToken+1)
	}
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		key, err := parseDataKey(it.Key())
		if err != nil {
			return s.corrupt(key, err)
		}
		object, _, err := splitValue(it.Value())
		if err != nil {
			return s.corrupt(key, err)
		}
		if !yield(key, object) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("scan objects: %w", s.readFailed(err))
	}
	return nil
}

// liveKeys counts the keys that hold a value, expired or not: what a count of the index found in a snapshot, and what has changed since.
type liveKeys struct {
	delta atomic.Int64
	base  atomic.Int64
	known atomic.Bool
}

func (l *liveKeys) changed(old, new vclock.State) {
	if d := holdsValue(new) - holdsValue(old); d != 0 {
		l.delta.Add(d)
	}
}

func (l *liveKeys) get() (n int64, known bool) {
	known = l.known.Load()
	return l.base.Load() + l.delta.Load(), known
}

func holdsValue(st vclock.State) int64 {
	if st == vclock.Live || st == vclock.Mixed {
		return 1
	}
	return 0
}

// countKeys begins to count the live keys in the background, from a snapshot taken before it returns, and what waits to be collected.
// Where trees are not to be trusted everything that is computed from the objects is first brought in line with them. The caller is inside
// the gate and no write is possible yet.
func (s *Store) countKeys(int) error {
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return fmt.Errorf("take snapshot: %w", err)
	}
	s.generation.mu.Lock()
	defer s.generation.mu.Unlock()
	for p := range s.trees.sound {
		s.generation.running = s.generation.running || !s.trees.sound[p].Load()
	}
	rebuild := s.generation.running
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		if err := s.inBackground(snapshot, rebuild); err != nil && !errors.Is(err, ErrClosed) {
			s.log.Error("what the database holds was not all counted", "err", err)
		}
	}()
	return nil
}

func (s *Store) inBackground(snapshot *leveldb.Snapshot, rebuild bool) error {
	if rebuild {
		snapshot.Release()
		if err := s.rebuild(); err != nil {
			return fmt.Errorf("compute Merkle trees: %w", err)
		}
		err := s.aligned()
		if err != nil {
			return fmt.Errorf("note that everything fits the objects: %w", err)
		}
		if snapshot, err = s.quietSnapshot(); err != nil {
			return err
		}
	}
	err := s.countLive(snapshot)
	snapshot.Release()
	if err != nil {
		return fmt.Errorf("count keys: %w", err)
	}
	for more := true; more && err == nil; {
		if err = s.going(); err == nil {
			_, more, err = s.countDue()
		}
	}
	return wrap("count tombstones", err)
}

// countLive counts the live keys of a snapshot.
func (s *Store) countLive(snapshot *leveldb.Snapshot) error {
	it := snapshot.NewIterator(util.BytesPrefix([]byte{spaceIndex}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	var n int64
	err := s.walk(it, func() error {
		entry, err := parseEntry(it.Value())
		n += holdsValue(entry.state)
		return err
	})
	if err != nil {
		return err
	}
	s.live.base.Store(n)
	s.live.known.Store(true)
	return nil
}

// walk calls fn for each entry of an iterator until the store is closed.
func (s *Store) walk(it iterator.Iterator, fn func() error) error {
	for n := 0; it.Next(); n++ {
		if n%256 == 0 {
			if err := s.going(); err != nil {
				return err
			}
		}
		if err := fn(); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return s.readFailed(err)
	}
	return nil
}

// walkRange calls fn for each record of a range until the store is closed.
func (s *Store) walkRange(r *util.Range, fn func(k, v []byte) error) error {
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	return s.walk(it, func() error { return fn(it.Key(), it.Value()) })
}

// quietSnapshot takes a snapshot at an instant without a write under way, and starts the live count's changes from it.
func (s *Store) quietSnapshot() (*leveldb.Snapshot, error) {
	defer s.lockAll()()
	s.live.delta.Store(0)
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return snapshot, nil
}

// alignKey makes the index entry of one key, and its entry among what can be collected, what the object says. A start may have dropped
// the record that made them while a later one of the same key was kept. An object that cannot be trusted keeps the entries that it has:
// it is still there.
func (s *Store) alignKey(key ring.Key) (changed bool, err error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	class := s.class(key)
	is, known, err := s.factsNow(key)
	if err != nil || !known {
		return false, err
	}
	was := facts{due: is.due}
	indexKey := appendIndexKey(nil, class.Partition, key.Bucket, key.Name)
	v, err := s.read(indexKey)
	if err != nil {
		return false, err
	}
	var b leveldb.Batch
	if v != nil {
		was.entry, err = parseEntry(v)
	}
	switch {
	case is.entry == was.entry && err == nil:
	case is.entry == indexEntry{}:
		b.Delete(indexKey)
	default:
		b.Put(indexKey, is.entry.append(nil))
	}
	if is.due != 0 {
		dueKey := appendDueKey(nil, class, is.due, key.Bucket, key.Name)
		switch there, err := s.db.Has(dueKey, nil); {
		case err != nil:
			return false, s.readFailed(err)
		case !there:
			was.due = 0
			b.Put(dueKey, nil)
		}
	}
	return b.Len() > 0, s.writeAligned(&b, class, was, is)
}

// alignDue removes an entry among what can be collected that is not its object's.
func (s *Store) alignDue(class ring.Class, at uint64, key ring.Key) (changed bool, err error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	is, known, err := s.factsNow(key)
	if err != nil || !known || is.due == at && class == s.class(key) {
		return false, err
	}
	var b leveldb.Batch
	b.Delete(appendDueKey(nil, class, at, key.Bucket, key.Name))
	return true, s.writeAligned(&b, class, facts{due: at}, facts{})
}

// factsNow are those of the stored object; known is false where it cannot be trusted. The caller holds the stripe.
func (s *Store) factsNow(key ring.Key) (is facts, known bool, err error) {
	v, err := s.read(appendDataKey(nil, key))
	if err != nil || v == nil {
		return facts{}, err == nil, err
	}
	object, digest, err := splitValue(v)
	if err != nil {
		return facts{}, false, nil // counted when it is read
	}
	o, err := vclock.DecodeObject(object)
	if err != nil {
		return facts{}, false, nil
	}
	return factsOf(key, digest, o), true, nil
}

// writeAligned writes what was found wrong, if anything. The caller holds the stripe.
func (s *Store) writeAligned(b *leveldb.Batch, class ring.Class, was, is facts) error {
	if b.Len() == 0 {
		return nil
	}
	d := &s.trees.of(class).due
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := s.write(b); err != nil {
		return err
	}
	if was.due != is.due {
		d.moved(was.due, is.due)
	}
	s.live.changed(was.entry.state, is.entry.state)
	return nil
}
