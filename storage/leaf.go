package storage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

// dbReader is the database or a snapshot of it.
type dbReader interface {
	Get(key []byte, ro *opt.ReadOptions) ([]byte, error)
	NewIterator(slice *util.Range, ro *opt.ReadOptions) iterator.Iterator
}

// sums are the leaves of all classes of a partition at one place, by replica count.
type sums [maxReplicas + 1]uint64

// leafRange is where the objects of the leaves in [from, to) are.
func leafRange(from, to int) *util.Range {
	first, _ := ring.LeafTokens(from)
	r := &util.Range{Start: appendDataToken(nil, first), Limit: []byte{spaceData + 1}}
	if to < ring.Leaves {
		next, _ := ring.LeafTokens(to)
		r.Limit = appendDataToken(nil, next)
	}
	return r
}

func appendDataToken(dst []byte, token uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, spaceData), token)
}

// sumLeaf computes a leaf from its objects. An object that cannot be read or trusted is an error. The caller holds the leaf's stripe, or
// reads a snapshot.
func (s *Store) sumLeaf(db dbReader, leaf int) (out sums, err error) {
	it := db.NewIterator(leafRange(leaf, leaf+1), &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		key, err := parseDataKey(it.Key())
		if err != nil {
			return sums{}, s.corrupt(key, err)
		}
		_, digest, err := splitValue(it.Value())
		if err != nil {
			return sums{}, s.corrupt(key, err)
		}
		out[s.filing.get(key.Bucket).n] ^= objectHash(key.Token, digest)
	}
	if err := it.Error(); err != nil {
		return sums{}, fmt.Errorf("read leaf %d: %w", leaf, s.readFailed(err))
	}
	return out, nil
}

// mendLeaf makes a leaf what its objects say, on disk and in memory, and tells the classes in which it was not. It leaves a leaf alone
// whose objects cannot all be read.
func (s *Store) mendLeaf(leaf int) (wrong []ring.Class, err error) {
	st := s.stripeOf(leaf)
	st.Lock()
	defer st.Unlock()
	want, err := s.sumLeaf(s.db, leaf)
	if err != nil {
		return nil, err
	}
	partition := s.trees.partition(leaf)
	var b leveldb.Batch
	for n := 1; n <= maxReplicas; n++ {
		c := ring.Class{Partition: partition, N: n}
		t := s.trees.get(c)
		if t == nil && want[n] == 0 {
			continue // nothing there, nor was there at the start
		}
		kept, err := s.keptLeaf(s.db, c, leaf)
		if err != nil {
			return nil, err
		}
		if s.trees.of(c).leaf(leaf).Load() == want[n] && kept == want[n] {
			continue
		}
		wrong = append(wrong, c)
		putLeaf(&b, c, leaf, want[n])
	}
	if len(wrong) == 0 {
		return nil, nil
	}
	if err := s.write(&b); err != nil {
		return nil, err
	}
	for _, c := range wrong {
		s.trees.of(c).set(leaf, want[c.N])
	}
	return wrong, nil
}

// keptLeaf is a leaf as the database has it.
func (s *Store) keptLeaf(db dbReader, c ring.Class, leaf int) (uint64, error) {
	v, err := db.Get(appendLeafKey(nil, c, leaf), nil)
	switch {
	case errors.Is(err, leveldb.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, s.readFailed(err)
	case len(v) != 8:
		return 0, s.corrupt(ring.Key{}, fmt.Errorf("leaf %d is %x", leaf, v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// putLeaf adds a leaf's record to a batch.
func putLeaf(b *leveldb.Batch, c ring.Class, leaf int, hash uint64) {
	var key, value [8]byte
	if k := appendLeafKey(key[:0], c, leaf); hash == 0 {
		b.Delete(k)
	} else {
		b.Put(k, binary.BigEndian.AppendUint64(value[:0], hash))
	}
}

// ReadLeaf calls yield for the objects of a class in one leaf (of the whole ring, as ring.Leaf counts), in token order, as they are at
// one instant, until it returns false. object is valid until yield returns. sound is false where what is there is not what the tree
// says, or cannot be read, or was not read to its end: then absence proves nothing. What can be read is yielded all the same; err is
// only for what has nothing to do with the data. yield may call the store, but not Close.
func (s *Store) ReadLeaf(c ring.Class, leaf int, yield func(key ring.Key, object []byte, digest uint64) bool) (sound bool, err error) {
	if !s.gate.enter() {
		return false, ErrClosed
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 {
		return false, fmt.Errorf("read leaf: %w is not set yet", ErrPartitions)
	}
	if !s.trees.valid(c) || leaf < 0 || leaf >= ring.Leaves || s.trees.partition(leaf) != c.Partition {
		return false, fmt.Errorf("read leaf: there is no leaf %d in partition %d with n=%d", leaf, c.Partition, c.N)
	}
	st := s.stripeOf(leaf)
	st.Lock()
	var want uint64
	if t := s.trees.get(c); t != nil {
		want = t.leaf(leaf).Load()
	}
	noted, trusted := s.filing.noted.Load(), s.trusted(c.Partition)
	snapshot, err := s.db.GetSnapshot()
	st.Unlock()
	if err != nil {
		return false, fmt.Errorf("read leaf: take snapshot: %w", err)
	}
	defer snapshot.Release()

	var sum uint64
	stopped := false
	damaged, err := s.eachObject(snapshot, leafRange(leaf, leaf+1), func(key ring.Key, object []byte, digest uint64) bool {
		if noted.get(key.Bucket).n != c.N {
			return true
		}
		sum ^= objectHash(key.Token, digest)
		stopped = !yield(key, object, digest)
		return !stopped
	})
	if err != nil {
		return false, fmt.Errorf("read leaf: %w", err)
	}
	return damaged == 0 && !stopped && trusted && sum == want, nil
}

// eachObject calls fn for the objects of a range until it returns false. What is damaged on the way is counted, told and passed over:
// objects that cannot be trusted, and blocks that cannot be read, as far as they show.
func (s *Store) eachObject(db dbReader, r *util.Range, fn func(key ring.Key, object []byte, digest uint64) bool) (damaged int, err error) {
	visit := func(k, v []byte) (more bool) {
		key, err := parseDataKey(k)
		if err == nil {
			var object []byte
			var digest uint64
			if object, digest, err = splitValue(v); err == nil {
				return fn(key, object, digest)
			}
		}
		damaged++
		_ = s.corrupt(key, err) // which tells those who must know
		return true
	}
	it := db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	rest := &util.Range{Start: append([]byte(nil), r.Start...), Limit: r.Limit}
	for it.Next() {
		rest.Start = append(append(rest.Start[:0], it.Key()...), 0)
		if !visit(it.Key(), it.Value()) {
			return damaged, nil
		}
	}
	if err = it.Error(); err == nil {
		return damaged, nil
	}
	if err = s.readFailed(err); !errors.Is(err, ErrCorrupt) {
		return damaged, err
	}
	damaged++
	beyond, err := s.eachBeyondDamage(db, rest, visit)
	return damaged + beyond, err
}

// eachBeyondDamage goes over a range in which an iterator has met a block that it cannot read. One that skips such blocks finds the keys
// of the others; since it may show what a lost block had replaced, each key is then read by itself, which tells the truth or fails.
func (s *Store) eachBeyondDamage(db dbReader, r *util.Range, visit func(k, v []byte) (more bool)) (damaged int, err error) {
	it := db.NewIterator(r, &opt.ReadOptions{DontFillCache: true, Strict: opt.StrictOverride})
	defer it.Release()
	for it.Next() {
		v, err := db.Get(it.Key(), &opt.ReadOptions{DontFillCache: true})
		switch {
		case err == nil:
			if !visit(it.Key(), v) {
				return damaged, nil
			}
		case errors.Is(err, leveldb.ErrNotFound): // removed, in a block that was skipped
		case lderrors.IsCorrupted(err):
			damaged++
			_ = s.readFailed(err) // which tells those who must know
		default:
			return damaged, s.readFailed(err)
		}
	}
	if err := it.Error(); err != nil && !lderrors.IsCorrupted(err) {
		return damaged, s.readFailed(err)
	}
	return damaged, nil
}

// Sound tells whether the tree of a class is to agree with its objects: it is not being computed anew. It is cheap.
func (s *Store) Sound(c ring.Class) bool {
	return s.partitions.Load() != 0 && s.trees.valid(c) && s.trusted(c.Partition)
}

// proven tells whether the objects of a leaf are all there: those that are there make exactly the leaf. The caller holds its stripe.
func (s *Store) proven(c ring.Class, leaf int) (bool, error) {
	have, err := s.sumLeaf(s.db, leaf)
	if err != nil {
		return false, err
	}
	var want uint64
	if t := s.trees.get(c); t != nil {
		want = t.leaf(leaf).Load()
	}
	return have[c.N] == want, nil
}
