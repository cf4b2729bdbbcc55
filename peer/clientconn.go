package peer

import (
	"fmt"
	"io"
	"math"
	"sync/atomic"
)

// clientConn is one connection of a client, with the calls that went out on it. Fields without a note belong to outbox.mu.
type clientConn struct {
	outbox
	link    *link
	addr    string
	class   byte
	session uint64      // shared by both connections of a pair, and by no other pair
	pair    *clientConn // of a large connection: the ordinary one

	ready    atomic.Bool                // hello has succeeded
	large    atomic.Pointer[clientConn] // of an ordinary connection: the large one, once ready
	received atomic.Int64               // when the last bytes came, on the client's clock

	slots    []slot
	free     []uint32 // indices of unused slots
	pending  int
	earliest int64 // no pending call has an earlier deadline
	since    int64 // since when there are pending calls without a break
	pinged   int64 // when the ping that is not answered yet was sent, 0 = none
}

func newClientConn(l *link, addr string, class byte, session uint64) *clientConn {
	c := &clientConn{link: l, addr: addr, class: class, session: session, earliest: math.MaxInt64}
	c.init(&l.bytesOut)
	return c
}

func (c *clientConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// reason is why a closed connection was closed.
func (c *clientConn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Read is where frames come from: it notes when bytes arrive.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if n > 0 {
		c.received.Store(c.link.client.now())
		c.link.bytesIn.Add(uint64(n))
	}
	return n, err
}

// readLoop hands answers to their calls until the connection ends.
func (c *clientConn) readLoop() error {
	frames := newFrameReader(c, nil)
	for {
		f, err := frames.next()
		if err == io.EOF {
			return fmt.Errorf("peer at %s has closed the connection", c.addr)
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", c.addr, err)
		}
		c.link.framesIn.Add(1)
		if f.op == OpPing {
			continue
		}
		if f.flags&^(flagReply|flagError) != 0 || f.flags&flagReply == 0 {
			return fmt.Errorf("read from %s: %w", c.addr, errMessage)
		}
		// Large answers may come on the large connection whichever the question went out on.
		on := c
		if byte(f.id&1) != c.class {
			if on = c.pair; on == nil {
				return fmt.Errorf("read from %s: %w", c.addr, errMessage)
			}
		}
		if c.class == classOrdinary && len(f.payload) > LargePayload {
			c.link.dialLarge(c, c.link.client.now())
		}
		if err := on.answer(f); err != nil {
			return fmt.Errorf("read from %s: %w", c.addr, err)
		}
	}
}

// tick ends calls whose time is up and looks after a silent connection. It tells whether calls are pending.
func (c *clientConn) tick(now int64, gone []ended) (pending bool, _ []ended) {
	config := &c.link.client.config
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false, gone
	}
	gone = c.expire(now, gone)
	pending = c.pending > 0
	if !c.ready.Load() {
		c.mu.Unlock()
		return true, gone
	}
	received := c.received.Load()
	if c.pinged != 0 && received >= c.pinged {
		c.pinged = 0
	}
	switch {
	case c.pinged != 0:
		if now-c.pinged >= int64(config.PingTimeout) {
			c.closeLocked(fmt.Errorf("%w within %v", errPing, config.PingTimeout))
		}
	case pending && now-max(received, c.since) >= int64(config.PingAfter), now-received >= int64(config.IdlePing):
		c.pinged = now
		start := len(c.out)
		c.out = sealFrame(beginFrame(c.out, header{op: OpPing}), start)
		c.flush()
		return true, gone
	}
	pending = pending || c.pinged != 0
	c.mu.Unlock()
	return pending, gone
}
