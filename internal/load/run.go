package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// run is one run under way.
type run struct {
	config  Config
	targets []target
	keys    *chooser
	tallies []*tally
	workers []*worker
	stop    atomic.Bool // set when the context ends: no more operations, and failures no longer count

	began   time.Time // instants of the measured phase, set before the workers start
	measure time.Time // operations due before it are warm-up
	end     time.Time // operations due from it on are not sent

	warm atomic.Uint64 // operations answered in the warm-up
	sent atomic.Uint64 // open loop: operations taken off the schedule
}

// Run makes the load and returns what it measured. When ctx ends early the result covers the time until then, with Interrupted
// set, and the error is nil. It blocks until all of its goroutines are gone.
func Run(ctx context.Context, config Config) (Result, error) {
	if err := config.validate(); err != nil {
		return Result{}, err
	}
	targets, err := targets(config.Nodes)
	if err != nil {
		return Result{}, err
	}
	if err := reach(ctx, targets, config.Timeout); err != nil {
		return Result{}, err
	}
	if _, err := processTime(config.PIDs); err != nil {
		return Result{}, err
	}
	r := &run{config: config, targets: targets, keys: newChooser(config.Distribution, config.Keys)}
	for range min(shards, config.Connections) {
		r.tallies = append(r.tallies, newTally())
	}
	for i := range config.Connections {
		r.workers = append(r.workers, newWorker(r, i))
	}
	defer context.AfterFunc(ctx, r.interrupt)()
	defer func() {
		for _, w := range r.workers {
			w.close()
		}
	}()

	result := Result{Config: config}
	if config.Load {
		if err := r.load(ctx, &result); err != nil || ctx.Err() != nil {
			result.Interrupted = ctx.Err() != nil
			return result, err
		}
	}
	err = r.measureLoad(ctx, &result)
	result.Interrupted = ctx.Err() != nil
	return result, err
}

// reach checks that at least one node takes connections, so that a typing error is not a result full of failures.
func reach(ctx context.Context, targets []target, timeout time.Duration) error {
	var last error
	for _, t := range targets {
		c, err := dial(ctx, t.addr, timeout)
		if err == nil {
			return c.net.Close()
		}
		last = fmt.Errorf("connect to %s: %w", t.addr, err)
	}
	return last
}

// interrupt ends the run early: blocked connections are closed.
func (r *run) interrupt() {
	r.stop.Store(true)
	for _, w := range r.workers {
		w.cut()
	}
}

// measureLoad runs warm-up and measurement.
func (r *run) measureLoad(ctx context.Context, result *Result) error {
	r.began = time.Now()
	r.measure = r.began.Add(r.config.Warmup)
	r.end = r.measure.Add(r.config.Duration)
	var group sync.WaitGroup
	var schedule chan time.Time
	var due atomic.Uint64
	if r.config.Rate > 0 {
		schedule = make(chan time.Time, max(256, r.config.Connections))
		group.Go(func() { due.Store(r.pace(schedule)) })
	}
	for _, w := range r.workers {
		if schedule != nil {
			group.Go(func() { w.open(ctx, schedule) })
		} else {
			group.Go(func() { w.closed(ctx) })
		}
	}
	r.watch(ctx, "warmup", r.config.Warmup, r.measure, nil)
	before, err := r.cpu()
	if err != nil {
		r.interrupt()
		group.Wait()
		return err
	}
	from := time.Now()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	r.watch(ctx, "measure", r.config.Duration, r.end.Add(r.config.Timeout+time.Minute), done)
	<-done
	result.Elapsed = time.Since(from)
	after, err := r.cpu()
	if err == nil {
		result.Target.Total, result.Generator.Total = after[0]-before[0], after[1]-before[1]
	}
	if n := due.Load(); n > r.sent.Load() {
		result.Unsent = n - r.sent.Load()
	}
	result.summarise(r.tallies)
	return err // a process that is gone takes nothing away from the rest
}

// cpu reads the processor time of the processes under test, and of this one.
func (r *run) cpu() ([2]time.Duration, error) {
	target, err := processTime(r.config.PIDs)
	if err != nil {
		return [2]time.Duration{}, err
	}
	own, err := ownTime()
	return [2]time.Duration{target, own}, err
}

// watch reports progress until the given instant, until done is closed, or until ctx ends.
func (r *run) watch(ctx context.Context, phase string, length time.Duration, until time.Time, done <-chan struct{}) {
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-tick.C:
			if r.config.Progress == nil {
				continue
			}
			p := Progress{Phase: phase, Past: time.Since(began), Of: length, Done: r.warm.Load()}
			if phase == "measure" {
				p.Done = 0
				for _, t := range r.tallies {
					ok, failed := t.done()
					p.Done += ok
					p.Errors += failed
				}
			}
			r.config.Progress(p)
		}
	}
}
