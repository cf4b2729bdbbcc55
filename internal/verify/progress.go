package verify

import (
	"context"
	"time"
)

// Phases of a verification.
const (
	PhaseLoad   = "load"        // clients work
	PhaseSettle = "settle"      // the replicas of every key come to agree
	PhaseQuiet  = "quiet"       // requests that were given up run out of time
	PhaseFinal  = "final reads" // every key through every node, and from each replica
	PhaseJudge  = "judge"       // the history is judged
)

// Progress is what happened lately.
type Progress struct {
	Phase   string
	Elapsed time.Duration // since the Verifier was made
	Ops     int           // operations so far

	// Over is the time that the following figures are of: about a second.
	Over                time.Duration
	OK, Failed, Unknown int
	P99                 time.Duration // of those that are ok; 0 = there were none

	Done, Of int // keys, in the phases after load
	Nodes    []NodeState
	Events   []Event // since the last call
}

// progressEvery is how often progress is told.
const progressEvery = time.Second

// tell calls Progress until ctx ends, and once more then.
func (v *Verifier) tell(ctx context.Context) {
	if v.config.Progress == nil {
		<-ctx.Done()
		return
	}
	for wait(ctx, progressEvery) {
		v.tellOnce()
	}
	v.tellOnce()
}

func (v *Verifier) tellOnce() {
	p := Progress{Phase: *v.phase.Load(), Done: int(v.done.Load()), Of: int(v.of.Load())}
	v.record.take(&p)
	for _, t := range v.targets {
		p.Nodes = append(p.Nodes, t.looks())
	}
	v.config.Progress(p)
}

// enter begins a phase over so many keys.
func (v *Verifier) enter(phase string, of int) {
	v.phase.Store(&phase)
	v.done.Store(0)
	v.of.Store(int64(of))
}

// observed runs work while nodes are watched and progress is told; all of it is over when it returns.
func (v *Verifier) observed(ctx context.Context, work func()) {
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer v.background.Wait()
	defer stop()
	for _, t := range v.targets {
		v.background.Go(func() { v.watch(watching, t) })
	}
	v.background.Go(func() { v.tell(watching) })
	work()
}
