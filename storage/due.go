package storage

import (
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// dueStep is how many entries one class is counted on by in one call of Tombstones.
const dueStep = 1 << 10

// TombstoneStat is the backlog of one class.
type TombstoneStat struct {
	Class  ring.Class
	Count  int64
	Oldest uint64 // hybrid time of the oldest, nanoseconds since 1970
}

// dueTime is the time from which an object can be collected, 0 = it cannot.
func dueTime(o vclock.Object) uint64 {
	at, ok := o.Collectable()
	if !ok {
		return 0
	}
	return max(at, 1)
}

// due counts the entries of a class in the space of what can be collected up to a time, which moves on with the clock: tombstones count
// from the start, values once they have expired. Whoever changes entries holds mu for reading, from before the batch until the count is
// right, so that whoever moves the time on sees each entry either in the database or in the count.
type due struct {
	mu    sync.RWMutex
	until uint64 // entries up to here are counted; under mu
	count atomic.Int64
}

// moved counts that an object's time has become another; 0 = none. The caller holds mu for reading.
func (d *due) moved(was, is uint64) {
	if was != 0 && was <= d.until {
		d.count.Add(-1)
	}
	if is != 0 && is <= d.until {
		d.count.Add(1)
	}
}

// advance moves the time on to now, or by about dueStep entries: then there is more to count. It waits for nobody: while entries are being
// changed it does nothing.
func (s *Store) advance(t *merkleTree, now uint64) (more bool, err error) {
	d := &t.due
	if !d.mu.TryLock() {
		return false, nil
	}
	defer d.mu.Unlock()
	if now <= d.until {
		return false, nil
	}
	r := &util.Range{Start: appendDueTime(nil, t.class, d.until+1), Limit: appendClass(nil, spaceDue, ring.Class{Partition: t.class.Partition, N: t.class.N + 1})}
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true}) // of what is there now
	defer it.Release()
	n, last := 0, d.until
	for it.Next() {
		_, at, _, _, err := parseDueKey(it.Key())
		if err != nil {
			return false, s.corrupt(ring.Key{}, err)
		}
		if at > now {
			break
		}
		if n >= dueStep && at > last { // never between entries of one time
			d.count.Add(int64(n))
			d.until = last
			return true, nil
		}
		n, last = n+1, at
	}
	if err := it.Error(); err != nil {
		return false, s.readFailed(err)
	}
	d.count.Add(int64(n))
	d.until = now
	return false, nil
}

// Tombstones tells what waits to be collected now: tombstones, and values that have expired; class by class, in order. It is cheap: a few
// reads for each class that has any. Right after the start, and while writes go on, a count may be behind.
func (s *Store) Tombstones() []TombstoneStat {
	if !s.gate.enter() {
		return nil
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 {
		return nil
	}
	out, _, err := s.countDue()
	if err != nil {
		s.log.Error("tombstones not counted", "err", err)
	}
	return out
}

// countDue goes over the classes that have entries which are due. more tells that they are not all counted yet.
func (s *Store) countDue() (out []TombstoneStat, more bool, err error) {
	now := s.now()
	it := s.db.NewIterator(util.BytesPrefix([]byte{spaceDue}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for ok := it.First(); ok; {
		c, oldest, _, _, err := parseDueKey(it.Key())
		if err == nil && !s.trees.valid(c) {
			err = errBadKey
		}
		if err != nil {
			return out, false, s.corrupt(ring.Key{}, err)
		}
		if oldest <= now {
			t := s.trees.of(c)
			step, err := s.advance(t, now)
			if err != nil {
				return out, false, err
			}
			more = more || step
			out = append(out, TombstoneStat{Class: c, Count: max(1, t.due.count.Load()), Oldest: oldest})
		}
		ok = it.Seek(appendClass(nil, spaceDue, ring.Class{Partition: c.Partition, N: c.N + 1}))
	}
	if err := it.Error(); err != nil {
		return out, false, s.readFailed(err)
	}
	return out, more, nil
}
