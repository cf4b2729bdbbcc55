package quorum

import (
	"errors"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// use is what a replica is wanted for.
type use uint8

const (
	toRead   use = iota // its answer counts, also where it says that there is nothing
	toWrite             // it takes a client's write
	toRepair            // it takes what other replicas hold already
)

// condition is what the local store says of itself. A store that cannot say something is well in that respect.
type condition struct {
	healthy func() error
	voter   Voter
	memory  Collector
	space   Spacious
}

func conditionOf(local Local) condition {
	s := condition{healthy: func() error { return nil }}
	if h, ok := local.(interface{ Healthy() error }); ok {
		s.healthy = h.Healthy
	}
	s.voter, _ = local.(Voter)
	s.memory, _ = local.(Collector)
	s.space, _ = local.(Spacious)
	return s
}

// errUnsynced is why a store that works casts no vote.
var errUnsynced = errors.New("this replica has lost data, or was restored from a copy: it casts no read votes until it has resynced with every other owner")

// votes is nil where the store's "not found" counts for a class.
func (s *condition) votes(c ring.Class) error {
	if s.voter == nil || s.voter.Votes(c) || plant.On(plant.UnsyncedVotes) {
		return nil
	}
	return errUnsynced
}

// full is nil while the store takes client writes; else a refusal.
func (s *condition) full() error {
	if s.space == nil {
		return nil
	}
	err := s.space.Full()
	if err == nil || plant.On(plant.FullDiskAccepts) {
		return nil
	}
	return &refusal{text: err.Error(), outcome: outcomeFull}
}

// explain marks an error of the store that has changed nothing, and came because the disk is full, as a refusal for that reason.
func (s *condition) explain(err error) error {
	if notApplied(err) && outcomeOf(err) != outcomeFull {
		if full := s.full(); full != nil {
			return full
		}
	}
	return err
}

// fit is nil where the store can be used for what is wanted, with a key of class c.
func (s *condition) fit(c ring.Class, u use) error {
	if err := s.healthy(); err != nil {
		return err
	}
	switch u {
	case toRead:
		return s.votes(c)
	case toWrite:
		return s.full()
	}
	return nil
}

// purged tells whether the store refused to merge because every version in the object was collected here as deleted.
func purged(err error) bool {
	var p interface{ Purged() bool }
	return errors.As(err, &p) && p.Purged()
}

// watermark is the store's for a key; see Collector.
func (s *condition) watermark(key ring.Key) uint64 {
	if s.memory == nil {
		return 0
	}
	return s.memory.Watermark(key)
}

// read calls get, which reads a key, until the watermark is the same before and after it: the one that holds for what was read. With an
// earlier one a version that was collected in between would pass for one that this replica has not heard of; with a later one a version that
// it has heard of in between would pass for one that was collected.
func (s *condition) read(key ring.Key, get func()) (watermark uint64) {
	for {
		watermark = s.watermark(key)
		get()
		if s.watermark(key) == watermark {
			return watermark
		}
	}
}
