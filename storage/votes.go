package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// The notes of the classes without a vote, written and removed together:
//
//	unsynced           → flags(1) why: there exactly while some class has none
//	unsynced/ block(2) → a mask for each of up to 256 partitions; none, where everything is unsynced, as long as the partition count may not be known
//	mark/ …            → how far collection has come (Marks): worth nothing for a class that must sync
const (
	noteUnsynced  = "unsynced"
	prefixMasks   = noteUnsynced + "/"
	flagRestored  = 1
	flagAll       = 2
	masksPerBlock = 256
	maxReplicas   = 7                             // of a bucket
	everyClass    = uint8(1<<(maxReplicas+1) - 2) // bit n = replica count n
)

// unsynced is the set of classes without a vote. It is never changed once others can see it.
type unsynced struct {
	why      string
	restored bool
	all      bool    // on disk there are no masks
	masks    []uint8 // by partition; bit n is set where the class of replica count n has no vote; nil = not known yet, and none has
}

func (u *unsynced) lacks(c ring.Class) bool {
	switch {
	case c.Partition < 0 || c.Partition >= len(u.masks):
		return true
	case c.N < 1 || c.N > maxReplicas:
		return u.masks[c.Partition] != 0
	}
	return u.masks[c.Partition]>>c.N&1 != 0
}

// classes counts the set; -1 where all are in it and nobody knows how many there are.
func (u *unsynced) classes() int {
	if u == nil {
		return 0
	}
	if u.masks == nil {
		return -1
	}
	n := 0
	for _, m := range u.masks {
		n += bits.OnesCount8(m)
	}
	return n
}

// votes holds the set. Whoever changes it holds mu through the fsync.
type votes struct {
	mu  sync.Mutex
	now atomic.Pointer[unsynced] // nil = every class has its vote
}

// Votes tells whether this store's answers for a class count in a read quorum: "not found" would be a lie where data were lost or set
// back, until the class has synced with all its other owners. It is cheap.
func (s *Store) Votes(c ring.Class) bool {
	u := s.votes.now.Load()
	return u == nil || !u.lacks(c) || plant.On(plant.UnsyncedVotes) || plant.On(plant.AmnesiacVotes) && !u.restored
}

// Unsynced lists the classes without a vote, in order; nil = none, or the partition count is not known yet.
func (s *Store) Unsynced() []ring.Class {
	u := s.votes.now.Load()
	if u == nil {
		return nil
	}
	var out []ring.Class
	for p, m := range u.masks {
		for n := 1; n <= maxReplicas; n++ {
			if m>>n&1 != 0 {
				out = append(out, ring.Class{Partition: p, N: n})
			}
		}
	}
	return out
}

// Restored tells whether the votes were taken only because the data are a copy of an older state: then nothing was lost here, and a
// class that nobody else owns needs no sync.
func (s *Store) Restored() bool {
	u := s.votes.now.Load()
	return u != nil && u.restored
}

// MarkSynced gives classes their votes back, on disk before it returns.
func (s *Store) MarkSynced(classes []ring.Class) error {
	return s.changeVotes("mark classes as synced", func(now *unsynced) *unsynced {
		if now == nil {
			return nil
		}
		next := *now
		next.masks = slices.Clone(now.masks)
		for _, c := range classes {
			if c.Partition >= 0 && c.Partition < len(next.masks) && c.N >= 1 && c.N <= maxReplicas {
				next.masks[c.Partition] &^= 1 << c.N
			}
		}
		return &next
	}, nil)
}

// Distrust takes the votes of classes away, on disk before it returns, and resets their Marks: the store has turned out to be set back.
func (s *Store) Distrust(why string, classes []ring.Class) error {
	return s.distrust(why, classes, true)
}

// distrust is Distrust; restored is false where something was lost.
func (s *Store) distrust(why string, classes []ring.Class, restored bool) error {
	err := s.changeVotes("distrust classes", func(now *unsynced) *unsynced {
		next := unsynced{why: why, restored: restored, masks: make([]uint8, s.partitions.Load())}
		if now != nil {
			next = *now
			next.masks = slices.Clone(now.masks)
			if !restored && now.restored {
				next.restored, next.why = false, why
			}
		}
		for _, c := range classes {
			if c.Partition >= 0 && c.Partition < len(next.masks) && c.N >= 1 && c.N <= maxReplicas {
				next.masks[c.Partition] |= 1 << c.N
			}
		}
		return &next
	}, classes)
	if err == nil && len(classes) > 0 {
		s.log.Warn("classes cast no read votes until they have synced with their other owners", "classes", len(classes), "why", why)
	}
	return err
}

// ClearDamage gives every class its vote back, whatever was lost: the operator accepts it. It is on disk when it returns.
func (s *Store) ClearDamage() error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	s.votes.mu.Lock()
	defer s.votes.mu.Unlock()
	if err := s.putVotes(s.votes.now.Load(), nil, nil); err != nil {
		return fmt.Errorf("clear damage: %w", err)
	}
	return nil
}

// changeVotes replaces the set by what change makes of it, and resets the marks of distrusted.
func (s *Store) changeVotes(doing string, change func(now *unsynced) *unsynced, distrusted []ring.Class) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	if s.partitions.Load() == 0 {
		return fmt.Errorf("%s: %w is not set yet", doing, ErrPartitions)
	}
	s.votes.mu.Lock()
	defer s.votes.mu.Unlock()
	now := s.votes.now.Load()
	next := change(now)
	if next != nil && now != nil && !now.all && slices.Equal(now.masks, next.masks) && len(distrusted) == 0 {
		return nil
	}
	if err := s.putVotes(now, next, distrusted); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// putVotes stores the set and makes it known. The caller holds mu.
func (s *Store) putVotes(now, next *unsynced, distrusted []ring.Class) error {
	if next.classes() == 0 {
		next = nil
	}
	if now == nil && next == nil {
		return nil
	}
	var b leveldb.Batch
	b.Delete(storeKey(noteDamage))
	if next == nil {
		b.Delete(storeKey(noteUnsynced))
	} else {
		next.all = false
		b.Put(storeKey(noteUnsynced), next.header())
	}
	for block := 0; block*masksPerBlock < int(s.partitions.Load()); block++ {
		if next == nil {
			b.Delete(masksKey(block))
		} else if old := now.block(block); old == nil || now.all || !slices.Equal(old, next.block(block)) {
			b.Put(masksKey(block), next.block(block))
		}
	}
	if len(distrusted) > 0 {
		s.forgetMarks(distrusted)
	}
	for _, c := range distrusted {
		b.Delete(classNote(noteMark, c))
	}
	if err := s.writeSynced(&b); err != nil {
		return err
	}
	s.votes.now.Store(next)
	if next == nil {
		s.log.Info("every class casts its read votes again", "after", now.why)
	}
	return nil
}

// block is the masks of one block; nil where there are none.
func (u *unsynced) block(i int) []uint8 {
	if u == nil || i*masksPerBlock >= len(u.masks) {
		return nil
	}
	return u.masks[i*masksPerBlock : min((i+1)*masksPerBlock, len(u.masks))]
}

func (u *unsynced) header() []byte {
	flags := byte(0)
	if u.restored {
		flags |= flagRestored
	}
	if u.all {
		flags |= flagAll
	}
	return append([]byte{flags}, u.why...)
}

func masksKey(block int) []byte {
	return binary.BigEndian.AppendUint16(storeKey(prefixMasks), uint16(block))
}

// loadVotes reads what the notes say, but for the masks. It is called by Open, before anything else can be.
func (s *Store) loadVotes() error {
	header, err := s.read(storeKey(noteUnsynced))
	if err != nil {
		return fmt.Errorf("read unsynced note: %w", err)
	}
	damage, err := s.read(storeKey(noteDamage)) // by an earlier build
	if err != nil {
		return fmt.Errorf("read damage note: %w", err)
	}
	switch {
	case len(header) > 0:
		u := &unsynced{restored: header[0]&flagRestored != 0, all: header[0]&flagAll != 0, why: string(header[1:])}
		s.votes.now.Store(u)
	case len(damage) > 0:
		return s.distrustAll(string(damage), false)
	}
	return nil
}

// distrustAll takes all votes away and forgets all marks, on disk before it returns. Loss that was known stays known. It is called by
// Open, before anything else can be.
func (s *Store) distrustAll(why string, restored bool) error {
	if now := s.votes.now.Load(); now != nil && !now.restored {
		restored = false
	}
	next := &unsynced{why: why, restored: restored, all: true}
	var b leveldb.Batch
	b.Put(storeKey(noteUnsynced), next.header())
	b.Delete(storeKey(noteDamage))
	for _, prefix := range []string{prefixMasks, noteMark} {
		it := s.db.NewIterator(util.BytesPrefix(storeKey(prefix)), nil)
		for it.Next() {
			b.Delete(slices.Clone(it.Key()))
		}
		err := it.Error()
		if it.Release(); err != nil {
			return fmt.Errorf("note what must sync: %w", s.readFailed(err))
		}
	}
	if err := s.writeSynced(&b); err != nil {
		return fmt.Errorf("note what must sync: %w", err)
	}
	s.votes.now.Store(next)
	return nil
}

// settleVotes reads the masks once the number of partitions is known. The caller makes sure that nobody changes them meanwhile.
func (s *Store) settleVotes(partitions int) error {
	s.votes.mu.Lock()
	defer s.votes.mu.Unlock()
	now := s.votes.now.Load()
	if now == nil {
		return nil
	}
	next := *now
	next.masks = make([]uint8, partitions)
	for p := range next.masks {
		next.masks[p] = everyClass
	}
	for block := 0; !next.all && block*masksPerBlock < partitions; block++ {
		stored, err := s.read(masksKey(block))
		if err != nil {
			return fmt.Errorf("read what must sync: %w", err)
		}
		switch masks := next.block(block); {
		case stored == nil: // written for others only
			clear(masks)
		case len(stored) != len(masks):
			return s.corruptNote(fmt.Errorf("%d masks of %d", len(stored), len(masks)))
		default:
			copy(masks, stored)
		}
	}
	s.votes.now.Store(&next)
	return nil
}

// corruptNote is the error of a note that makes no sense.
func (s *Store) corruptNote(err error) error {
	s.count.corrupt.Add(1)
	err = fmt.Errorf("read note: %w", errors.Join(ErrCorrupt, err))
	s.broken(err)
	return err
}
