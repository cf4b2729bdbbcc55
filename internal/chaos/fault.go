package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/proc"
)

// Limits of time.
const (
	healTime  = 60 * time.Second // until a node is ready again, and until all see each other
	drainTime = 15 * time.Second // until a drained node has ended
	askTime   = 2 * time.Second  // of one question about the members
	watchTick = 50 * time.Millisecond
	lastWords = 20 // lines of a node's log in an error
)

// round lets the faults of one round happen side by side, and returns when all are over or ctx has ended. After an error the
// others still come to their end.
func (c *Chaos) round(ctx context.Context, r Round) error {
	errs := make([]error, len(r.Faults))
	var group sync.WaitGroup
	for i, f := range r.Faults {
		group.Go(func() { errs[i] = c.fault(ctx, f) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// fault breaks a node and brings it back, unless ctx ends before.
func (c *Chaos) fault(ctx context.Context, f Fault) error {
	p := c.config.Nodes[f.Node]
	if err := c.rest(ctx, f.After); err != nil || ctx.Err() != nil {
		return err
	}
	began := time.Now()
	c.tell(Event{Node: p.Name, What: f.What, For: f.For})
	if err := harm(p, f.What); err != nil {
		return err
	}
	if err := c.rest(ctx, f.For-time.Since(began)); err != nil || ctx.Err() != nil {
		return err
	}
	if err := c.mend(p); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	if err := p.WaitReady(limit); ctx.Err() != nil {
		return nil // it was not given its time
	} else if err != nil {
		return fmt.Errorf("after %s: %w\n%s", f.What, err, p.LogTail(lastWords))
	}
	c.tell(Event{Node: p.Name, What: f.What, For: time.Since(began), Over: true})
	return nil
}

func harm(p *proc.Process, what What) error {
	switch what {
	case Kill:
		return p.Kill()
	case Pause:
		return p.Pause()
	case Drain:
		code, err := p.Stop(drainTime)
		if err == nil && code != 0 {
			err = fmt.Errorf("%s was asked to stop and ended with exit code %d; its last words:\n%s", p.Name, code, p.LogTail(lastWords))
		}
		return err
	}
	return fmt.Errorf("break %s: there is no way %q", p.Name, what)
}

// mend ends a fault, if the node is broken.
func (c *Chaos) mend(p *proc.Process) error {
	c.mu.Lock()
	defer c.mu.Unlock() // until it runs, since from then on it must
	what, broken := c.down[p.Name]
	if !broken || what == starting {
		return nil
	}
	c.down[p.Name] = starting
	if what == Pause {
		return p.Resume()
	}
	return p.Start()
}

// starting is the state of a node that was brought back and is not ready yet.
const starting What = "starting"

// tell notes and reports that a fault begins or is over.
func (c *Chaos) tell(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.At = time.Since(c.began); e.Over {
		delete(c.down, e.Node)
	} else {
		c.down[e.Node] = e.What
	}
	if c.config.Event != nil {
		c.config.Event(e)
	}
}

// rest waits, and has an eye on the nodes that are not broken meanwhile: one that ends is an error.
func (c *Chaos) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		if err := c.ended(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return nil
		case <-tick.C:
		}
	}
}

// ended says which node has ended though nobody broke it. None can be broken meanwhile, since that needs the lock.
func (c *Chaos) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.config.Nodes {
		if what, broken := c.down[p.Name]; (!broken || what == starting || what == Pause) && !p.Running() {
			return fmt.Errorf("%s ended, and nobody had told it to; its last words:\n%s", p.Name, p.LogTail(lastWords))
		}
	}
	return nil
}
