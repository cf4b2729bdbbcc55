package peer

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// keepBuffer is the largest send buffer, in bytes, that is kept for the next batch.
const keepBuffer = 1 << 20

// outbox is the sending half of a connection: a buffer that any goroutine appends to under mu, and one writer that sends what
// has gathered. While the writer is in its system call the next batch gathers, so calls in flight together share the cost.
//
// A sender that is alone may write by itself (flush with alone set), which saves two wake-ups; it never waits for the socket,
// and leaves what does not fit to the writer.
type outbox struct {
	mu   sync.Mutex
	work sync.Cond // on mu: the writer has something to do
	idle sync.Cond // on mu: a batch has left, or the outbox is closed

	nc     net.Conn      // nil until attached
	direct *directWriter // nil where only the writer may write

	out   []byte // the next batch
	spare []byte // an empty buffer for the one after it
	rest  []byte // what a direct write has left over; the writer sends it first
	whole []byte // the buffer that rest is a part of

	base    uint64 // position of out[0] in the stream
	written uint64 // bytes of the stream that the kernel has taken

	busy     bool // a batch is being written; whoever writes looks for the next one after it
	rested   bool // the writer must send rest (busy is set too)
	closed   bool
	draining bool  // close once everything is sent
	waiting  int   // goroutines that wait for idle
	err      error // why it was closed

	sent *atomic.Uint64 // counts bytes
}

func (o *outbox) init(sent *atomic.Uint64) {
	o.work.L, o.idle.L, o.sent = &o.mu, &o.mu, sent
}

// attach gives the outbox its connection. What was appended before is sent once the writer runs.
func (o *outbox) attach(nc net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nc, o.direct = nc, newDirectWriter(nc)
	if o.closed {
		nc.Close()
	}
}

// close ends the connection. The first reason is kept. It does not wait for anyone.
func (o *outbox) close(err error) {
	o.mu.Lock()
	o.closeLocked(err)
	o.mu.Unlock()
}

func (o *outbox) closeLocked(err error) {
	if o.closed {
		return
	}
	o.closed, o.err = true, err
	if o.nc != nil {
		o.nc.Close() // its error says nothing new: the connection is given up
	}
	o.work.Broadcast()
	o.idle.Broadcast()
}

// drain has the writer send what is left and then close the connection.
func (o *outbox) drain() {
	o.mu.Lock()
	o.draining = true
	o.work.Broadcast()
	o.mu.Unlock()
}

// settle waits until no write is in progress on a closed outbox. After it written is final.
func (o *outbox) settle() {
	o.mu.Lock()
	for o.busy {
		o.waiting++
		o.idle.Wait()
		o.waiting--
	}
	o.mu.Unlock()
}

// room waits until at most n bytes wait to be written and tells whether the outbox is still open.
func (o *outbox) room(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && len(o.out) > n {
		o.waiting++
		o.idle.Wait()
		o.waiting--
	}
	return !o.closed
}

// swap takes the batch. Called with mu held.
func (o *outbox) swap() []byte {
	batch := o.out
	o.base += uint64(len(batch))
	o.out, o.spare = o.spare[:0], nil
	return batch
}

// wrote notes the end of a write. Called with mu held.
func (o *outbox) wrote(n int) {
	o.written += uint64(n)
	o.sent.Add(uint64(n))
}

// recycle keeps the memory of a batch that has left. Called with mu held.
func (o *outbox) recycle(batch []byte) {
	if cap(batch) <= keepBuffer {
		o.spare = batch[:0]
	}
	if o.waiting > 0 {
		o.idle.Broadcast()
	}
}

// flush sees to it that what was appended is sent. Called with mu held, which it releases. With alone set there is nobody to
// share a system call with, so this goroutine writes at once.
func (o *outbox) flush(alone bool) {
	if o.busy || o.closed || o.nc == nil || len(o.out) == 0 {
		o.mu.Unlock()
		return
	}
	if !alone || o.direct == nil {
		o.work.Signal()
		o.mu.Unlock()
		return
	}
	o.busy = true
	batch := o.swap()
	o.mu.Unlock()
	n, err := o.direct.try(batch)
	o.mu.Lock()
	o.wrote(n)
	switch {
	case err != nil:
		o.closeLocked(err)
	case n < len(batch) && !o.closed:
		o.rest, o.whole, o.rested = batch[n:], batch, true
		o.work.Signal()
		o.mu.Unlock()
		return
	}
	o.busy = false
	o.recycle(batch)
	if len(o.out) > 0 {
		o.work.Signal()
	}
	o.mu.Unlock()
}

// writeLoop is the writer. It returns when the outbox is closed.
func (o *outbox) writeLoop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for !o.closed && !o.rested && (o.busy || len(o.out) == 0) {
			if o.draining && !o.busy {
				o.closeLocked(errClosed)
				break
			}
			o.work.Wait()
		}
		if o.closed {
			if o.rested {
				o.rested, o.busy = false, false
				o.idle.Broadcast()
			}
			return
		}
		part, batch := o.rest, o.whole
		if o.rested {
			o.rest, o.whole, o.rested = nil, nil, false
		} else {
			o.busy = true
			o.mu.Unlock()
			runtime.Gosched() // those who are about to append do so now
			o.mu.Lock()
			batch = o.swap()
			part = batch
		}
		o.mu.Unlock()
		n, err := o.nc.Write(part)
		o.mu.Lock()
		o.wrote(n)
		o.busy = false
		o.recycle(batch)
		if err != nil {
			o.closeLocked(err)
		}
	}
}
