package peer

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
)

// keepBuffer is the largest send buffer, in bytes, that is kept for the next batch.
const keepBuffer = 256 << 10

// outbox is the sending half of a connection: a buffer that any goroutine appends to under mu, and one writer that sends what
// has gathered. While the writer is in its system call the next batch gathers, so calls in flight together share the cost.
// (Measured: a sender that is alone gains nothing by writing itself, and with a few in flight that costs a quarter more.)
type outbox struct {
	mu   sync.Mutex
	work sync.Cond // on mu: the writer has something to do
	idle sync.Cond // on mu: a batch has left, or the outbox is closed

	nc net.Conn // nil until attached

	out   []byte // the next batch
	spare []byte // an empty buffer for the one after it

	base    uint64 // position of out[0] in the stream
	written uint64 // bytes of the stream that the kernel has taken

	busy     bool // a batch is being written; the writer looks for the next one after it
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
	o.nc = nc
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

// flush sees to it that what was appended is sent. Called with mu held, which it releases.
func (o *outbox) flush() {
	if !o.busy && len(o.out) > 0 {
		o.work.Signal()
	}
	o.mu.Unlock()
}

// writeLoop is the writer. It returns when the outbox is closed; after that written is final.
func (o *outbox) writeLoop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for !o.closed && len(o.out) == 0 {
			if o.draining {
				o.closeLocked(errClosed)
				break
			}
			o.work.Wait()
		}
		if o.closed {
			return
		}
		o.busy = true
		o.mu.Unlock()
		runtime.Gosched() // those who are about to append do so now
		o.mu.Lock()
		batch := o.out
		o.base += uint64(len(batch))
		o.out, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		n, err := o.nc.Write(batch)
		o.sent.Add(uint64(n))
		o.mu.Lock()
		o.written += uint64(n)
		o.busy = false
		if cap(batch) <= keepBuffer {
			o.spare = batch[:0]
		}
		if o.waiting > 0 {
			o.idle.Broadcast()
		}
		if err != nil {
			o.closeLocked(err)
		}
	}
}
