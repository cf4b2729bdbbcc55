package storage

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

// merkleTree is the Merkle tree of one class: its leaves, on disk and here. Nobody stores inner nodes.
//
// A leaf is the XOR of a hash of each object's token and digest. It is read, changed and written in the batch of the object, under the
// stripe that all keys of the leaf share; what is here changes once the batch has been written. So a restart finds the leaves as they
// are and reads no object, and whoever holds the stripe sees leaf and objects agree.
type merkleTree struct {
	class  ring.Class
	leaves []atomic.Uint64
	filled atomic.Int64 // leaves that are not 0
	marks  marks
	due    due
}

// merkleTrees are those of all classes. Made when the partition count is known, before anything is written or read.
type merkleTrees struct {
	partitions int
	width      int                          // leaves of a class
	all        []atomic.Pointer[merkleTree] // by slot; nil = never used since the start
	sound      []atomic.Bool                // by partition: its trees are of this generation
}

func newTrees(partitions int) *merkleTrees {
	return &merkleTrees{
		partitions: partitions, width: ring.Leaves / partitions,
		all: make([]atomic.Pointer[merkleTree], partitions*(maxReplicas+1)), sound: make([]atomic.Bool, partitions),
	}
}

// slot is a class's place; classes in order are slots in order.
func (ts *merkleTrees) slot(c ring.Class) *atomic.Pointer[merkleTree] {
	return &ts.all[c.Partition*(maxReplicas+1)+c.N]
}

// valid tells whether there is such a class.
func (ts *merkleTrees) valid(c ring.Class) bool {
	return c.Partition >= 0 && c.Partition < ts.partitions && c.N >= 1 && c.N <= maxReplicas
}

// get is the tree of a class, nil where it was never used.
func (ts *merkleTrees) get(c ring.Class) *merkleTree { return ts.slot(c).Load() }

// of is the tree of a class, made where it is missing.
func (ts *merkleTrees) of(c ring.Class) *merkleTree {
	slot := ts.slot(c)
	if t := slot.Load(); t != nil {
		return t
	}
	slot.CompareAndSwap(nil, &merkleTree{class: c, leaves: make([]atomic.Uint64, ts.width)})
	return slot.Load()
}

// each calls fn for the trees there are, in order of their classes.
func (ts *merkleTrees) each(fn func(*merkleTree)) {
	for i := range ts.all {
		if t := ts.all[i].Load(); t != nil {
			fn(t)
		}
	}
}

// eachOf calls fn for the trees of one partition.
func (ts *merkleTrees) eachOf(partition int, fn func(*merkleTree)) {
	for n := 1; n <= maxReplicas; n++ {
		if t := ts.get(ring.Class{Partition: partition, N: n}); t != nil {
			fn(t)
		}
	}
}

// partition is that of a leaf of the whole ring.
func (ts *merkleTrees) partition(leaf int) int { return leaf / ts.width }

// leaf is the place of a leaf, counted over the whole ring, in the trees of its partition.
func (t *merkleTree) leaf(leaf int) *atomic.Uint64 { return &t.leaves[leaf%len(t.leaves)] }

// set changes a leaf in memory. The caller holds its stripe.
func (t *merkleTree) set(leaf int, hash uint64) {
	l := t.leaf(leaf)
	switch old := l.Swap(hash); {
	case old == 0 && hash != 0:
		t.filled.Add(1)
	case old != 0 && hash == 0:
		t.filled.Add(-1)
	}
}

// objectHash is what an object adds to its leaf.
func objectHash(token, digest uint64) uint64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], token)
	binary.BigEndian.PutUint64(b[8:], digest)
	return ring.Digest(b[:])
}

// stripeOf is the lock of a leaf's keys.
func (s *Store) stripeOf(leaf int) *stripe { return &s.stripes[leaf%stripes] }

// lockAll takes all stripes: nothing is being written until the function that it returns is called.
func (s *Store) lockAll() (unlock func()) {
	for i := range s.stripes {
		s.stripes[i].Lock()
	}
	return func() {
		for i := range s.stripes {
			s.stripes[i].Unlock()
		}
	}
}

// Classes lists the classes that hold an object, in order.
func (s *Store) Classes() []ring.Class {
	if !s.gate.enter() {
		return nil
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 {
		return nil
	}
	if err := s.refile(); err != nil {
		s.log.Error("replica counts of buckets not followed", "err", err)
	}
	var out []ring.Class
	s.trees.each(func(t *merkleTree) {
		if t.filled.Load() > 0 {
			out = append(out, t.class)
		}
	})
	return out
}

// Leaves appends to dst the hashes of the leaves of a class: ring.Leaves/partitions of them, 0 for an empty one; nothing for a class
// that cannot be. A hash is the XOR of a hash of each object's token and digest. Writes go on meanwhile: it is no snapshot.
func (s *Store) Leaves(dst []uint64, c ring.Class) []uint64 {
	if s.partitions.Load() == 0 || !s.trees.valid(c) {
		return dst
	}
	t := s.trees.get(c)
	if t == nil {
		return append(dst, make([]uint64, s.trees.width)...)
	}
	for i := range t.leaves {
		dst = append(dst, t.leaves[i].Load())
	}
	return dst
}

// loadTrees reads what the database keeps of the trees and all that belongs to them. No write is possible yet.
func (s *Store) loadTrees(partitions int) error {
	s.trees = newTrees(partitions)
	if err := s.loadFiling(); err != nil {
		return fmt.Errorf("load replica counts of buckets: %w", err)
	}
	if err := s.loadGeneration(); err != nil {
		return fmt.Errorf("load the trees' generation: %w", err)
	}
	if err := s.loadLeaves(); err != nil {
		return fmt.Errorf("load Merkle trees: %w", err)
	}
	if err := s.loadMarks(); err != nil {
		return fmt.Errorf("load marks of collection: %w", err)
	}
	if err := s.loadFloor(); err != nil {
		return fmt.Errorf("load counter floor: %w", err)
	}
	return nil
}

// loadLeaves reads the leaves and the stamps of their partitions.
func (s *Store) loadLeaves() error {
	stamps := make([]uint64, s.trees.partitions)
	for p := range stamps {
		stamps[p] = s.generation.base
	}
	err := s.eachRecord([]byte{spaceTree}, func(k, v []byte) error {
		c, leaf, hash, err := parseLeaf(k, v)
		switch {
		case err != nil:
			return s.corrupt(ring.Key{}, err)
		case c.Partition >= s.trees.partitions || c.N > 0 && s.trees.partition(leaf) != c.Partition:
			return s.corrupt(ring.Key{}, fmt.Errorf("leaf %d of partition %d", leaf, c.Partition))
		case c.N == 0:
			stamps[c.Partition] = hash
		default:
			s.trees.of(c).set(leaf, hash)
		}
		return nil
	})
	for p, stamp := range stamps {
		s.trees.sound[p].Store(stamp == s.generation.current)
	}
	return err
}

// parseLeaf reads a record of the trees: a leaf, or where n is 0 the stamp of a partition.
func parseLeaf(k, v []byte) (c ring.Class, leaf int, hash uint64, err error) {
	c, rest, err := parseClass(k)
	if err != nil || len(v) != 8 || c.N == 0 && len(rest) != 0 || c.N > 0 && len(rest) != 4 {
		return c, 0, 0, fmt.Errorf("%w: tree record %x of %x", errBadKey, k, v)
	}
	if hash = binary.BigEndian.Uint64(v); c.N == 0 {
		return c, 0, hash, nil
	}
	if leaf = int(binary.BigEndian.Uint32(rest)); leaf >= ring.Leaves {
		return c, 0, 0, fmt.Errorf("%w: leaf %d", errBadKey, leaf)
	}
	return c, leaf, hash, nil
}

// eachRecord calls fn for the records under a prefix. The caller is inside the gate.
func (s *Store) eachRecord(prefix []byte, fn func(k, v []byte) error) error {
	it := s.db.NewIterator(util.BytesPrefix(prefix), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return s.readFailed(err)
	}
	return nil
}
