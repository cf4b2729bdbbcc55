package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/rondodb/rondo/ring"
)

// Notes of a class, each followed by partition(2) n(1).
const (
	noteFence = "fence/" // fence(8)
	noteMark  = "mark/"  // watermark(8) released(8): worth nothing once data was lost
)

// ErrVoid says that a round of collection cannot go on here: this store has not fenced the class in it, was started again since, or has
// lost its trust in what it holds. The round is given up, and the next one begins anew.
var ErrVoid = errors.New("round of collection is void here")

// Marks are how far the collection of tombstones has come in one class; hybrid times in nanoseconds since 1970, on disk. They grow,
// but for Watermark and Released of a class whose data turns out to be incomplete: these begin at 0 again.
type Marks struct {
	Fence     uint64 // no version stamped so early is minted here any more
	Watermark uint64 // all versions stamped so early were on all owners, or replaced there; what comes later is refused
	Released  uint64 // all owners have that watermark: tombstones stamped so early may go
}

// marks are those of one class, in memory. They are changed under Store.marking.
type marks struct {
	fence, watermark, released atomic.Uint64
	kept                       uint64 // the fence on disk; under Store.marking
	// vouched is the fence that was set last since the start. Only up to there is a watermark taken: the round began with this very
	// store, and nothing has happened to its data since.
	vouched atomic.Uint64
}

// after is the time that a new version must be later than.
func (m *marks) after() uint64 { return max(m.fence.Load(), m.watermark.Load()) }

// Marks tells how far collection has come in a class.
func (s *Store) Marks(c ring.Class) Marks {
	if s.partitions.Load() == 0 || !s.trees.valid(c) {
		return Marks{}
	}
	t := s.trees.get(c)
	if t == nil {
		return Marks{}
	}
	return Marks{Fence: t.marks.fence.Load(), Watermark: t.marks.watermark.Load(), Released: t.marks.released.Load()}
}

// SetFence has no version minted here any more in these classes that is stamped at or before this time. When it returns that is on
// disk, and every write minted before it is in the store. It refuses classes whose trees cannot be trusted, with ErrUnsound. Classes
// without a vote can be fenced, since that promises nothing of what is here; whether they may take part in a round is for others to say.
func (s *Store) SetFence(classes []ring.Class, at uint64) error {
	if err := s.refile(); err != nil {
		return fmt.Errorf("set fence: %w", err)
	}
	return s.setMarks("set fence", classes, func(t *merkleTree, b *leveldb.Batch) (func(), error) {
		if !s.trusted(t.class.Partition) {
			return nil, ErrUnsound
		}
		m := &t.marks
		m.fence.Store(max(m.fence.Load(), at)) // before the writes under way are waited for: those that come later see it
		if at > m.kept {
			b.Put(classNote(noteFence, t.class), binary.BigEndian.AppendUint64(nil, at))
		}
		s.drain(t.class.Partition)
		return func() {
			m.kept = max(m.kept, at)
			m.vouched.Store(max(m.vouched.Load(), at))
		}, nil
	})
}

// SetWatermark says that all versions of these classes stamped at or before this time are on all owners: what this store has not seen
// of them, it has collected. On disk when it returns. It refuses with ErrVoid where SetFence has not been called with this time or a
// later one since the start of the store, or since the class's data was found incomplete.
func (s *Store) SetWatermark(classes []ring.Class, at uint64) error {
	return s.setMarks("set watermark", classes, func(t *merkleTree, b *leveldb.Batch) (func(), error) {
		m := &t.marks
		switch {
		case at <= m.watermark.Load():
			return nil, nil
		case !s.trusted(t.class.Partition):
			return nil, ErrUnsound
		case at > m.vouched.Load():
			return nil, ErrVoid
		}
		b.Put(classNote(noteMark, t.class), markNote(at, m.released.Load()))
		return func() { m.watermark.Store(at) }, nil
	})
}

// SetReleased says that all owners of these classes have a watermark of at least this time: Purge may drop what ends by then. On disk
// when it returns. It refuses with ErrVoid where this store has no such watermark, or lost it.
func (s *Store) SetReleased(classes []ring.Class, at uint64) error {
	return s.setMarks("release tombstones", classes, func(t *merkleTree, b *leveldb.Batch) (func(), error) {
		m := &t.marks
		switch {
		case at > m.watermark.Load():
			return nil, ErrVoid
		case at <= m.released.Load():
			return nil, nil
		}
		b.Put(classNote(noteMark, t.class), markNote(m.watermark.Load(), at))
		return func() { m.released.Store(at) }, nil
	})
}

// setMarks has fn add what a class's mark becomes to one batch for all classes, and calls what fn returns once that is on disk. An
// error of fn stops it before anything is written.
func (s *Store) setMarks(doing string, classes []ring.Class, fn func(*merkleTree, *leveldb.Batch) (written func(), err error)) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 {
		return fmt.Errorf("%s: %w is not set yet", doing, ErrPartitions)
	}
	s.marking.Lock()
	defer s.marking.Unlock()
	var b leveldb.Batch
	var done []func()
	for _, c := range classes {
		if !s.trees.valid(c) {
			return fmt.Errorf("%s: no class of partition %d with n=%d", doing, c.Partition, c.N)
		}
		written, err := fn(s.trees.of(c), &b)
		if err != nil {
			return fmt.Errorf("%s: partition %d, n=%d: %w", doing, c.Partition, c.N, err)
		}
		if written != nil {
			done = append(done, written)
		}
	}
	if b.Len() > 0 {
		if err := s.writeSynced(&b); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	for _, written := range done {
		written()
	}
	return nil
}

// drain waits until the writes have ended that are under way in a partition.
func (s *Store) drain(partition int) {
	first := partition * s.trees.width
	for i := range min(s.trees.width, stripes) {
		st := s.stripeOf(first + i)
		st.Lock()
		//lint:ignore SA2001 to wait is all there is to do
		st.Unlock()
	}
}

// forgetMarks takes watermark and release of classes back, in memory, and voids the rounds of collection that they take part in: data of
// theirs is missing, so what the store has not seen it may just have lost. It is called before the notes (noteMark) are removed, so that
// no new ones can follow. Fences stay: other owners may hold the store to them.
func (s *Store) forgetMarks(classes []ring.Class) {
	s.marking.Lock()
	defer s.marking.Unlock()
	for _, c := range classes {
		if t := s.trees.get(c); t != nil {
			t.marks.vouched.Store(0)
			t.marks.watermark.Store(0)
			t.marks.released.Store(0)
		}
	}
}

// voidRounds has no round of collection that has begun go on in the classes of n, and returns the highest of their watermarks.
func (s *Store) voidRounds(n int) (highest uint64) {
	s.marking.Lock()
	defer s.marking.Unlock()
	s.trees.each(func(t *merkleTree) {
		if t.class.N == n {
			t.marks.vouched.Store(0)
			highest = max(highest, t.marks.watermark.Load())
		}
	})
	return highest
}

func (s *Store) loadMarks() error {
	for _, note := range []struct {
		name string
		size int
		set  func(*marks, []byte)
	}{
		{noteFence, 8, func(m *marks, v []byte) {
			m.kept = binary.BigEndian.Uint64(v)
			m.fence.Store(m.kept)
		}},
		{noteMark, 16, func(m *marks, v []byte) {
			m.watermark.Store(binary.BigEndian.Uint64(v))
			m.released.Store(binary.BigEndian.Uint64(v[8:]))
		}},
	} {
		prefix := storeKey(note.name)
		err := s.eachRecord(prefix, func(k, v []byte) error {
			c, ok := parseClassNote(prefix, k)
			if !ok || !s.trees.valid(c) || len(v) != note.size {
				return fmt.Errorf("%w: note %q of %x", ErrCorrupt, k, v)
			}
			note.set(&s.trees.of(c).marks, v)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func classNote(name string, c ring.Class) []byte {
	return append(binary.BigEndian.AppendUint16(storeKey(name), uint16(c.Partition)), byte(c.N))
}

func parseClassNote(prefix, k []byte) (ring.Class, bool) {
	if len(k) != len(prefix)+3 {
		return ring.Class{}, false
	}
	k = k[len(prefix):]
	return ring.Class{Partition: int(binary.BigEndian.Uint16(k)), N: int(k[2])}, true
}

func markNote(watermark, released uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, watermark), released)
}

// Watermark is the watermark of a key's class as Merge applies it to that key: a version stamped so early that the key's object does not know was
// collected here. 0 where none is, or that cannot be told now.
func (s *Store) Watermark(key ring.Key) uint64 {
	if s.partitions.Load() == 0 {
		return 0
	}
	filed := s.filing.get(key.Bucket)
	t := s.trees.get(ring.Class{Partition: partitionOf(key.Token, s.trees.partitions), N: filed.n})
	if t == nil {
		return 0
	}
	at := t.marks.watermark.Load()
	if at <= filed.since || !s.trusted(t.class.Partition) {
		return 0
	}
	if n, known := s.wanted(key.Bucket); known && n != filed.n {
		return 0
	}
	return at
}
