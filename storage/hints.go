package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// HintStat tells what is kept for one target.
type HintStat struct {
	Target         ring.NodeID
	Count, Bytes   int64
	OldestUnixNano int64
}

const hintTimeLen = 8

// PutHint keeps object for target, joined with what is kept for it under this key already. Durability as Merge. object is not
// kept. target holds no zero byte.
func (s *Store) PutHint(target ring.NodeID, key ring.Key, object []byte) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	incoming, err := vclock.DecodeObject(object)
	if err != nil {
		return fmt.Errorf("decode hint: %w", err)
	}
	k := appendHintKey(nil, target, key)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	value := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	stored, err := s.read(k)
	if err != nil {
		return err
	}
	if stored == nil {
		value = appendValue(value, object)
	} else {
		kept, _, err := splitHint(stored)
		if err != nil {
			return s.corrupt(key, err)
		}
		old, err := vclock.DecodeObject(kept)
		if err != nil {
			return s.corrupt(key, err)
		}
		value = append(value[:0], stored[:hintTimeLen]...) // as old as the first
		value = appendValue(value, vclock.AppendObject(nil, vclock.Merge(old, incoming)))
	}
	var b leveldb.Batch
	b.Put(k, value)
	return s.write(&b)
}

// Hints calls yield for what is kept for target, in token order, until it returns false. object is valid until yield returns.
func (s *Store) Hints(target ring.NodeID, yield func(key ring.Key, object []byte, digest uint64) bool) error {
	return s.eachHint(appendHintPrefix(nil, target), func(_ ring.NodeID, key ring.Key, v []byte) (bool, error) {
		object, digest, err := splitHint(v)
		if err != nil {
			return false, s.corrupt(key, err)
		}
		return yield(key, object, digest), nil
	})
}

// DropHint forgets what is kept for target under key, if it is still what has this digest: what was joined to it since stays.
func (s *Store) DropHint(target ring.NodeID, key ring.Key, digest uint64) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	k := appendHintKey(nil, target, key)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	stored, err := s.read(k)
	if err != nil || stored == nil {
		return err
	}
	_, have, err := splitHint(stored)
	if err != nil {
		return s.corrupt(key, err)
	}
	if have != digest {
		return nil
	}
	var b leveldb.Batch
	b.Delete(k)
	return s.write(&b)
}

// HintStats tells what is kept, target by target. It reads all hints.
func (s *Store) HintStats() ([]HintStat, error) {
	var out []HintStat
	err := s.eachHint([]byte{spaceHint}, func(target ring.NodeID, key ring.Key, v []byte) (bool, error) {
		object, _, err := splitHint(v)
		if err != nil {
			return false, s.corrupt(key, err)
		}
		if len(out) == 0 || out[len(out)-1].Target != target {
			out = append(out, HintStat{Target: target})
		}
		h := &out[len(out)-1]
		h.Count++
		h.Bytes += int64(len(object))
		if at := int64(binary.BigEndian.Uint64(v)); h.OldestUnixNano == 0 || at < h.OldestUnixNano {
			h.OldestUnixNano = at
		}
		return true, nil
	})
	return out, err
}

func (s *Store) eachHint(prefix []byte, fn func(target ring.NodeID, key ring.Key, v []byte) (more bool, err error)) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	it := s.db.NewIterator(util.BytesPrefix(prefix), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		target, key, err := parseHintKey(it.Key())
		if err != nil {
			return s.corrupt(key, err)
		}
		more, err := fn(target, key, it.Value())
		if err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read hints: %w", s.readFailed(err))
	}
	return nil
}

// splitHint takes a hint apart and checks it.
func splitHint(v []byte) (object []byte, digest uint64, err error) {
	if len(v) < hintTimeLen {
		return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, errors.New("hint cut short"))
	}
	return splitValue(v[hintTimeLen:])
}
