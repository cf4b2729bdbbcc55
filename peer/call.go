package peer

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// request is one call on its way into a connection's buffer.
type request struct {
	op     Op
	flags  byte
	layout uint64
	keyed  bool // the payload is key and body, not body alone
	key    ring.Key
	body   []byte
	call   call
}

// size bounds the length of the frame.
func (r *request) size() int {
	n := frameOverhead + len(r.body)
	if r.keyed {
		n += keySize(r.key)
	}
	return n
}

// call is who waits for an answer: exactly one field is set.
type call struct {
	read  func(object []byte, digest, watermark uint64, err error)
	write func(error)
	wait  chan answer // has room for one
}

// answer is what a blocking call waits for.
type answer struct {
	payload []byte
	err     error
}

func (c *call) fail(err error) {
	switch {
	case c.read != nil:
		c.read(nil, 0, 0, err)
	case c.write != nil:
		c.write(err)
	default:
		c.wait <- answer{err: err}
	}
}

// slot is a place for a pending call. Its index and generation make up the request id, so an answer finds its call without a
// search, and one that comes twice or too late finds nothing.
type slot struct {
	call
	used       bool
	generation uint32
	op         Op
	deadline   int64  // nanoseconds on the client's clock
	start, end uint64 // where the frame is in the stream
}

// ticket names a pending call, to take it back.
type ticket struct {
	on *clientConn
	id uint64
}

// ended is a call that was taken out of its slot and is to fail.
type ended struct {
	call call
	err  error
}

// send appends a request and registers its call. ok is false where the connection is closed; nothing has happened then. On an
// error nothing has happened either. The deadline is now + remaining.
func (c *clientConn) send(r *request, now int64, remaining time.Duration) (t ticket, ok bool, err error) {
	size := r.size()
	limits := &c.link.client.config
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ticket{}, false, nil
	}
	if c.pending >= limits.MaxPending || len(c.out) > 0 && len(c.out)+size > limits.SendBuffer {
		c.mu.Unlock()
		return ticket{}, false, &Error{Peer: c.link.id, Op: r.op, outcome: OutcomeOverloaded, notApplied: true, text: "too much is waiting for this peer already"}
	}
	if len(c.free) == 0 {
		c.slots = append(c.slots, slot{})
		c.free = append(c.free, uint32(len(c.slots)-1))
	}
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	s := &c.slots[i]
	s.call, s.used, s.op, s.deadline = r.call, true, r.op, now+int64(remaining)
	s.generation++
	id := uint64(s.generation)<<32 | uint64(i)<<1 | uint64(c.class)
	if c.pending++; c.pending == 1 {
		c.since = now
	}
	c.earliest = min(c.earliest, s.deadline)

	c.out = slices.Grow(c.out, size)
	start := len(c.out)
	timeout := uint32(min(max(remaining/time.Microsecond, 1), math.MaxUint32))
	c.out = beginFrame(c.out, header{op: r.op, flags: r.flags, id: id, timeout: timeout, layout: r.layout})
	if r.keyed {
		c.out = appendKey(c.out, r.key)
	}
	c.out = append(c.out, r.body...)
	c.out = sealFrame(c.out, start)
	s.start, s.end = c.base+uint64(start), c.base+uint64(len(c.out))
	c.link.framesOut.Add(1)
	c.flush()
	return ticket{c, id}, true, nil
}

// find is the slot of a pending call, nil where there is none of this id. Called with mu held.
func (c *clientConn) find(id uint64) *slot {
	i := uint32(id) >> 1
	if int(i) >= len(c.slots) {
		return nil
	}
	s := &c.slots[i]
	if !s.used || s.generation != uint32(id>>32) && !plant.On(plant.LateReply) {
		return nil
	}
	return s
}

// release empties a slot. Called with mu held.
func (c *clientConn) release(s *slot, index uint32) call {
	was := s.call
	s.call, s.used = call{}, false
	c.free = append(c.free, index)
	c.pending--
	return was
}

// withdraw voids a frame that has not begun to leave and tells whether it could. Called with mu held.
func (c *clientConn) withdraw(s *slot) bool {
	if s.start < c.base {
		return false
	}
	voidFrame(c.out[s.start-c.base : s.end-c.base])
	return true
}

// cancel takes a call back. ok is false where its answer is already on its way to the one who waits.
func (c *clientConn) cancel(id uint64) (unsent, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.find(id)
	if s == nil {
		return false, false
	}
	unsent = c.withdraw(s)
	c.release(s, uint32(id)>>1)
	return unsent, true
}

// expire takes out the calls whose deadline has passed. Called with mu held.
func (c *clientConn) expire(now int64, gone []ended) []ended {
	if now < c.earliest {
		return gone
	}
	c.earliest = math.MaxInt64
	for i := range c.slots {
		s := &c.slots[i]
		if !s.used {
			continue
		}
		if s.deadline > now {
			c.earliest = min(c.earliest, s.deadline)
			continue
		}
		err := &Error{Peer: c.link.id, Op: s.op, outcome: OutcomeTimeout, cause: context.DeadlineExceeded}
		if c.withdraw(s) {
			err.notApplied, err.text = true, "not sent in time"
		} else {
			err.text = "no answer in time"
		}
		gone = append(gone, ended{c.release(s, uint32(i)), err})
	}
	return gone
}

// abandon takes out every call of a connection that is closed and settled. What the kernel has not taken whole cannot have
// been understood by the other side.
func (c *clientConn) abandon() (gone []ended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.slots {
		s := &c.slots[i]
		if !s.used {
			continue
		}
		err := &Error{Peer: c.link.id, Op: s.op, outcome: OutcomeError, text: "connection lost", cause: c.err}
		if s.end > c.written {
			err.outcome, err.notApplied, err.text = OutcomeUnreachable, true, "not connected"
		}
		gone = append(gone, ended{c.release(s, uint32(i)), err})
	}
	return gone
}

// answer hands a reply to its call. An id that nobody waits for is no error: the call has ended before. An error means that
// the other side does not keep to the protocol.
func (c *clientConn) answer(f frame) error {
	c.mu.Lock()
	s := c.find(f.id)
	if s == nil {
		c.mu.Unlock()
		c.link.strayReplies.Add(1)
		return nil
	}
	op := s.op
	waits := c.release(s, uint32(f.id)>>1)
	c.mu.Unlock()
	err := waits.answer(op, f, c.link.id)
	if err != nil {
		waits.fail(&Error{Peer: c.link.id, Op: op, outcome: OutcomeError, text: "answer makes no sense", cause: err})
	}
	return err
}

// answer decodes a reply and hands it over. On an error the call is still open.
func (c *call) answer(op Op, f frame, from ring.NodeID) error {
	if f.op != op {
		return errMessage
	}
	if f.flags&flagError != 0 {
		fault, err := parseFault(f.payload)
		if err != nil {
			return err
		}
		c.fail(&Error{Peer: from, Op: op, outcome: outcomes[fault.outcome], notApplied: fault.notApplied, stale: fault.stale, text: fault.text})
		return nil
	}
	switch {
	case c.read != nil:
		object, digest, watermark, err := parseReadReply(f.payload)
		if err != nil {
			return err
		}
		c.read(keep(object, f.owned), digest, watermark, nil)
	case c.write != nil:
		if len(f.payload) != 0 {
			return errMessage
		}
		c.write(nil)
	default:
		c.wait <- answer{payload: keep(f.payload, f.owned)}
	}
	return nil
}

// keep is b in memory of its own; nil stays nil.
func keep(b []byte, owned bool) []byte {
	if owned || b == nil {
		return b
	}
	return append(make([]byte, 0, len(b)), b...)
}

// reasonOf is the text of a refused hello without what surrounds it, or the error's whole text.
func reasonOf(err error) (text string, refused bool) {
	var r *refusedError
	if errors.As(err, &r) {
		return r.text, true
	}
	return err.Error(), false
}
