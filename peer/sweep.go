package peer

import (
	"maps"
	"time"

	"github.com/rondodb/rondo/ring"
)

// forgetAfter is how many slow ticks a peer that nobody knows any more and nothing is sent to is remembered.
const forgetAfter = 600

// rouse makes the sweeper tick fast, and starts it with the first call.
func (c *Client) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return
	}
	c.awake.Store(true)
	if !c.sweeping {
		c.sweeping = true
		c.running.Go(c.sweep)
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sweep is the one timer of the client: it ends calls whose deadline has passed, pings silent connections, follows addresses
// that change, and forgets peers that are gone. It ticks fast while calls are pending.
func (c *Client) sweep() {
	timer := time.NewTimer(fastTick)
	defer timer.Stop()
	var gone []ended
	checked := c.now()
	idle := map[ring.NodeID]int{} // slow ticks that a peer has been unknown and unused
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
			timer.Reset(fastTick)
			continue
		case <-timer.C:
		}
		now := c.now()
		slow := now-checked >= int64(slowTick)
		if slow {
			checked = now
		}
		c.awake.Store(false) // a call that comes from here on rouses
		pending := false
		for _, l := range *c.links.Load() {
			var p bool
			p, gone = l.tick(now, gone)
			pending = pending || p
			if slow {
				c.review(l, idle)
			}
		}
		for i, e := range gone {
			e.call.fail(e.err)
			gone[i] = ended{}
		}
		gone = gone[:0]
		if pending || c.awake.Load() {
			c.awake.Store(true)
			timer.Reset(fastTick)
		} else {
			timer.Reset(slowTick)
		}
	}
}

// tick looks after both connections of a peer.
func (l *link) tick(now int64, gone []ended) (pending bool, _ []ended) {
	c := l.conn.Load()
	if c == nil {
		return false, gone
	}
	pending, gone = c.tick(now, gone)
	if large := c.large.Load(); large != nil {
		var p bool
		p, gone = large.tick(now, gone)
		pending = pending || p
	}
	return pending, gone
}

// review closes a connection to an address that is no longer the peer's, and forgets a peer that has no address any more.
func (c *Client) review(l *link, idle map[ring.NodeID]int) {
	addr, known := c.config.Addr(l.id)
	conn := l.conn.Load()
	if known && conn != nil && conn.addr != addr {
		conn.close(errMoved)
	}
	if known || conn != nil {
		delete(idle, l.id)
		return
	}
	if idle[l.id]++; idle[l.id] < forgetAfter {
		return
	}
	delete(idle, l.id)
	l.mu.Lock()
	if l.conn.Load() != nil {
		l.mu.Unlock()
		return
	}
	l.forgotten = true
	l.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	links := maps.Clone(*c.links.Load())
	delete(links, l.id)
	c.links.Store(&links)
}
