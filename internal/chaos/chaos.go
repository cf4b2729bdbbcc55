// Package chaos breaks a cluster of child processes by a plan that follows from a seed: it kills, pauses and drains nodes, and
// brings each back after a while. Between two rounds of faults every node is ready and sees every other one alive; a node that
// does not come back, or ends by itself, is an error.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/proc"
)

// Config says what to break, and how.
type Config struct {
	Nodes []*proc.Process // all nodes of the cluster, running
	Seed  uint64          // of the plan
	Level Level           // "" = Gentle
	Every time.Duration   // mean time from one fault to the next, restarts not counted; 0 = DefaultEvery
	// Event is told of each fault before it happens, and once its node is ready again. nil = nobody. Calls do not overlap, and
	// hold up the fault they tell of, so it must not block.
	Event func(Event)
}

// Event is a fault that begins or is over.
type Event struct {
	At   time.Duration // since Break began
	Node string        // name
	What What
	For  time.Duration // how long it will last; where it is over, how long it lasted until the node was ready
	Over bool
}

// Chaos breaks one cluster. One call at a time of Run, Break and Heal.
type Chaos struct {
	config Config
	plan   *Plan

	began time.Time // of Break

	mu   sync.Mutex      // Event is called under it
	down map[string]What // nodes that are broken now, by name
}

// New makes a Chaos that does nothing yet. A level, a number of nodes or a time that cannot be meant is an error.
func New(c Config) (*Chaos, error) {
	plan, err := NewPlan(c.Level, len(c.Nodes), c.Every, c.Seed)
	if err != nil {
		return nil, fmt.Errorf("plan faults: %w", err)
	}
	return &Chaos{config: c, plan: plan, down: map[string]What{}}, nil
}

// Run breaks nodes until ctx ends, and then heals them, which takes up to some minutes where nodes do not come back.
func (c *Chaos) Run(ctx context.Context) error {
	err := c.Break(ctx)
	return errors.Join(err, c.Heal(context.WithoutCancel(ctx)))
}

// Break breaks nodes until ctx ends, and leaves them as they are then. It ends earlier, with an error, where a node ends by itself
// or does not come back.
func (c *Chaos) Break(ctx context.Context) error {
	c.began = time.Now()
	for {
		if err := c.whole(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		round := c.plan.Next()
		if err := c.rest(ctx, round.Wait); err != nil || ctx.Err() != nil {
			return err
		}
		if err := c.round(ctx, round); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// Heal resumes and restarts every node that is broken, and returns when each is ready and sees each other one alive. That ctx
// ends before is an error.
func (c *Chaos) Heal(ctx context.Context) error {
	var errs []error
	for _, p := range c.config.Nodes {
		errs = append(errs, c.mend(p))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	if err := c.whole(ctx); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("heal: %w", ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.down)
	return nil
}
