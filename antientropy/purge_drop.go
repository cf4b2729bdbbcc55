package antientropy

import (
	"context"
	"time"

	"github.com/rondodb/rondo/ring"
)

// released has a class looked through for what may go now.
func (p *collection) mayDrop(classes []ring.Class) {
	p.mu.Lock()
	for _, c := range classes {
		p.released[c] = true
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// runDrops drops what was released, until ctx ends: when a release comes, and now and then what an earlier start left.
func (p *collection) runDrops(ctx context.Context) {
	tick := time.NewTicker(p.config.PurgeEvery)
	defer tick.Stop()
	for {
		p.dropReleased(ctx)
		select {
		case <-tick.C:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (p *collection) dropReleased(ctx context.Context) {
	p.mu.Lock()
	todo := p.released
	p.released = make(map[ring.Class]bool)
	p.mu.Unlock()
	for _, s := range p.config.Store.Tombstones() {
		if s.Count > 0 && s.Oldest <= p.config.Store.Marks(s.Class).Released {
			todo[s.Class] = true
		}
	}
	for c := range todo {
		if err := p.drop(ctx, c); err != nil && ctx.Err() == nil {
			p.config.Logger.Warn("released tombstones could not be dropped; it will be tried again", "partition", c.Partition, "n", c.N, "error", err)
		}
	}
}

// drop drops what may go of one class, little by little.
func (p *collection) drop(ctx context.Context, c ring.Class) error {
	for {
		began := time.Now()
		dropped, more, err := p.config.Store.Purge(c, purgeStep)
		p.collected.Add(uint64(dropped))
		if err != nil || !more || dropped == 0 {
			return err
		}
		if err := sleep(ctx, p.config.pressed(time.Since(began))); err != nil {
			return err
		}
	}
}
