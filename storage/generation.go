package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

// noteTrees holds the generation of the trees and the one of partitions without a stamp of their own.
const noteTrees = "trees"

// ErrUnsound marks a partition whose trees are still being computed from its objects: nothing is concluded from them, and nothing is
// collected. It passes by itself.
var ErrUnsound = errors.New("the Merkle trees are being computed")

// generation says which trees can be trusted. Where records may have been lost from the middle, or the trees were never kept, it is
// raised, on disk. Each partition's trees are then computed from its objects, in the background; when that is done the partition gets
// the new generation as its stamp. A crash in between leaves an old stamp.
type generation struct {
	mu      sync.Mutex
	current uint64
	base    uint64 // stamp of the partitions that have none: a new database needs none
	running bool   // a rebuild is under way
}

func (g *generation) note(b *leveldb.Batch) {
	v := binary.BigEndian.AppendUint64(nil, g.current)
	b.Put(storeKey(noteTrees), binary.BigEndian.AppendUint64(v, g.base))
}

// readGeneration reads the note; zeroes where there is none.
func (s *Store) readGeneration() (current, base uint64, err error) {
	v, err := s.read(storeKey(noteTrees))
	switch {
	case err != nil || v == nil:
		return 0, 0, err
	case len(v) != 16:
		return 0, 0, fmt.Errorf("%w: generation %x", ErrCorrupt, v)
	}
	return binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), nil
}

// loadGeneration reads the generation, or begins with one, and raises it where this start has reason to.
func (s *Store) loadGeneration() error {
	g := &s.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	if g.current, g.base, err = s.readGeneration(); err != nil {
		return err
	}
	moving, err := s.read(storeKey(noteFiling)) // a bucket's objects were about to be filed otherwise
	if err != nil {
		return err
	}
	switch {
	case g.current == 0:
		empty, err := s.empty()
		if err != nil {
			return err
		}
		if g.current = 1; empty {
			g.base = 1
		}
	case s.lenient || moving != nil:
		g.current++
	default:
		return nil
	}
	var b leveldb.Batch
	g.note(&b)
	b.Delete(storeKey(noteFiling))
	return s.writeSynced(&b)
}

// empty tells whether there is no object.
func (s *Store) empty() (bool, error) {
	found := false
	done := errors.New("found")
	err := s.eachRecord([]byte{spaceData}, func(_, _ []byte) error {
		found = true
		return done
	})
	if errors.Is(err, done) {
		err = nil
	}
	return !found, err
}

// distrustTrees has all trees computed anew from the objects, in the background, because some records may be missing that later ones
// counted on. It is on disk when it returns. It may be called before the partition count is known.
func (s *Store) distrustTrees() error {
	g := &s.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.partitions.Load() == 0 {
		var err error
		if g.current, g.base, err = s.readGeneration(); err != nil {
			return fmt.Errorf("distrust trees: %w", err)
		}
	}
	var b leveldb.Batch
	if err := s.raise(&b); err != nil {
		return fmt.Errorf("distrust trees: %w", err)
	}
	return nil
}

// raise begins a new generation, in b and on disk. The caller holds generation.mu.
func (s *Store) raise(b *leveldb.Batch) error {
	g := &s.generation
	settled := s.partitions.Load() != 0
	if settled { // first: nothing may be concluded from the trees from here on, even if the write fails
		for p := range s.trees.sound {
			s.trees.sound[p].Store(false)
		}
	}
	g.current++
	g.note(b)
	if err := s.writeSynced(b); err != nil {
		return err
	}
	if settled && !g.running {
		g.running = true
		s.background.Add(1)
		go func() {
			defer s.background.Done()
			if err := s.rebuild(); err != nil && !errors.Is(err, ErrClosed) {
				s.log.Error("Merkle trees not computed", "err", err)
			}
		}()
	}
	return nil
}

// unsound counts the partitions whose trees cannot be trusted yet.
func (s *Store) unsound() int {
	n := 0
	if s.partitions.Load() != 0 {
		for p := range s.trees.sound {
			if !s.trusted(p) {
				n++
			}
		}
	}
	return n
}

// trusted tells whether a partition's trees are to agree with its objects.
func (s *Store) trusted(partition int) bool {
	return s.trees.sound[partition].Load() && !s.filing.moving.Load()
}

// rebuild computes the trees of all partitions that are behind, and brings their other records in line, until none is behind or what
// is left cannot be read. generation.running is true when it is called, and false when it returns.
func (s *Store) rebuild() error {
	g := &s.generation
	for {
		g.mu.Lock()
		target := g.current
		g.mu.Unlock()
		fixed, err := s.rebuildOnce(target)
		g.mu.Lock()
		if again := g.current != target && !errors.Is(err, ErrClosed); !again {
			g.running = false
			g.mu.Unlock()
			if err == nil {
				s.log.Info("Merkle trees and index checked against the objects", "fixed", fixed)
			}
			return err
		}
		g.mu.Unlock()
	}
}

func (s *Store) rebuildOnce(target uint64) (fixed int, err error) {
	g := &s.generation
	var damage error
	for p := range s.trees.partitions {
		if s.trees.sound[p].Load() {
			continue
		}
		n, err := s.rebuildPartition(p)
		fixed += n
		if errors.Is(err, ErrCorrupt) { // told already; the other partitions are worth it
			damage = err
			continue
		}
		if err != nil {
			return fixed, err
		}
		g.mu.Lock()
		if g.current == target {
			var b leveldb.Batch
			b.Put(appendStampKey(nil, p), binary.BigEndian.AppendUint64(nil, target))
			if err = s.write(&b); err == nil {
				s.trees.sound[p].Store(true)
			}
		}
		g.mu.Unlock()
		if err != nil {
			return fixed, err
		}
	}
	return fixed, damage
}

// rebuildPartition makes everything agree with the objects of a partition that is computed from them.
func (s *Store) rebuildPartition(partition int) (fixed int, err error) {
	held := make([]bool, s.trees.width)
	s.trees.eachOf(partition, func(t *merkleTree) {
		for i := range t.leaves {
			held[i] = held[i] || t.leaves[i].Load() != 0
		}
	})
	count := func(changed bool, err error) error {
		if changed {
			fixed++
		}
		return err
	}
	first := partition * s.trees.width
	err = s.walkRange(util.BytesPrefix(appendTreePrefix(nil, partition)), func(k, v []byte) error {
		c, leaf, _, err := parseLeaf(k, v)
		if err == nil && c.N > 0 && s.trees.partition(leaf) != partition {
			err = errBadKey
		}
		if err != nil {
			return s.corrupt(ring.Key{}, err)
		}
		if c.N > 0 {
			held[leaf-first] = true
		}
		return nil
	})
	if err != nil {
		return fixed, err
	}
	err = s.walkRange(leafRange(first, first+s.trees.width), func(k, _ []byte) error {
		key, err := parseDataKey(k)
		if err != nil {
			return s.corrupt(key, err)
		}
		held[ring.Leaf(key.Token)-first] = true
		return count(s.alignKey(key))
	})
	if err != nil {
		return fixed, err
	}
	for i, there := range held {
		if !there {
			continue
		}
		if err := s.going(); err != nil {
			return fixed, err
		}
		wrong, err := s.mendLeaf(first + i)
		if err := count(len(wrong) > 0, err); err != nil {
			return fixed, err
		}
	}
	err = s.walkRange(util.BytesPrefix(appendIndexPrefix(nil, partition)), func(k, _ []byte) error {
		_, bucket, name, err := parseIndexKey(k)
		if err != nil {
			return s.corrupt(ring.Key{}, err)
		}
		return count(s.alignKey(ring.NewKey(bucket, name)))
	})
	if err != nil {
		return fixed, err
	}
	return fixed, s.walkRange(util.BytesPrefix(appendDuePrefix(nil, partition)), func(k, _ []byte) error {
		c, at, bucket, name, err := parseDueKey(k)
		if err != nil {
			return s.corrupt(ring.Key{}, err)
		}
		return count(s.alignDue(c, at, ring.NewKey(bucket, name)))
	})
}

// going is ErrClosed once the store is being closed.
func (s *Store) going() error {
	select {
	case <-s.stopping:
		return ErrClosed
	default:
		return nil
	}
}
