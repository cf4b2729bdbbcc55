package peer

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// batchReplies is how many bytes of replies the reader gathers before it sends and goes on.
const batchReplies = 256 << 10

// serverConn is one connection that a peer has opened.
type serverConn struct {
	outbox
	server  *Server
	from    ring.NodeID
	class   byte
	session uint64

	large    atomic.Pointer[serverConn] // of an ordinary connection: the large one of the same session
	received atomic.Int64               // when the last bytes came, on the server's clock
	charged  int64                      // budget taken for the large frame that is being read; the reader's
}

// Read is where frames come from: it notes when bytes arrive.
func (c *serverConn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if n > 0 {
		c.received.Store(c.server.now())
		c.server.bytesIn.Add(uint64(n))
	}
	return n, err
}

// charge takes budget for a large frame before memory is taken for it.
func (c *serverConn) charge(n int) error {
	c.push()
	if !c.server.bytes.take(int64(n)) {
		return errClosed
	}
	c.charged = int64(n)
	return nil
}

// push sends the replies that the reader has gathered.
func (c *serverConn) push() {
	c.mu.Lock()
	c.flush()
}

// readLoop takes requests until the connection ends.
func (c *serverConn) readLoop() error {
	frames := newFrameReader(c, c.charge)
	defer func() {
		if c.charged > 0 {
			c.server.bytes.give(c.charged)
		}
	}()
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		c.server.framesIn.Add(1)
		if err := c.take(f); err != nil {
			return err
		}
		if c.charged > 0 { // not handed on to a job
			c.server.bytes.give(c.charged)
			c.charged = 0
		}
		if c.waitingBytes() > batchReplies || !frames.ready() {
			c.push()
			// A peer that does not read its answers is not read from either.
			if !c.room(c.server.config.SendBuffer / 2) {
				return errClosed
			}
		}
	}
}

func (c *serverConn) waitingBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out)
}

// take answers a request or hands it to a worker. An error ends the connection.
func (c *serverConn) take(f frame) error {
	s := c.server
	if f.flags&flagReply != 0 {
		return fmt.Errorf("%w: an answer to nothing", errMessage)
	}
	switch f.op {
	case OpNone:
		return nil
	case OpRefuse:
		return &refusedError{cut(string(f.payload), maxFaultText)}
	case OpPing:
		c.reply(f.header, 0, 0, true, func(b []byte) []byte { return b })
		return nil
	}
	if f.flags&^flagsOf(f.op) != 0 {
		c.refuseInline(f.header, refusal(faultError, fmt.Sprintf("flags %#x of %s are unknown to this version", f.flags, f.op)))
		return nil
	}
	if s.draining.Load() {
		c.refuseInline(f.header, refusal(faultUnreachable, textStopping))
		return nil
	}
	timeout := time.Duration(f.timeout) * time.Microsecond
	if timeout == 0 {
		timeout = s.config.CallTimeout
	}
	deadline := c.received.Load() + int64(timeout)
	switch f.op {
	case OpRead:
		key, rest, err := takeKey(f.payload)
		if err != nil || len(rest) != 0 {
			return errMessage
		}
		object, digest, watermark, ok, err := s.config.Handler.TryRead(c.from, f.layout, key, f.flags&flagDigestOnly != 0)
		if ok || err != nil {
			c.answerRead(f.header, object, digest, watermark, err, true)
			return nil
		}
		j := s.newJob(c, f, deadline)
		j.key = key
		c.hand(s.workers, j)
	case OpWrite:
		key, object, err := takeKey(f.payload)
		if err != nil {
			return err
		}
		if err := c.pay(len(object)); err != nil {
			return err
		}
		j := s.newJob(c, f, deadline)
		j.key, j.taken, c.charged = key, c.charged, 0
		j.load(object, f.owned, false)
		c.hand(s.workers, j)
	default:
		if err := c.pay(len(f.payload)); err != nil {
			return err
		}
		j := s.newJob(c, f, deadline)
		j.taken, c.charged = c.charged, 0
		j.load(f.payload, f.owned, true)
		c.hand(s.callers, j)
	}
	return nil
}

// pay takes budget for a request's payload unless that was done when its frame was read.
func (c *serverConn) pay(n int) error {
	if c.charged > 0 || n == 0 {
		return nil
	}
	if !c.server.bytes.try(int64(n)) {
		c.push() // others may wait for these answers while this waits
		if !c.server.bytes.take(int64(n)) {
			return errClosed
		}
	}
	c.charged = int64(n)
	return nil
}

// hand gives a job to a pool, or refuses it where the queue is full.
func (c *serverConn) hand(p *pool, j *job) {
	if p.submit(j) {
		return
	}
	c.server.refused.Add(1)
	h := j.header
	j.end(func() { c.refuse(h, refusal(faultOverloaded, "too many requests are waiting on this node"), true) })
}

// refuseInline answers from the reader with a fault.
func (c *serverConn) refuseInline(h header, f fault) {
	c.server.refused.Add(1)
	c.refuse(h, f, true)
}
