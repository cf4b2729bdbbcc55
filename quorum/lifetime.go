package quorum

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lifetime counts the work that outlives requests, so that close can wait for all of it.
type lifetime struct {
	held   atomic.Int64
	closed atomic.Bool
	once   sync.Once
	gone   chan struct{}
}

func newLifetime() *lifetime {
	l := &lifetime{gone: make(chan struct{})}
	l.held.Store(1) // released by close
	return l
}

// begin holds the lifetime; false after close. Who already holds it may call it without looking at the result.
func (l *lifetime) begin() bool {
	l.held.Add(1)
	if l.closed.Load() {
		l.end()
		return false
	}
	return true
}

// more holds it once more, for one who holds it already, also while it is closing.
func (l *lifetime) more() { l.held.Add(1) }

func (l *lifetime) end() {
	if l.held.Add(-1) == 0 {
		l.once.Do(func() { close(l.gone) })
	}
}

// close refuses new work and waits for what is under way.
func (l *lifetime) close() {
	if l.closed.CompareAndSwap(false, true) {
		l.end()
	}
	<-l.gone
}

// gate bounds the work in flight of one class.
type gate struct {
	name  string
	limit int64
	n     atomic.Int64
}

func (g *gate) enter() bool {
	if g.n.Add(1) > g.limit {
		g.n.Add(-1)
		return false
	}
	return true
}

func (g *gate) leave() { g.n.Add(-1) }

// deadline is a context with a deadline and nothing else: no timer, no cancellation. Messages to peers carry it, because
// they outlive the request that sent them.
type deadline struct{ at time.Time }

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }
func (deadline) Done() <-chan struct{}         { return nil }
func (deadline) Value(any) any                 { return nil }

func (d deadline) Err() error {
	if time.Now().Before(d.at) {
		return nil
	}
	return context.DeadlineExceeded
}
