package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Cause says why a store should be closed and opened again.
type Cause int

// The causes.
const (
	// Damage: something that is stored cannot be read as it was written. It is noted outside of the database, and the next Open salvages.
	Damage Cause = iota + 1
	// DiskFailed: a write or an fsync failed, and what reached the disk is not known. The next Open reads what is really there.
	DiskFailed
	// DiskFull: a journal met a full disk. The next Open succeeds once there is room again (Room), and needs nothing else.
	DiskFull
)

// String is the cause in words.
func (c Cause) String() string {
	switch c {
	case Damage:
		return "stored data is damaged"
	case DiskFailed:
		return "the disk has failed"
	case DiskFull:
		return "the disk is full"
	}
	return "unknown"
}

// BrokenError is what Broken yields.
type BrokenError struct {
	Cause Cause
	Err   error
}

// Error says what to do about it.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("the store must be opened again: %v: %v", e.Cause, e.Err)
}

// Unwrap is what was met.
func (e *BrokenError) Unwrap() error { return e.Err }

// breakage is what an open store has found out about itself.
type breakage struct {
	told    atomic.Bool
	damaged atomic.Bool
	report  chan error
}

// Broken yields a *BrokenError, once, when the store has met something that only closing and opening it again can heal. Until then it
// goes on with whatever still works.
func (s *Store) Broken() <-chan error { return s.breakage.report }

// broken is told of an error that means damage, or of a failed disk. Damage is noted in node.json before it returns, so that no later
// start takes the database as it is. It may be called from anywhere, under any lock.
func (s *Store) broken(err error) {
	cause := causeOf(err)
	if cause == Damage && s.breakage.damaged.CompareAndSwap(false, true) {
		s.log.Error("the store has met damage: what can be read is saved into a new database when it is opened again", "error", err)
		if nerr := s.dir.noteSalvage(err.Error()); nerr != nil {
			// Whoever meets the damage after the next start tries again.
			s.log.Error("damage could not be noted", "error", nerr)
		}
	}
	if s.breakage.told.CompareAndSwap(false, true) {
		s.breakage.report <- &BrokenError{cause, err}
	}
}

func causeOf(err error) Cause {
	switch {
	case isDamage(err):
		return Damage
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return DiskFull
	}
	return DiskFailed
}

// isDamage tells whether an error says that what is stored is not what was written. Errors of other nodes' objects are not met here.
func isDamage(err error) bool {
	var database *lderrors.ErrCorrupted
	var files *storage.ErrCorrupted
	return errors.Is(err, ErrCorrupt) || errors.As(err, &database) || errors.As(err, &files)
}
