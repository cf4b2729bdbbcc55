package antientropy

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// votes is about the classes for which this node's "not found" does not count.
type votes struct {
	mu       sync.Mutex
	unsynced map[ring.Class]bool   // as of the last look
	looked   bool                  // there was one
	lost     map[ring.Class]uint64 // the sequence number at which a class was first seen to have lost its vote in this process
	released map[ring.Class]uint64 // the highest Marks.Released of other owners that was above this node's watermark
}

// known tells whether the votes were looked at.
func (v *votes) known() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.looked
}

// countsFor tells whether an exchange counts for the vote of a class: it has found it equal, and began after the vote was lost. The
// caller holds mu.
func (v *votes) countsFor(c ring.Class, d debt) bool { return d.seq > v.lost[c] }

// compareMarks looks at how far other owners have released tombstones. Where that is further than this node's watermark, this node was
// rolled back: it has agreed to that watermark before, on disk. What it holds is not to be trusted until it has synced again. Its
// fence is raised at once, for what it mints below that watermark would be taken for collected by the others.
func (r *Repairer) compareMarks(peer ring.NodeID, theirs []classRoot) error {
	distrusted, err := r.compareMarksLocked(peer, theirs)
	if distrusted {
		r.exchangeAllSoon()
	}
	return err
}

func (r *Repairer) compareMarksLocked(peer ring.NodeID, theirs []classRoot) (distrusted bool, err error) {
	r.votes.mu.Lock()
	defer r.votes.mu.Unlock()
	fences := make(map[uint64][]ring.Class)
	var behind []ring.Class
	for _, t := range theirs {
		if t.released <= r.config.Store.Marks(t.class).Watermark {
			continue
		}
		behind = append(behind, t.class)
		if r.votes.released == nil {
			r.votes.released = make(map[ring.Class]uint64)
		}
		r.votes.released[t.class] = max(r.votes.released[t.class], t.released)
		if r.config.Store.Marks(t.class).Fence < t.released {
			fences[t.released] = append(fences[t.released], t.class)
		}
	}
	if len(behind) == 0 {
		return false, nil
	}
	unsynced := set(r.lookAtVotes())
	voting := slices.DeleteFunc(slices.Clone(behind), func(c ring.Class) bool { return unsynced[c] })
	if len(voting) > 0 {
		why := fmt.Sprintf("rolled back: %s has released tombstones of partition %d that this node does not know it has collected", r.config.Name(peer), voting[0].Partition)
		r.config.Logger.Error("this node was rolled back", "classes", len(voting), "found_with", r.config.Name(peer))
		if err := r.config.Store.Distrust(why, voting); err != nil {
			return false, fmt.Errorf("take votes away: %w", err)
		}
		r.lookAtVotes()
		distrusted = true
	}
	for at, classes := range fences { // which are there still, as a rule; where the store refuses now, the next exchange tries again
		if err := r.config.Store.SetFence(classes, at); err != nil {
			r.config.Logger.Warn("fence cannot be raised yet", "classes", len(classes), "error", err)
		}
	}
	return distrusted, nil
}

// lookAtVotes lists the classes without a vote. One that had its vote at the last look has lost it meanwhile: exchanges that have begun
// before do not count for it. The caller holds votes.mu.
func (r *Repairer) lookAtVotes() []ring.Class {
	v := &r.votes
	unsynced := r.config.Store.Unsynced()
	r.unsynced.Store(int64(len(unsynced)))
	now := set(unsynced)
	if v.looked {
		seq := r.sequence.Add(1)
		for c := range now {
			if !v.unsynced[c] {
				if v.lost == nil {
					v.lost = make(map[ring.Class]uint64)
				}
				v.lost[c] = seq
			}
		}
	}
	v.unsynced, v.looked = now, true
	return unsynced
}

func set(classes []ring.Class) map[ring.Class]bool {
	out := make(map[ring.Class]bool, len(classes))
	for _, c := range classes {
		out[c] = true
	}
	return out
}

// settle takes note of what an exchange has come to.
func (r *Repairer) settle(peer ring.NodeID, seq uint64, result *exchangeResult) {
	r.debts.note(peer, seq, result)
	for _, c := range result.Classes {
		if c.Equal {
			r.becameEqual(peer, c.Class)
		}
	}
	r.regainOrLog()
}

func (r *Repairer) regainOrLog() {
	if err := r.regain(); err != nil {
		r.config.Logger.Error("votes cannot be given back", "error", err)
	}
}

// regain gives votes back to the classes that have synced: which were equal with every other owner since they were lost, in exchanges
// that began later. A class that nobody else owns can have lost something for good, and has its vote only where nothing was.
func (r *Repairer) regain() error {
	r.votes.mu.Lock()
	defer r.votes.mu.Unlock()
	unsynced := r.lookAtVotes()
	l := r.config.Membership.Layout()
	if len(unsynced) == 0 || l == nil {
		return nil
	}
	restored := r.config.Store.Restored()
	var synced []ring.Class
	marks := make(map[uint64][]ring.Class)
	for _, c := range unsynced {
		if !r.synced(l, c, restored) {
			continue
		}
		if at := r.votes.released[c]; at > r.config.Store.Marks(c).Watermark {
			marks[at] = append(marks[at], c)
		} else {
			synced = append(synced, c)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(marks)) {
		synced = append(synced, r.catchUp(marks[at], at)...)
	}
	if len(synced) == 0 {
		return nil
	}
	if err := r.config.Store.MarkSynced(synced); err != nil {
		return fmt.Errorf("mark classes as synced: %w", err)
	}
	r.lookAtVotes()
	return nil
}

// catchUp gives classes that have synced the watermark of the other owners, and returns those that have it now. Whatever any owner had
// released was on all of them before, and is here now: so it holds for this node, too. It comes before the vote, or the next exchange
// would take this node for rolled back once more.
func (r *Repairer) catchUp(classes []ring.Class, at uint64) []ring.Class {
	err := r.config.Store.SetFence(classes, at)
	if err == nil {
		err = r.config.Store.SetWatermark(classes, at)
	}
	switch {
	case err == nil:
		return classes
	case len(classes) == 1:
		r.config.Logger.Warn("watermark cannot be raised yet", "partition", classes[0].Partition, "n", classes[0].N, "error", err)
		return nil
	}
	var done []ring.Class
	for _, c := range classes { // one may hold up the others
		done = append(done, r.catchUp([]ring.Class{c}, at)...)
	}
	return done
}

// synced tells whether a class of this node may vote again. The caller holds votes.mu.
func (r *Repairer) synced(l *ring.Layout, c ring.Class, restored bool) bool {
	self := r.config.Membership.Self()
	if c.Partition >= l.Partitions() || !l.Owns(self, c.Partition, c.N) {
		return false
	}
	others := false
	for _, id := range l.Owners(c.Partition, c.N) {
		if id == self {
			continue
		}
		others = true
		if !r.votes.countsFor(c, r.debts.of(c, id)) {
			return false
		}
	}
	return others || restored
}

// resync is what the log tells of a node without votes. Used by the loop alone.
type resync struct {
	began, told time.Time
	received    int64 // in exchanges that have ended
}

// follow tells in the log, now and then, how an exchange goes that this node needs for its votes; nil where it needs none.
func (s *resync) follow(r *Repairer, peer ring.NodeID) func(exchangeStep) {
	if !r.owes(peer) {
		return nil
	}
	if s.began.IsZero() {
		s.began, s.told, s.received = time.Now(), time.Now(), 0
		r.config.Logger.Info("resync begins: this node's reads do not count until it has compared everything with the other owners", "classes", r.owing())
	}
	return func(step exchangeStep) {
		if time.Since(s.told) >= resyncReport {
			s.told = time.Now()
			r.config.Logger.Info("resync goes on", "with", r.config.Name(peer), "compared", step.Compared, "of", step.Total, "received", s.received+step.Received, "classes", r.owing())
		}
	}
}

const resyncReport = 2 * time.Second

// look tells in the log when it is over.
func (s *resync) look(r *Repairer, result exchangeResult) {
	if s.began.IsZero() {
		return
	}
	s.received += result.Received
	if r.owing() == 0 {
		r.config.Logger.Info("resync is over: this node's reads count again", "received", s.received, "took", time.Since(s.began).Round(time.Millisecond))
		*s = resync{}
	}
}

// owing counts the classes without a vote that another node owns, too.
func (r *Repairer) owing() int {
	l := r.config.Membership.Layout()
	if l == nil {
		return 0
	}
	n, self := 0, r.config.Membership.Self()
	for _, c := range r.config.Store.Unsynced() {
		if c.Partition < l.Partitions() && l.Owns(self, c.Partition, c.N) && len(l.Owners(c.Partition, c.N)) > 1 {
			n++
		}
	}
	return n
}
