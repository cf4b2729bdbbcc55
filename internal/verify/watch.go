package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// How nodes are watched.
const (
	probeEvery   = 250 * time.Millisecond
	probeTimeout = time.Second
)

// NodeState is how a node looks from here.
type NodeState struct {
	Name    string
	Known   bool          // it was looked at
	Ready   bool          // it answers and serves
	Why     string        // where it does not
	For     time.Duration // how long it has been so
	Answers bool          // it answers at all
}

// watched is the state of a node. Safe for concurrent use.
type watched struct {
	mu    sync.Mutex
	state NodeState
	since time.Time
}

// watch looks at a node again and again until ctx ends, and notes what changes.
func (v *Verifier) watch(ctx context.Context, t *target) {
	for ctx.Err() == nil {
		if text := t.look(ctx); text != "" {
			v.record.note(text)
		}
		wait(ctx, probeEvery)
	}
}

// look asks a node whether it serves, and says what has changed, "" for nothing.
func (t *target) look(ctx context.Context) string {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := t.client.Ready(limited)
	if ctx.Err() != nil {
		return "" // it was us who stopped
	}
	now := NodeState{Name: t.name, Known: true, Ready: err == nil, Answers: true}
	var problem *client.Error
	if err != nil {
		now.Answers = errors.As(err, &problem)
		now.Why = err.Error()
	}
	w := &t.state
	w.mu.Lock()
	defer w.mu.Unlock()
	was, since := w.state, w.since
	w.state = now
	if was.Known && was.Ready == now.Ready && was.Answers == now.Answers {
		return ""
	}
	w.since = began
	switch {
	case now.Ready && !was.Known:
		return ""
	case now.Ready:
		return fmt.Sprintf("%s is back after %.1f s", t.name, began.Sub(since).Seconds())
	case now.Answers:
		return t.name + " answers, but is not ready"
	case was.Known:
		return t.name + " stopped answering"
	}
	return t.name + " does not answer"
}

// looks is the state of a node now.
func (t *target) looks() NodeState {
	w := &t.state
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Name = t.name
	if s.Known {
		s.For = time.Since(w.since)
	}
	return s
}
