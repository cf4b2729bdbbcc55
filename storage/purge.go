package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// noteFloor holds the counter floor: actor(8) counter(8).
const noteFloor = "floor"

// floor is the highest counter of this incarnation in any object that was dropped. With the object goes its clock, and a clock that
// begins anew would issue its dots once more: replicas that remember the first ones would take the new versions for replaced. So no new
// dot has a counter up to the floor, whatever its key. It is raised in the batch that drops the object. Another incarnation needs none of
// it: its dots are new.
type floor struct {
	mu      sync.Mutex // through a drop's write, so that a lower floor never lands on a higher one
	counter atomic.Uint64
}

// seen is an object as a new version of it must take it: with all of this incarnation's dots up to the floor in its clock. Those that the
// object does not know of were of another key, or were collected here.
func (s *Store) seen(o vclock.Object) vclock.Object {
	if counter := s.floor.counter.Load(); counter > 0 && !plant.On(plant.CounterFloorLost) {
		o.Clock = o.Clock.Seen(vclock.Dot{Actor: s.incarnation, Counter: counter})
	}
	return o
}

func (s *Store) loadFloor() error {
	s.floor.counter.Store(0)
	v, err := s.read(storeKey(noteFloor))
	switch {
	case err != nil || v == nil:
		return err
	case len(v) != 16:
		return s.corrupt(ring.Key{}, fmt.Errorf("counter floor %x", v))
	}
	if vclock.Actor(binary.BigEndian.Uint64(v)) == s.incarnation {
		s.floor.counter.Store(binary.BigEndian.Uint64(v[8:]))
	}
	return nil
}

// drop removes an object and all that follows from it, in one batch. The caller holds the stripe.
func (s *Store) drop(st *stripe, w *scratch, c change, clock vclock.Clock) error {
	f := &s.floor
	f.mu.Lock()
	defer f.mu.Unlock()
	counter := clock.Next(s.incarnation) - 1
	if counter > f.counter.Load() {
		c.floor = counter
	}
	if err := s.put(st, w, c); err != nil {
		return err
	}
	if c.floor > 0 {
		f.counter.Store(c.floor)
	}
	return nil
}

// Purge drops objects of a class all of whose versions are tombstones stamped, or values expired, at Marks.Released or before; limit of
// them at most. more tells that there may be others. Objects that cannot be read are passed over, and are told by err.
func (s *Store) Purge(c ring.Class, limit int) (dropped int, more bool, err error) {
	if !s.gate.enter() {
		return 0, false, ErrClosed
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 || !s.trees.valid(c) {
		return 0, false, fmt.Errorf("purge: no class of partition %d with n=%d", c.Partition, c.N)
	}
	if !s.trusted(c.Partition) { // what comes late would not be known for what it is
		return 0, false, fmt.Errorf("purge: %w", ErrUnsound)
	}
	released := s.Marks(c).Released
	if released == 0 {
		return 0, false, nil
	}
	r := &util.Range{Start: appendClass(nil, spaceDue, c), Limit: appendDueTime(nil, c, released+1)}
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	var damage error
	for it.Next() {
		if dropped >= limit {
			return dropped, true, damage
		}
		_, at, bucket, name, err := parseDueKey(it.Key())
		if err != nil {
			damage = s.corrupt(ring.Key{}, err)
			continue
		}
		gone, err := s.purgeKey(c, at, ring.NewKey(bucket, name))
		if gone {
			dropped++
		}
		switch {
		case errors.Is(err, ErrCorrupt):
			damage = err
		case err != nil:
			return dropped, false, fmt.Errorf("purge: %w", err)
		}
	}
	if err := it.Error(); err != nil {
		return dropped, false, fmt.Errorf("purge: %w", s.readFailed(err))
	}
	return dropped, false, damage
}

// purgeKey drops an object if it is still what its entry at this time says, and may go.
func (s *Store) purgeKey(c ring.Class, at uint64, key ring.Key) (dropped bool, err error) {
	st, now, err := s.lock(key)
	if err != nil {
		return false, err
	}
	defer st.Unlock()
	if now != c || at > s.trees.of(c).marks.released.Load() { // filed otherwise by now, or the class is distrusted
		return false, nil
	}
	w := s.takeScratch(key)
	defer s.giveScratch(w)
	old, err := s.storedObject(w, key)
	if err != nil {
		return false, err
	}
	if dueTime(old) != at { // it has changed, and so has its entry
		return false, nil
	}
	if err := s.drop(st, w, change{key: key, class: c, was: factsOf(key, w.digest(), old)}, old.Clock); err != nil {
		return false, err
	}
	s.count.purged.Add(1)
	return true, nil
}

// Forget drops the object if it still has this digest, as Purge would: another owner has proved that it was collected.
func (s *Store) Forget(key ring.Key, digest uint64) (dropped bool, err error) {
	if !s.gate.enter() {
		return false, ErrClosed
	}
	defer s.gate.leave()
	st, c, err := s.lock(key)
	if err != nil {
		return false, fmt.Errorf("forget: %w", err)
	}
	defer st.Unlock()
	w := s.takeScratch(key)
	defer s.giveScratch(w)
	old, err := s.storedObject(w, key)
	if err != nil {
		return false, fmt.Errorf("forget: %w", err)
	}
	if old.Empty() || w.digest() != digest {
		return false, nil
	}
	if err := s.drop(st, w, change{key: key, class: c, was: factsOf(key, digest, old)}, old.Clock); err != nil {
		return false, fmt.Errorf("forget: %w", err)
	}
	s.count.forgotten.Add(1)
	return true, nil
}

// putFloor adds the counter floor to a batch.
func (s *Store) putFloor(b *leveldb.Batch, counter uint64) {
	v := binary.BigEndian.AppendUint64(nil, uint64(s.incarnation))
	b.Put(storeKey(noteFloor), binary.BigEndian.AppendUint64(v, counter))
}
