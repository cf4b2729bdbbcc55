package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

// HintStat tells what is kept for one target.
type HintStat struct {
	Target    ring.NodeID
	Count     int64
	Bytes     int64 // on disk, about
	Oldest    int64 // Unix nanoseconds, to about a minute; 0 = none, or unknown
	Divergent []int // partitions for which hints were dropped at the limit, ascending
}

// hintAge is how exactly the age of the oldest hint is known.
const hintAge = int64(time.Minute)

// hints counts what is kept. Each hint is counted under the stripe of its key by whoever puts or drops it; what an earlier run left is
// added in the background, from a snapshot that is older than any of these changes. Until then figures may be too low, even below zero.
type hints struct {
	mu      sync.RWMutex
	targets map[ring.NodeID]*hintTarget
	kept    []atomic.Int64 // hints with objects of their own, by partition
	known   atomic.Bool
}

// hintTarget is what is kept for one node.
type hintTarget struct {
	owner *hints
	marks sync.Mutex // held while a mark is put or taken; before mu

	mu        sync.Mutex
	bytes     int64 // with what is being written
	count     int64
	kept      int64
	ages      map[int64]age // by time in units of hintAge
	divergent map[int]bool
}

// age is the hints of one minute.
type age struct{ count, oldest int64 }

func (h *hints) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.targets, h.kept = map[ring.NodeID]*hintTarget{}, nil
	h.known.Store(false)
}

// target is never nil.
func (h *hints) target(id ring.NodeID) *hintTarget {
	h.mu.RLock()
	t := h.targets[id]
	h.mu.RUnlock()
	if t != nil {
		return t
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t = h.targets[id]; t == nil {
		t = &hintTarget{owner: h, ages: map[int64]age{}, divergent: map[int]bool{}}
		h.targets[ring.NodeID(strings.Clone(string(id)))] = t
	}
	return t
}

// keeping lists the targets that objects may be kept for.
func (h *hints) keeping() []ring.NodeID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	known := h.known.Load()
	var out []ring.NodeID
	for id, t := range h.targets {
		t.mu.Lock()
		if t.kept > 0 || !known {
			out = append(out, id)
		}
		t.mu.Unlock()
	}
	return out
}

// reserve counts so many bytes more if the limit allows it. The first hint of a target is always allowed, and what takes no more room.
func (t *hintTarget) reserve(bytes, limit int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes > 0 && t.bytes > 0 && t.bytes+bytes > limit {
		return false
	}
	t.bytes += bytes
	return true
}

// release counts so many bytes less.
func (t *hintTarget) release(bytes int64) {
	t.mu.Lock()
	t.bytes -= bytes
	t.mu.Unlock()
}

func (t *hintTarget) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// changed counts a hint that was old and is new now; nil = none. Bytes are counted by reserve and release. The caller holds the key's stripe.
func (t *hintTarget) changed(old, now []byte, partition int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range []struct {
		v  []byte
		by int64
	}{{old, -1}, {now, 1}} {
		if c.v == nil {
			continue
		}
		t.count += c.by
		if isKept(c.v) {
			t.kept += c.by
			t.owner.kept[partition].Add(c.by)
		}
		t.ageing(hintTime(c.v), c.by)
	}
}

// ageing counts hints of a time. The caller holds mu.
func (t *hintTarget) ageing(at, by int64) {
	a := t.ages[at/hintAge]
	a.count += by
	if by > 0 && (a.oldest == 0 || at < a.oldest) {
		a.oldest = at
	}
	if a.count == 0 {
		delete(t.ages, at/hintAge)
	} else {
		t.ages[at/hintAge] = a
	}
}

func (t *hintTarget) diverges(partition int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.divergent[partition]
}

func (t *hintTarget) setDivergent(partition int, divergent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if divergent {
		t.divergent[partition] = true
	} else {
		delete(t.divergent, partition)
	}
}

func (t *hintTarget) stat(id ring.NodeID) HintStat {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := HintStat{Target: id, Count: max(0, t.count), Bytes: max(0, t.bytes), Divergent: slices.Sorted(maps.Keys(t.divergent))}
	for _, a := range t.ages {
		if a.count > 0 && (out.Oldest == 0 || a.oldest < out.Oldest) {
			out.Oldest = a.oldest
		}
	}
	return out
}

// HintStats tells what is kept for each target, by id; targets for which nothing is kept and no partition is divergent are left out. It
// reads nothing from disk. known is false while the store still counts what an earlier run left: until then figures are too low.
func (s *Store) HintStats() (stats []HintStat, known bool) {
	known = s.hints.known.Load()
	s.hints.mu.RLock()
	defer s.hints.mu.RUnlock()
	for _, id := range slices.Sorted(maps.Keys(s.hints.targets)) {
		if st := s.hints.targets[id].stat(id); st.Count > 0 || len(st.Divergent) > 0 {
			stats = append(stats, st)
		}
	}
	return stats, known
}

// HintsIn counts the hints with objects of their own (Hint.Own false) in one partition; unknown while HintStats is.
func (s *Store) HintsIn(partition int) (count int64, known bool) {
	if known = s.hints.known.Load(); !known || partition < 0 || partition >= len(s.hints.kept) {
		return 0, known
	}
	return s.hints.kept[partition].Load(), true
}

// countHints finds the targets and the divergent partitions that an earlier run left, and begins to count their hints in the background,
// from a snapshot taken before it returns. The caller is inside the gate, and no hint can be put or dropped yet.
func (s *Store) countHints(partitions int) error {
	s.hints.mu.Lock()
	s.hints.kept = make([]atomic.Int64, partitions)
	s.hints.mu.Unlock()
	if err := s.findTargets(); err != nil {
		return err
	}
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return fmt.Errorf("take snapshot: %w", err)
	}
	s.background.Go(func() {
		defer snapshot.Release()
		if err := s.addHints(snapshot, partitions); err == nil {
			s.hints.known.Store(true)
		} else if !errors.Is(err, ErrClosed) {
			s.log.Error("hints not counted", "error", err)
		}
	})
	return nil
}

// findTargets seeks from target to target, and reads the marks.
func (s *Store) findTargets() error {
	it := s.db.NewIterator(util.BytesPrefix([]byte{spaceHint}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for ok := it.First(); ok; {
		id, key, err := parseHintKey(it.Key())
		if err != nil {
			return s.corrupt(key, err)
		}
		s.hints.target(id)
		next := appendHintPrefix(nil, id)
		next[len(next)-1]++ // a target ends with a zero
		ok = it.Seek(next)
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read hints: %w", s.readFailed(err))
	}
	marks := s.db.NewIterator(util.BytesPrefix(storeKey(prefixDivergent)), nil)
	defer marks.Release()
	for marks.Next() {
		id, partition, ok := parseDivergent(marks.Key())
		if !ok {
			return s.corruptNote(fmt.Errorf("mark of a divergent partition %x", marks.Key()))
		}
		s.hints.target(id).setDivergent(partition, true)
	}
	if err := marks.Error(); err != nil {
		return fmt.Errorf("read divergent partitions: %w", s.readFailed(err))
	}
	return nil
}

// addHints adds what the snapshot holds.
func (s *Store) addHints(snapshot *leveldb.Snapshot, partitions int) error {
	it := snapshot.NewIterator(util.BytesPrefix([]byte{spaceHint}), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	return s.walk(it, func() error {
		id, key, err := parseHintKey(it.Key())
		if err == nil && len(it.Value()) < hintHeadLen {
			err = errors.New("hint cut short")
		}
		if err != nil {
			return s.corrupt(key, err)
		}
		t := s.hints.target(id)
		t.release(-hintSize(it.Key(), it.Value()))
		t.changed(nil, it.Value(), partitionOf(key.Token, partitions))
		return nil
	})
}
