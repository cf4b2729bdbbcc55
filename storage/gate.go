package storage

import (
	"math"
	"sync"
	"sync/atomic"
)

// gate counts the operations that use the database, so that Close can wait for them: goleveldb must not be closed under an
// iterator. enter and leave are one atomic addition each.
type gate struct {
	state atomic.Int64 // operations inside; the lowest number is added by shut
	idle  chan struct{}
	once  sync.Once
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

// enter tells whether the operation may begin. Each that may must leave.
func (g *gate) enter() bool {
	if g.state.Add(1) < 0 {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == math.MinInt64 {
		g.once.Do(func() { close(g.idle) })
	}
}

func (g *gate) closed() bool { return g.state.Load() < 0 }

// shut lets nobody in any more and waits for those inside. It returns false where the gate was shut before.
func (g *gate) shut() bool {
	for {
		n := g.state.Load()
		if n < 0 {
			return false
		}
		if g.state.CompareAndSwap(n, n+math.MinInt64) {
			if n == 0 {
				return true
			}
			<-g.idle
			return true
		}
	}
}
