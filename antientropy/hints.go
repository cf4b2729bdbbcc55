package antientropy

import (
	"context"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

const (
	hintTargets  = 4                      // targets that get hints at one time; each has one message in flight
	hintTick     = time.Second            // how often the store is asked for new hints
	hintTurn     = 2 * time.Second        // after which a target makes room for those that wait
	hintRetry    = 200 * time.Millisecond // after the first failure; doubled for each one more
	hintRetryMax = 10 * time.Second
	hintAbsent   = time.Minute // between two tries of what lacks only owners that are dead; one that comes back is not waited for
	hintReport   = 2 * time.Second
)

// delivery gets hints to their targets when these are back. It is at least once: a hint is forgotten when the target has said that
// the object is on its disk, or was collected there, and only if it has not changed since. Merging an object twice changes nothing,
// so that lost answers, duplicates and crashes at any point cost work and nothing else.
//
// A target that no longer owns a key is passed by: a stand-in's copy may be the last one, so it goes to all present owners. Safe for
// concurrent use.
type delivery struct {
	config *Config
	soon   func(peer ring.NodeID, classes []ring.Class) // has them exchanged before their time
	sync   func(ctx context.Context) error              // returns once what was merged is on disk
	late   func(n int)                                  // counts objects that had been collected
	wake   chan struct{}

	mu        sync.Mutex
	paused    bool
	waiting   bool // some target waits for one of hintTargets
	targets   map[ring.NodeID]*hintTarget
	divergent map[ring.NodeID]*divergence
}

// hintTarget is how the delivery to one node goes. Guarded by delivery.mu, but for pace, which belongs to the running pass.
type hintTarget struct {
	pace      pace
	running   bool
	until     time.Time // not before, after a failure
	failures  int
	delivered uint64
	rate      meter
	err       string
	swept     uint64 // layout version under which all hints were seen while the target was dead: nothing is to go elsewhere

	began    time.Time // of what is told in the log
	sent     int
	reported time.Time
}

func newDelivery(r *Repairer) *delivery {
	return &delivery{
		config: &r.config, soon: r.exchangeSoon,
		sync: func(ctx context.Context) error { return syncStore(ctx, r.config.Store) },
		late: func(n int) { r.count.purged.Add(uint64(n)) },
		wake: make(chan struct{}, 1), targets: make(map[ring.NodeID]*hintTarget), divergent: make(map[ring.NodeID]*divergence),
	}
}

// run delivers until ctx ends, and returns when all passes have ended.
func (d *delivery) run(ctx context.Context) {
	var passes sync.WaitGroup
	defer passes.Wait()
	tick := time.NewTicker(hintTick)
	defer tick.Stop()
	for {
		for _, start := range d.due() {
			passes.Go(func() {
				start(ctx)
				d.poke()
			})
		}
		retry := time.NewTimer(d.nextRetry())
		select {
		case <-tick.C:
		case <-retry.C:
		case <-d.wake:
		case <-ctx.Done():
			retry.Stop()
			return
		}
		retry.Stop()
	}
}

func (d *delivery) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// wakeFor forgets what stood in the way: a node is back. Others may have waited for it too, as an owner of their keys.
func (d *delivery) wakeFor(id ring.NodeID) {
	d.mu.Lock()
	for _, t := range d.targets {
		t.until, t.failures = time.Time{}, 0
	}
	if v := d.divergent[id]; v != nil {
		v.asked = time.Time{}
	}
	d.mu.Unlock()
	d.poke()
}

// pause stops the delivery after the messages in flight, or lets it go on.
func (d *delivery) pause(paused bool) {
	d.mu.Lock()
	d.paused = paused
	d.mu.Unlock()
	d.poke()
}

func (d *delivery) isPaused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused
}

// due says which passes are to start now. Each must be run.
func (d *delivery) due() []func(context.Context) {
	layout := d.config.Membership.Layout()
	if layout == nil {
		return nil
	}
	stats, _ := d.config.Store.HintStats()
	now := time.Now()
	d.seekDivergent(layout, stats, now)
	if d.config.NoHints {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(stats, now)
	running := 0
	for _, t := range d.targets {
		if t.running {
			running++
		}
	}
	var starts []func(context.Context)
	d.waiting = false
	for _, s := range d.inTurn(stats) {
		t := d.targets[s.Target]
		if s.Count == 0 || d.paused || t.running || now.Before(t.until) {
			continue
		}
		deliver, ok := d.way(layout, s.Target, t)
		if !ok {
			continue
		}
		if running == hintTargets {
			d.waiting = true
			continue
		}
		running++
		t.running = true
		if t.began.IsZero() {
			t.began, t.reported, t.sent = now, now, 0
			d.config.Logger.Info("hints are delivered", "to", d.config.Name(s.Target), "hints", s.Count, "bytes", s.Bytes)
		}
		p := &pass{delivery: d, layout: layout, target: s.Target, state: t, deliver: deliver, began: now}
		starts = append(starts, p.run)
	}
	return starts
}

// way tells whether there is anything to do with a target's hints now, and whether it can take them itself.
func (d *delivery) way(layout *ring.Layout, id ring.NodeID, t *hintTarget) (deliver, ok bool) {
	if _, member := layout.Member(id); !member || id == d.config.Membership.Self() {
		return false, true
	}
	if d.config.Membership.Alive(id) {
		return true, true
	}
	return false, t.swept != layout.Version() // what it does not own any more need not wait for it
}

// inTurn begins behind the target that was served last, so that each gets its turn where more wait than are served.
func (d *delivery) inTurn(stats []HintStat) []HintStat {
	var idle, served []HintStat
	for _, s := range stats {
		if t := d.targets[s.Target]; t.began.IsZero() {
			idle = append(idle, s)
		} else {
			served = append(served, s)
		}
	}
	return append(idle, served...)
}

// settle brings the targets up to date with what the store counts, and tells of those that have got everything.
func (d *delivery) settle(stats []HintStat, now time.Time) {
	left := make(map[ring.NodeID]int64, len(stats))
	for _, s := range stats {
		left[s.Target] = s.Count
		if d.targets[s.Target] == nil {
			d.targets[s.Target] = &hintTarget{}
		}
	}
	for id, t := range d.targets {
		if t.began.IsZero() || t.running {
			continue
		}
		if left[id] == 0 {
			d.config.Logger.Info("all hints were delivered", "to", d.config.Name(id), "hints", t.sent, "took", now.Sub(t.began).Round(time.Millisecond))
			t.began, t.err, t.failures = time.Time{}, "", 0
		}
	}
}

// nextRetry is how long until a target may be tried again after a failure.
func (d *delivery) nextRetry() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, now := time.Hour, time.Now()
	for _, t := range d.targets {
		if wait := t.until.Sub(now); !t.running && wait > 0 {
			next = min(next, wait)
		}
	}
	return next
}

// status is a snapshot. Targets that have got all that waited stay in it with what was delivered.
func (d *delivery) status() (progress []HintProgress, known bool) {
	stats, known := d.config.Store.HintStats()
	layout, now := d.config.Membership.Layout(), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	listed := make(map[ring.NodeID]bool, len(stats))
	for _, s := range stats {
		listed[s.Target] = true
		p := HintProgress{HintStat: s}
		if t := d.targets[s.Target]; t != nil {
			p.Delivered, p.Rate, p.Error = t.delivered, t.rate.rate(now), t.err
		}
		if s.Count > 0 {
			p.Error = d.obstacle(layout, s.Target, p.Error)
		}
		progress = append(progress, p)
	}
	for id, t := range d.targets {
		if !listed[id] && t.delivered > 0 {
			progress = append(progress, HintProgress{HintStat: HintStat{Target: id}, Delivered: t.delivered, Rate: t.rate.rate(now)})
		}
	}
	return progress, known
}

// obstacle is why nothing is delivered to a target, as far as that can be told without trying.
func (d *delivery) obstacle(layout *ring.Layout, id ring.NodeID, last string) string {
	switch {
	case d.config.NoHints:
		return "delivery is switched off"
	case d.paused:
		return "delivery is paused"
	case layout == nil:
		return "no ring is known yet"
	}
	if _, member := layout.Member(id); member && !d.config.Membership.Alive(id) {
		return d.config.Name(id) + " is dead"
	}
	return last
}
