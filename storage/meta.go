package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/syndtr/goleveldb/leveldb"
)

// The store's own notes.
const (
	notePartitions = "partitions"
	noteDamage     = "damage" // what an earlier build found lost: as noteUnsynced
)

func storeKey(name string) []byte { return append([]byte{spaceStore}, name...) }
func metaKey(name string) []byte  { return append([]byte{spaceMeta}, name...) }

// GetMeta reads what PutMeta stored under name; nil where there is nothing. The bytes are the caller's.
func (s *Store) GetMeta(name string) ([]byte, error) {
	if !s.gate.enter() {
		return nil, ErrClosed
	}
	defer s.gate.leave()
	v, err := s.read(metaKey(name))
	if err != nil {
		return nil, fmt.Errorf("get meta %q: %w", name, err)
	}
	return v, nil
}

// PutMeta stores value under name, in place of what was there; an empty value removes it. It is on disk when PutMeta returns. value
// is not kept. Meant for small things that change seldom: it waits for an fsync.
func (s *Store) PutMeta(name string, value []byte) error {
	if err := s.putSynced(metaKey(name), value); err != nil {
		return fmt.Errorf("put meta %q: %w", name, err)
	}
	return nil
}

// putSynced writes one record, or removes it where value is empty, and syncs it.
func (s *Store) putSynced(key, value []byte) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	return s.putNote(key, value)
}

func (s *Store) putNote(key, value []byte) error {
	var b leveldb.Batch
	if len(value) == 0 {
		b.Delete(key)
	} else {
		b.Put(key, bytes.Clone(value))
	}
	return s.writeSynced(&b)
}

// SetPartitions tells the layout's number of partitions: a power of two up to 65536, the same for the life of the data
// directory, where it is kept. It must be known before the first Merge, Update or List; a directory that was told it before
// knows it from Open on. An error wraps ErrPartitions.
func (s *Store) SetPartitions(n int) error {
	if n < 1 || n > 1<<16 || bits.OnesCount(uint(n)) != 1 {
		return fmt.Errorf("%w %d is not a power of two between 1 and 65536", ErrPartitions, n)
	}
	s.settling.Lock()
	defer s.settling.Unlock()
	if old := int(s.partitions.Load()); old != 0 {
		if old != n {
			return fmt.Errorf("%w is %d, and this data directory was made with %d", ErrPartitions, n, old)
		}
		return nil
	}
	if err := s.putSynced(storeKey(notePartitions), binary.AppendUvarint(nil, uint64(n))); err != nil {
		return fmt.Errorf("set partitions: %w", err)
	}
	return s.settle(n)
}

// settle makes the partition count known and begins to count the keys. Called once, by Open or SetPartitions.
func (s *Store) settle(n int) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	if err := s.settleVotes(n); err != nil {
		return err
	}
	if err := s.loadTrees(n); err != nil {
		return err
	}
	if err := s.countHints(n); err != nil {
		return err
	}
	if err := s.countKeys(n); err != nil {
		return err
	}
	s.partitions.Store(int64(n))
	return nil
}
