package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/plant"
)

// ErrFull marks a write that was refused because the volume is about to be full. It passes as soon as there is room again.
var ErrFull = errors.New("the disk is full")

const (
	roomInterval     = time.Second // between two looks at the volume
	defaultHintLimit = 1 << 30     // bytes for one target
)

// What a nearly full volume still takes.
const (
	roomForAll     = iota
	roomForRepairs // no client writes, no hints
	roomForNone    // no repairs either: what is left is for the database's own work, and for what frees space
)

// space watches how much of the volume is left, so that the database never meets a full one: goleveldb needs room for compactions, and
// for its journal when it opens. There is some slack between a refusal and its end, so that the answer does not change with every write.
type space struct {
	room    func() (free, total int64, err error) // nil = it cannot be told: nothing is refused
	reserve func(total int64) int64
	level   atomic.Int32
	free    atomic.Int64
	total   atomic.Int64
}

// fullError refuses a write.
type fullError struct{ free, need int64 }

func (e *fullError) Error() string {
	return fmt.Sprintf("%v: %d bytes are free on the volume, and %d are kept free", ErrFull, e.free, e.need)
}

// Unwrap is ErrFull.
func (e *fullError) Unwrap() error { return ErrFull }

// NotApplied is true: nothing was written.
func (e *fullError) NotApplied() bool { return true }

// Room is how many bytes are free to this process on the volume of a directory, and how many it has. An error that wraps
// errors.ErrUnsupported: it cannot be told on this system.
func Room(dir string) (free, total int64, err error) {
	// The directory may not be there yet: then it will be made in one that is.
	for {
		free, total, err = statVolume(dir)
		parent := filepath.Dir(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return free, total, wrap("look at the volume of "+dir, err)
		}
		dir = parent
	}
}

// defaultReserve leaves room for what goleveldb writes before it can free anything.
func defaultReserve(writeBuffer int) func(total int64) int64 {
	return func(total int64) int64 { return min(2*int64(writeBuffer)+total/20, total/4) }
}

// look takes the state from the volume. It tells whether the state changed.
func (p *space) look() (changed bool, err error) {
	if p.room == nil {
		return false, nil
	}
	free, total, err := p.room()
	if err != nil {
		return false, err
	}
	if total <= 0 {
		free, total = math.MaxInt64, 0
	}
	p.free.Store(free)
	p.total.Store(total)
	reserve := p.reserve(total)
	slack := reserve / 8
	before, level := p.level.Load(), int32(roomForAll)
	refused := func(at int32, need int64) bool {
		if before >= at {
			need += slack
		}
		return free < need
	}
	switch {
	case refused(roomForNone, reserve/2):
		level = roomForNone
	case refused(roomForRepairs, reserve):
		level = roomForRepairs
	}
	p.level.Store(level)
	return level != before, nil
}

// client is nil where client writes and hints are taken, else an error that wraps ErrFull.
func (p *space) client() error {
	if p.level.Load() < roomForRepairs || plant.On(plant.FullDiskAccepts) {
		return nil
	}
	return p.refusal(p.needed())
}

// needed is the reserve.
func (p *space) needed() int64 { return p.reserve(p.total.Load()) }

// repair is nil where repairs are taken: they go on until half of the reserve is used.
func (p *space) repair() error {
	if p.level.Load() < roomForNone {
		return nil
	}
	return p.refusal(p.needed() / 2)
}

func (p *space) refusal(need int64) error { return &fullError{free: p.free.Load(), need: need} }

// figures are what was seen last.
func (p *space) figures() (free, total, reserve int64) {
	if total = p.total.Load(); total <= 0 {
		return 0, 0, 0
	}
	return p.free.Load(), total, p.reserve(total)
}

// Full is nil while client writes are taken, else an error that wraps ErrFull: the volume is about to be full. Update and Hint refuse
// by themselves; Merge takes whatever it is given until half of the reserve is used, so that repairs go on: who merges for a client asks first.
func (s *Store) Full() error { return s.space.client() }

// openSpace finds out how to look at the volume, and does it once.
func (s *Store) openSpace() error {
	s.space.reserve = defaultReserve(s.cfg.WriteBuffer)
	if s.cfg.Reserve > 0 {
		s.space.reserve = func(total int64) int64 {
			if total <= 0 {
				return 0
			}
			return s.cfg.Reserve
		}
	}
	switch backend, ok := s.cfg.Backend.(interface {
		Room() (free, total int64, err error)
	}); {
	case s.cfg.room != nil:
		s.space.room = s.cfg.room
	case ok:
		s.space.room = backend.Room
	case s.cfg.Backend == nil:
		s.space.room = func() (free, total int64, err error) { return Room(s.cfg.Dir) }
	}
	_, err := s.space.look()
	if errors.Is(err, errors.ErrUnsupported) {
		s.space.room, err = nil, nil
	}
	return err
}

// watchSpace looks at the volume until the store is closed.
func (s *Store) watchSpace() {
	tick := time.NewTicker(roomInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-s.stopping:
			return
		case <-tick.C:
		}
		changed, err := s.space.look()
		if err != nil && !failing {
			s.log.Warn("free space of the volume not known: the last figure counts", "error", err)
		}
		failing = err != nil
		if changed {
			s.logSpace()
		}
	}
}

func (s *Store) logSpace() {
	free, total, reserve := s.space.figures()
	switch s.space.level.Load() {
	case roomForAll:
		s.log.Info("there is room again: writes are taken", "free", free, "total", total)
	case roomForRepairs:
		s.log.Error("the volume is nearly full: client writes are refused", "free", free, "reserve", reserve, "total", total)
	case roomForNone:
		s.log.Error("the volume is nearly full: client writes and repairs are refused", "free", free, "reserve", reserve, "total", total)
	}
}

// hintLimit is how many bytes of hints are kept for one target.
func (s *Store) hintLimit() int64 {
	if s.cfg.HintLimit > 0 {
		return s.cfg.HintLimit
	}
	if total := s.space.total.Load(); total > 0 {
		return min(defaultHintLimit, total/10)
	}
	return defaultHintLimit
}
