package storage

import (
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/ring"
)

// verifyStep is about how many bytes are read in one go: from one snapshot, without a pause.
const verifyStep = 1 << 20

// VerifyResult is what one walk over a partition found.
type VerifyResult struct {
	Objects, Bytes int64
	Damaged        int // objects whose checksum is wrong, or blocks that cannot be read
	WrongLeaves    int // leaves that were not what the data says; they are right now
}

// VerifyPartition checks every object of a partition against its checksum, and the leaves of its trees against the objects; the other
// records of the partition are read. Leaves that are wrong are put right. pace is called now and then, outside of all locks, with the
// bytes read since; an error of it ends the walk. Damage that only a new start heals is reported by the store itself, not by err.
//
// Where a leaf is wrong though nothing in it is damaged, objects may have vanished: the class is distrusted.
func (s *Store) VerifyPartition(partition int, pace func(bytes int) error) (VerifyResult, error) {
	var v VerifyResult
	known := int(s.partitions.Load())
	if partition < 0 || partition >= known {
		return v, fmt.Errorf("verify partition %d of %d: %w", partition, known, ErrPartitions)
	}
	first := partition * s.trees.width
	for leaf := first; leaf < first+s.trees.width; {
		next, bytes, err := s.verifyLeaves(leaf, first+s.trees.width, &v)
		if err == nil {
			err = pace(bytes)
		}
		if err != nil {
			return v, fmt.Errorf("verify partition %d: %w", partition, err)
		}
		leaf = next
	}
	var suspected []int
	for _, part := range []struct {
		prefix []byte
		check  func(k, v []byte) error
	}{
		{appendIndexPrefix(nil, partition), checkIndex},
		{appendDuePrefix(nil, partition), checkDue},
		{appendTreePrefix(nil, partition), func(k, v []byte) error { // leaves without an object are met here only
			c, leaf, hash, err := parseLeaf(k, v)
			if err == nil && c.N > 0 && s.trees.of(c).leaf(leaf).Load() != hash {
				suspected = append(suspected, leaf)
			}
			return err
		}},
	} {
		for r := util.BytesPrefix(part.prefix); ; {
			bytes, err := s.verifyRecords(r, part.check, &v)
			for _, leaf := range suspected {
				err = errors.Join(err, s.verifyLeaf(leaf, &v))
			}
			suspected = suspected[:0]
			if err == nil {
				err = pace(bytes)
			}
			if err != nil {
				return v, fmt.Errorf("verify partition %d: %w", partition, err)
			}
			if bytes == 0 {
				break
			}
		}
	}
	return v, nil
}

// verifyLeaves goes over leaves until enough was read, and tells with which one to go on.
func (s *Store) verifyLeaves(from, to int, v *VerifyResult) (next, bytes int, err error) {
	if !s.gate.enter() {
		return 0, 0, ErrClosed
	}
	defer s.gate.leave()
	snapshot, err := s.db.GetSnapshot()
	if err != nil {
		return 0, 0, fmt.Errorf("take snapshot: %w", err)
	}
	defer snapshot.Release()
	walk := leafWalk{s: s, db: snapshot, partition: s.trees.partition(from), leaf: from, result: v}
	noted := s.filing.noted.Load()
	misfiled := ""
	var failed error
	next = to
	damaged, err := s.eachObject(snapshot, leafRange(from, to), func(key ring.Key, object []byte, digest uint64) bool {
		at := ring.Leaf(key.Token)
		if at > walk.leaf && bytes >= verifyStep {
			next = at
			return false
		}
		if failed = walk.to(at); failed != nil {
			return false
		}
		v.Objects++
		bytes += digestLen + len(object)
		filed := noted.get(key.Bucket).n
		walk.have[filed] ^= objectHash(key.Token, digest)
		if n, known := s.wanted(key.Bucket); known && n != filed {
			misfiled = key.Bucket
		}
		return true
	})
	v.Damaged += damaged
	if err := errors.Join(err, failed); err != nil {
		return 0, 0, err
	}
	if err := walk.to(next); err != nil {
		return 0, 0, err
	}
	v.Bytes += int64(bytes)
	for _, leaf := range walk.suspected {
		if err := s.verifyLeaf(leaf, v); err != nil {
			return 0, 0, err
		}
	}
	if n, known := s.wanted(misfiled); misfiled != "" && known {
		if err := s.file(misfiled, n); err != nil {
			return 0, 0, err
		}
	}
	return next, bytes, nil
}

// leafWalk goes over leaves in order and notes those that do not look right.
type leafWalk struct {
	s         *Store
	db        dbReader
	partition int
	leaf      int  // the one that is being summed
	have      sums // of its objects so far
	suspected []int
	result    *VerifyResult
}

// to ends the leaves before this one.
func (w *leafWalk) to(leaf int) error {
	for ; w.leaf < leaf; w.leaf++ {
		right, err := w.right()
		if err != nil {
			return err
		}
		if !right {
			w.suspected = append(w.suspected, w.leaf)
		}
		w.have = sums{}
	}
	return nil
}

// right compares the leaf's objects with what is kept of it. Writes go on, so a leaf that is not right here may be all the same.
func (w *leafWalk) right() (bool, error) {
	for n := 1; n <= maxReplicas; n++ {
		c := ring.Class{Partition: w.partition, N: n}
		var held uint64
		if t := w.s.trees.get(c); t != nil {
			held = t.leaf(w.leaf).Load()
		}
		if held != w.have[n] {
			return false, nil
		}
		if held == 0 {
			continue
		}
		switch kept, err := w.s.keptLeaf(w.db, c, w.leaf); {
		case errors.Is(err, ErrCorrupt):
			w.result.Damaged++
		case err != nil:
			return false, err
		case kept != held:
			return false, nil
		}
	}
	return true, nil
}

// verifyLeaf looks at a leaf again, while nothing changes in it.
func (s *Store) verifyLeaf(leaf int, v *VerifyResult) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	trusted := s.trusted(s.trees.partition(leaf))
	wrong, err := s.mendLeaf(leaf)
	switch {
	case errors.Is(err, ErrCorrupt): // counted before, and left alone
		return nil
	case err != nil:
		return err
	case len(wrong) == 0 || !trusted: // it is still being computed
		return nil
	}
	v.WrongLeaves++
	return s.vanished(leaf, wrong)
}

// vanished takes the consequences of a leaf that is not what its objects say, though nothing is damaged. The caller holds no lock.
func (s *Store) vanished(leaf int, classes []ring.Class) error {
	s.count.wrongLeaves.Add(1)
	why := fmt.Sprintf("the Merkle tree of partition %d says otherwise than the objects of leaf %d, none of which is damaged", s.trees.partition(leaf), leaf)
	s.log.Error("objects may have vanished", "found", why)
	return s.distrust(why, classes, false)
}

// verifyRecords reads records until enough was read, and moves the start of the range beyond them. Behind a block that cannot be read it
// goes on in another range only: all of this is computed from the objects.
func (s *Store) verifyRecords(r *util.Range, check func(k, v []byte) error, v *VerifyResult) (bytes int, err error) {
	if !s.gate.enter() {
		return 0, ErrClosed
	}
	defer s.gate.leave()
	it := s.db.NewIterator(r, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		if err := check(it.Key(), it.Value()); err != nil {
			v.Damaged++
			_ = s.corrupt(ring.Key{}, err) // which tells those who must know
		}
		bytes += len(it.Key()) + len(it.Value())
		if bytes >= verifyStep {
			r.Start = append(append([]byte(nil), it.Key()...), 0)
			break
		}
	}
	v.Bytes += int64(bytes)
	if bytes < verifyStep {
		r.Start = r.Limit
	}
	if err := it.Error(); err != nil {
		if err = s.readFailed(err); !errors.Is(err, ErrCorrupt) {
			return bytes, err
		}
		v.Damaged++
	}
	return bytes, nil
}

func checkIndex(k, v []byte) error {
	if _, _, _, err := parseIndexKey(k); err != nil {
		return err
	}
	_, err := parseEntry(v)
	return err
}

func checkDue(k, _ []byte) error {
	_, _, _, _, err := parseDueKey(k)
	return err
}
