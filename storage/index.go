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
// false. Objects that change meanwhile may be told as they were before. yield may call the store, but not Close.
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
			state, err := indexState(it.Value())
			if err != nil {
				return s.corrupt(ring.Key{Bucket: bucket, Name: string(k[names:])}, err)
			}
			if !yield(p, string(k[names:]), state) {
				return nil
			}
		}
		if err := it.Error(); err != nil { // a damaged block ends an iterator early
			return fmt.Errorf("list keys: %w", s.readFailed(err))
		}
	}
	return nil
}

func indexState(v []byte) (vclock.State, error) {
	if len(v) != 1 || v[0] < byte(vclock.Live) || v[0] > byte(vclock.Mixed) {
		return 0, fmt.Errorf("%w: index entry %x", ErrCorrupt, v)
	}
	return vclock.State(v[0]), nil
}

// Scan calls yield for every object whose token is in [fromToken, toToken], in token order, as they were when it was called.
// object is valid until yield returns. An object that cannot be trusted ends it with an error.
func (s *Store) Scan(fromToken, toToken uint64, yield func(key ring.Key, object []byte) bool) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	r := &util.Range{Start: appendDataKey(nil, ring.Key{Token: fromToken})[:9], Limit: []byte{spaceData + 1}}
	if toToken != math.MaxUint64 {
		r.Limit = appendDataKey(nil, ring.Key{Token: toToken + 1})[:9]
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

// liveKeys counts the keys that hold a value: what a count of the index found in a snapshot, and what has changed since.
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

// countKeys begins to count the live keys in the background, from a snapshot taken before it returns. After a lenient open the
// index is first brought in line with the objects. The caller is inside the gate and no write is possible yet.
func (s *Store) countKeys(partitions int) error {
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return fmt.Errorf("take snapshot: %w", err)
	}
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		err := s.inBackground(snapshot, partitions)
		if err != nil && !errors.Is(err, ErrClosed) {
			s.log.Error("live keys not counted", "err", err)
		}
	}()
	return nil
}

func (s *Store) inBackground(snapshot *leveldb.Snapshot, partitions int) error {
	if s.lenient {
		snapshot.Release()
		fixed, err := s.alignIndex(partitions)
		if err != nil {
			return fmt.Errorf("align index: %w", err)
		}
		s.log.Info("index checked against the objects", "fixed", fixed)
		if snapshot, err = s.quietSnapshot(); err != nil {
			return err
		}
	}
	defer snapshot.Release()
	it := snapshot.NewIterator(util.BytesPrefix([]byte{spaceIndex}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	var n int64
	err := s.walk(it, func() error {
		state, err := indexState(it.Value())
		n += holdsValue(state)
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
			select {
			case <-s.stopping:
				return ErrClosed
			default:
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

// quietSnapshot takes a snapshot at an instant without a write under way, and starts the live count's changes from it.
func (s *Store) quietSnapshot() (*leveldb.Snapshot, error) {
	for i := range s.stripes {
		s.stripes[i].Lock()
	}
	defer func() {
		for i := range s.stripes {
			s.stripes[i].Unlock()
		}
	}()
	s.live.delta.Store(0)
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return snapshot, nil
}

// alignIndex makes the index agree with the objects, key by key under the key's lock. A lenient open may have dropped the record
// that made an index entry while a later one of the same key was kept.
func (s *Store) alignIndex(partitions int) (fixed int, err error) {
	it := s.db.NewIterator(util.BytesPrefix([]byte{spaceData}), &opt.ReadOptions{DontFillCache: true})
	err = s.walk(it, func() error {
		key, err := parseDataKey(it.Key())
		if err != nil {
			return s.corrupt(key, err)
		}
		changed, err := s.alignKey(key, partitions)
		if changed {
			fixed++
		}
		return err
	})
	it.Release()
	if err != nil {
		return fixed, err
	}
	it = s.db.NewIterator(util.BytesPrefix([]byte{spaceIndex}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	err = s.walk(it, func() error {
		_, bucket, name, err := parseIndexKey(it.Key())
		if err != nil {
			return s.corrupt(ring.Key{}, err)
		}
		changed, err := s.alignKey(ring.NewKey(bucket, name), partitions)
		if changed {
			fixed++
		}
		return err
	})
	return fixed, err
}

// alignKey corrects the index entry of one key. An object that cannot be trusted keeps the entry it has: it is still there.
func (s *Store) alignKey(key ring.Key, partitions int) (changed bool, err error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	value, err := s.read(appendDataKey(nil, key))
	if err != nil {
		return false, err
	}
	state := vclock.Absent
	if value != nil {
		object, _, err := splitValue(value)
		if err != nil {
			return false, nil // counted when it is read
		}
		o, err := vclock.DecodeObject(object)
		if err != nil {
			return false, nil
		}
		state = o.State()
	}
	indexKey := appendIndexKey(nil, partitionOf(key.Token, partitions), key.Bucket, key.Name)
	entry, err := s.read(indexKey)
	if err != nil {
		return false, err
	}
	var b leveldb.Batch
	switch {
	case state == vclock.Absent && entry != nil:
		b.Delete(indexKey)
	case state != vclock.Absent && (len(entry) != 1 || entry[0] != byte(state)):
		b.Put(indexKey, []byte{byte(state)})
	default:
		return false, nil
	}
	return true, s.write(&b)
}
