package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// ErrHintLimit marks a hint that was not kept because so much is kept for its target already. The target's partition is marked
// as divergent, and left to anti-entropy.
var ErrHintLimit = errors.New("too much is kept for this node already")

// hintHeadLen is the length of what every hint begins with: when the first for this key was left, and a number that is another one
// after each change. A hint of a node's own object is nothing but that; in one that is kept for its target alone a stored value follows.
const hintHeadLen = 16

// Hint says that another node lacks an object.
type Hint struct {
	Key     ring.Key
	Object  []byte // valid until yield returns; nil where there is nothing left to hand over
	Own     bool   // the object is this node's own, as an owner; else it is kept for the target only, and may be the last copy
	Version uint64 // names this state of the hint, for DropHint
}

// Hint keeps for target, under this key, that it lacks something: object, joined with what is kept for it already; or, where object is
// nil, whatever this node's own object is when it is handed over. Where both were said the object is kept, joined with the own one. There
// is one hint for each target and key. Durability as Merge. object is not kept. target holds no zero byte.
//
// An error that wraps ErrFull or ErrHintLimit says that the hint was not kept; what was kept before still is. Then, but for an object that
// is refused because the disk is full, target's partition is marked as divergent.
func (s *Store) Hint(target ring.NodeID, key ring.Key, object []byte) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	partitions := int(s.partitions.Load())
	if partitions == 0 {
		return fmt.Errorf("keep hint: %w is not set yet", ErrPartitions)
	}
	if err := s.disk.stalled(); err != nil {
		return fmt.Errorf("keep hint: %w", err)
	}
	partition := partitionOf(key.Token, partitions)
	if err := s.space.client(); err != nil {
		if object == nil {
			err = errors.Join(err, s.diverge(target, partition))
		}
		return fmt.Errorf("keep hint: %w", err)
	}
	var incoming vclock.Object
	if object != nil {
		var err error
		if incoming, err = vclock.DecodeObject(object); err != nil {
			return fmt.Errorf("decode hint: %w", err)
		}
		if incoming.Empty() {
			return errors.New("keep hint: the object is empty")
		}
	}
	k := appendHintKey(nil, target, key)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	stored, err := s.read(k)
	if err != nil {
		return err
	}
	value, err := s.nextHint(key, k, stored, object, incoming)
	if err != nil {
		return err
	}
	t := s.hints.target(target)
	if !t.reserve(hintSize(k, value)-hintSize(k, stored), s.hintLimit()) {
		return errors.Join(fmt.Errorf("keep hint for %s: %w: %d bytes", target, ErrHintLimit, t.size()), s.diverge(target, partition))
	}
	var b leveldb.Batch
	b.Put(k, value)
	if err := s.write(&b); err != nil {
		t.release(hintSize(k, value) - hintSize(k, stored))
		return err
	}
	t.changed(stored, value, partition)
	return nil
}

// nextHint is the value of a hint after stored, nil where there is none. The caller holds the key's stripe.
func (s *Store) nextHint(key ring.Key, k, stored, object []byte, incoming vclock.Object) ([]byte, error) {
	now := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	value := make([]byte, 0, hintHeadLen+digestLen+len(object))
	value = append(value, now...)
	var old record
	if stored != nil {
		var err error
		if old, err = parseRecord(k, stored); err != nil {
			return nil, s.corrupt(key, err)
		}
		copy(value, stored[:len(now)]) // as old as the first
	}
	version := rand.Uint64()
	if stored != nil && version == hintVersion(stored) {
		version++
	}
	value = binary.BigEndian.AppendUint64(value, version)
	switch {
	case object == nil && old.object == nil: // own, as before
		return value, nil
	case stored == nil: // kept, for the first time
		return appendValue(value, object), nil
	}
	sum := vclock.Object{}
	if old.object != nil {
		sum = *old.object
	}
	if object != nil {
		sum = vclock.Merge(sum, incoming)
	}
	if object == nil || old.object == nil { // one of the two is a reference
		own, err := s.ownObject(key)
		if err != nil {
			return nil, err
		}
		if own != nil {
			o, err := vclock.DecodeObject(own)
			if err != nil {
				return nil, s.corrupt(key, err)
			}
			sum = vclock.Merge(sum, o)
		}
	}
	return appendValue(value, vclock.AppendObject(nil, sum)), nil
}

// ownObject is this node's own object, nil where there is none, without a place in the cache for it.
func (s *Store) ownObject(key ring.Key) ([]byte, error) {
	if object, _, ok := s.TryGet(key); ok {
		return object, nil
	}
	value, err := s.read(appendDataKey(nil, key))
	if err != nil || value == nil {
		return nil, err
	}
	object, _, err := splitValue(value)
	if err != nil {
		return nil, s.corrupt(key, err)
	}
	return object, nil
}

// HintFor is what is kept under a key for other nodes, joined over all of them; nil and 0 where nothing is. Hints of this node's own
// object do not count. The bytes are the caller's.
func (s *Store) HintFor(key ring.Key) (object []byte, digest uint64, err error) {
	if !s.gate.enter() {
		return nil, 0, ErrClosed
	}
	defer s.gate.leave()
	var sum *vclock.Object
	for _, target := range s.hints.keeping() {
		k := appendHintKey(nil, target, key)
		stored, err := s.read(k)
		if err != nil {
			return nil, 0, err
		}
		if len(stored) <= hintHeadLen {
			continue
		}
		r, err := parseRecord(k, stored)
		if err != nil {
			return nil, 0, s.corrupt(key, err)
		}
		if sum == nil {
			object, sum = stored[hintHeadLen+digestLen:], r.object
			continue
		}
		merged := vclock.Merge(*sum, *r.object)
		object, sum = nil, &merged
	}
	switch {
	case sum == nil:
		return nil, 0, nil
	case object == nil:
		object = vclock.AppendObject(nil, *sum)
	}
	return object, ring.Digest(object), nil
}

// Hints calls yield for what is kept for target, in token order, after the key after where it is not nil, until yield returns false. An own
// object is as it is at that moment, which may be later than the state of the hint. yield may call the store, but not Close.
func (s *Store) Hints(target ring.NodeID, after *ring.Key, yield func(Hint) bool) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	prefix := appendHintPrefix(nil, target)
	r := util.BytesPrefix(prefix)
	if after != nil {
		r.Start = append(appendHintKey(nil, target, *after), 0) // the first key behind it
	}
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		_, key, err := parseHintKey(it.Key())
		if err == nil && len(it.Value()) < hintHeadLen {
			err = errors.New("hint cut short")
		}
		if err != nil {
			return s.corrupt(key, err)
		}
		h := Hint{Key: key, Own: len(it.Value()) == hintHeadLen, Version: hintVersion(it.Value())}
		if h.Own {
			h.Object, err = s.ownObject(key)
		} else if h.Object, _, err = splitValue(it.Value()[hintHeadLen:]); err != nil {
			err = s.corrupt(key, err)
		}
		if err != nil {
			return err
		}
		if !yield(h) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read hints: %w", s.readFailed(err))
	}
	return nil
}

// DropHint forgets what is kept for target under key if it is still at this version: what was joined to it since stays.
func (s *Store) DropHint(target ring.NodeID, key ring.Key, version uint64) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	partitions := int(s.partitions.Load())
	if partitions == 0 {
		return fmt.Errorf("drop hint: %w is not set yet", ErrPartitions)
	}
	k := appendHintKey(nil, target, key)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	stored, err := s.read(k)
	if err != nil || stored == nil {
		return err
	}
	if len(stored) < hintHeadLen {
		return s.corrupt(key, errors.New("hint cut short"))
	}
	if hintVersion(stored) != version {
		return nil
	}
	var b leveldb.Batch
	b.Delete(k)
	if err := s.write(&b); err != nil {
		return err
	}
	t := s.hints.target(target)
	t.release(hintSize(k, stored))
	t.changed(stored, nil, partitionOf(key.Token, partitions))
	return nil
}

// hintTime is when the first hint for this key was left, in nanoseconds since 1970.
func hintTime(v []byte) int64 { return int64(binary.BigEndian.Uint64(v)) }

func hintVersion(v []byte) uint64 { return binary.BigEndian.Uint64(v[8:]) }

// hintSize is about what a hint takes on disk; nothing where there is none.
func hintSize(k, v []byte) int64 {
	if v == nil {
		return 0
	}
	return int64(len(k) + len(v))
}

// isKept tells a hint with an object of its own from one of this node's own object; false where there is none.
func isKept(v []byte) bool { return len(v) > hintHeadLen }

// The notes of which partitions of a target are divergent: divergent/ target 0 partition(2).
const prefixDivergent = "divergent/"

func divergentKey(target ring.NodeID, partition int) []byte {
	k := append(storeKey(prefixDivergent), target...)
	return binary.BigEndian.AppendUint16(append(k, 0), uint16(partition))
}

// parseDivergent reads such a key; false where it is none.
func parseDivergent(k []byte) (ring.NodeID, int, bool) {
	rest, ok := bytes.CutPrefix(k, storeKey(prefixDivergent))
	end := len(rest) - 3
	if !ok || end < 1 || rest[end] != 0 {
		return "", 0, false
	}
	return ring.NodeID(rest[:end]), int(binary.BigEndian.Uint16(rest[end+1:])), true
}

// diverge marks a partition of a target. A crash of the process does not lose the mark; power loss may, as it may lose a hint.
func (s *Store) diverge(target ring.NodeID, partition int) error {
	t := s.hints.target(target)
	t.marks.Lock()
	defer t.marks.Unlock()
	if t.diverges(partition) {
		return nil
	}
	var b leveldb.Batch
	b.Put(divergentKey(target, partition), []byte{1})
	if err := s.write(&b); err != nil {
		return fmt.Errorf("mark partition %d as divergent: %w", partition, err)
	}
	t.setDivergent(partition, true)
	return nil
}

// Undiverge takes the mark that hints were dropped from a target's partition.
func (s *Store) Undiverge(target ring.NodeID, partition int) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	t := s.hints.target(target)
	t.marks.Lock()
	defer t.marks.Unlock()
	if !t.diverges(partition) {
		return nil
	}
	var b leveldb.Batch
	b.Delete(divergentKey(target, partition))
	if err := s.write(&b); err != nil {
		return fmt.Errorf("unmark partition %d: %w", partition, err)
	}
	t.setDivergent(partition, false)
	return nil
}
