package antientropy

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// Collection gets rid of tombstones and of expired values without ever letting a delete be undone. Nothing in it is timed: a class is
// collected up to a hybrid time W once every owner has proved to hold everything stamped up to W, and every member that it keeps nothing
// that others do not have. The first owner of a class is its collector. A round has four steps:
//
//  1. FENCE: every member raises the class's mint floor to W, on disk, so that no new version is stamped up to W, whoever comes to own
//     the class. Every member says that it keeps no hints with objects of their own for the partition, and every owner that it lost
//     nothing and that its tree is right. From here on all versions stamped up to W are in the stores of owners, or were replaced there.
//  2. Exchange: the collector with every other owner, then once more with all but the last. Then every owner has seen them all.
//  3. COMMIT: every owner sets its watermark to W, on disk. From here on it takes a version stamped up to W that it does not know for one
//     that was collected.
//  4. RELEASE, once all owners have committed: every owner may drop the objects that hold nothing but tombstones and expired values
//     up to W. A copy that turns up later is below the watermark wherever it goes.
//
// Every prefix of a round is harmless, wherever it ends and whoever crashes. A fence only makes new versions later. An exchange is always
// right. A watermark alone changes nothing as long as no owner has dropped anything: what it would refuse is known to its owner already,
// and so is not refused. A release is only ever sent when all owners have committed, and stays true. For the same reasons every message may
// come late, twice, or out of order: marks only grow, and a COMMIT names the receiver's session, which is another after a restart: a
// restart may have lost what the exchange had found, and not yet written to disk. When a store loses data its watermark is gone with its
// votes, so that it refuses both COMMIT and RELEASE until it has synced, and been through a whole round again.
//
// A new layout ends a round, since messages of another layout are refused. What had been committed stays true: who has become an owner
// syncs with the others before it votes, and was fenced as a member.
//
// One member that does not take part stops collection, for what it holds is not known. That is shown, not worked around. Safe for concurrent use.
type collection struct {
	config *Config
	// exchange makes classes equal with another owner, and tells for each that is not known to be equal why: Repairer.level.
	exchange func(ctx context.Context, peer ring.NodeID, classes []ring.Class) (unequal map[ring.Class]string)
	sound    func(c ring.Class) bool // its tree tells what it holds
	votes    sync.Locker             // held while votes are taken away, or given back
	session  uint64                  // names this start; never the same again, whatever Config.Rand gives
	wake     chan struct{}           // something was released

	collected atomic.Uint64  // objects dropped
	late      *atomic.Uint64 // objects that came after they had been collected

	mu       sync.Mutex
	released map[ring.Class]bool       // to be looked through
	dead     map[ring.NodeID]time.Time // members, since when they were seen dead
	blockers map[ring.Class]string     // why the last round left them out
	blocker  string                    // of everything; else of the first class, "" where nothing stood in the way
}

const (
	roundClasses = 64               // in one round
	roundLag     = time.Second      // how far a round stays behind the clock, so that writes in flight are rarely touched by it
	fenceAhead   = 60 * time.Second // a fence that is further ahead of a member's clock is refused: one of the clocks is wrong
	purgeStep    = 256              // objects that are dropped at a time
)

func newCollection(r *Repairer) *collection {
	return &collection{
		config: &r.config, exchange: r.level, sound: r.sound, votes: &r.votes.mu, session: rand.Uint64(), wake: make(chan struct{}, 1),
		late: &r.count.purged, released: make(map[ring.Class]bool), dead: make(map[ring.NodeID]time.Time), blockers: make(map[ring.Class]string),
	}
}

// run collects until ctx ends, and returns when all has stopped.
func (p *collection) run(ctx context.Context) {
	var drops sync.WaitGroup
	defer drops.Wait()
	drops.Go(func() { p.runDrops(ctx) })
	// Nodes begin at different times, by their identities.
	every := p.config.PurgeEvery
	wait := every/2 + every/2*time.Duration(ring.Digest([]byte(p.config.Membership.Self()))%1024)/1024
	for sleep(ctx, wait) == nil {
		p.collect(ctx)
		wait = every
	}
}

// collect runs the rounds that are due.
func (p *collection) collect(ctx context.Context) {
	layout := p.config.Membership.Layout()
	if layout == nil {
		return
	}
	at := uint64(max(p.config.Now().Add(-roundLag).UnixNano(), 0))
	due, backlog := p.due(layout, at)
	blocker := p.deadMember(layout)
	if blocker != "" || len(due) == 0 {
		if !backlog {
			blocker = ""
		}
		blocked := make(map[ring.Class]string)
		for _, c := range due {
			blocked[c] = blocker
		}
		p.note(blocker, blocked)
		return
	}
	blocked := make(map[ring.Class]string)
	for some := range slices.Chunk(due, roundClasses) {
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		x := &round{collection: p, layout: layout, at: at, blocked: blocked}
		x.run(ctx, some)
		if sleep(ctx, p.config.pressed(time.Since(began))) != nil {
			return
		}
	}
	p.note("", blocked)
}

// due lists the classes whose round this node should begin, in order, and tells whether anything waits here at all. A class whose last
// round did not come to its end is due even if nothing waits: other owners may still have to be released.
func (p *collection) due(layout *ring.Layout, at uint64) (due []ring.Class, backlog bool) {
	oldest := make(map[ring.Class]uint64)
	for _, s := range p.config.Store.Tombstones() {
		backlog = backlog || s.Count > 0
		if s.Count > 0 {
			oldest[s.Class] = s.Oldest
		}
	}
	for partition := range layout.Partitions() {
		if layout.Preference(partition)[0] != p.config.Membership.Self() {
			continue
		}
		for n := 1; n <= maxReplicas; n++ {
			c := ring.Class{Partition: partition, N: n}
			marks := p.config.Store.Marks(c)
			if at <= marks.Released {
				continue
			}
			t, waits := oldest[c]
			if waits && t <= at && t > marks.Released || marks.Watermark > marks.Released {
				due = append(due, c)
			}
		}
	}
	return due, backlog
}

// deadMember is why nothing can be collected now, "" where every member is alive.
func (p *collection) deadMember(layout *ring.Layout) (blocker string) {
	now := p.config.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range layout.Members() {
		if m.ID == p.config.Membership.Self() || p.config.Membership.Alive(m.ID) {
			delete(p.dead, m.ID)
			continue
		}
		since, known := p.dead[m.ID]
		if !known {
			since = now
			p.dead[m.ID] = now
		}
		if blocker == "" {
			blocker = fmt.Sprintf("%s is dead since %s, its tombstones cannot be known to be everywhere: bring it back or replace it",
				p.config.Name(m.ID), ago(since, now))
		}
	}
	for id := range p.dead {
		if _, member := layout.Member(id); !member {
			delete(p.dead, id)
		}
	}
	if plant.On(plant.CollectTooEarly) {
		return ""
	}
	return blocker
}

// note keeps what stands in the way, for status, and logs it when it changes.
func (p *collection) note(blocker string, blocked map[ring.Class]string) {
	if blocker == "" && len(blocked) > 0 {
		first := slices.SortedFunc(maps.Keys(blocked), ring.Class.Compare)[0]
		blocker = fmt.Sprintf("partition %d (n=%d): %s", first.Partition, first.N, blocked[first])
	}
	p.mu.Lock()
	before := p.blocker
	p.blocker, p.blockers = blocker, blocked
	p.mu.Unlock()
	switch {
	case blocker != "" && before == "":
		p.config.Logger.Warn("tombstones cannot be collected now", "why", blocker, "partitions", len(blocked))
	case blocker == "" && before != "":
		p.config.Logger.Info("tombstones are collected again")
	}
}

// status is a snapshot.
func (p *collection) status() TombstoneStatus {
	out := TombstoneStatus{Collected: p.collected.Load(), Refused: p.late.Load()}
	layout, oldest := p.config.Membership.Layout(), uint64(0)
	dead := ""
	if layout != nil {
		dead = p.deadMember(layout)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.config.Store.Tombstones() {
		if s.Count == 0 {
			continue
		}
		out.Waiting += s.Count
		if oldest == 0 || s.Oldest < oldest {
			oldest = s.Oldest
		}
		blocker := p.blockers[s.Class]
		if dead != "" {
			blocker = dead
		}
		out.Classes = append(out.Classes, ClassTombstones{TombstoneStat: s, Marks: p.config.Store.Marks(s.Class), Blocker: blocker})
	}
	if oldest > 0 {
		out.Oldest = time.Unix(0, int64(oldest))
	}
	switch {
	case out.Waiting == 0:
	case dead != "":
		out.Blocker = dead
	default:
		out.Blocker = p.blocker
	}
	if p.config.NoPurge && out.Waiting > 0 {
		out.Blocker = "collection is switched off"
	}
	return out
}
