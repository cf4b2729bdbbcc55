package memnet

import "net"

// backlog is how many streams wait to be accepted; dials wait while there are more.
const backlog = 128

// queue is the streams that wait to be accepted. All is under the network's mu, but for taking from streams.
type queue struct {
	streams chan net.Conn
	held    int // more, that a paused host gets at Resume
	done    chan struct{}
	closed  bool // with done
}

func newQueue() queue {
	return queue{streams: make(chan net.Conn, backlog), done: make(chan struct{})}
}

// put queues a stream for a host; false: there are too many.
func (q *queue) put(h *Host, s *Stream) bool {
	if len(q.streams)+q.held >= backlog {
		return false
	}
	if !h.paused || s.loop {
		q.streams <- s // has room: nobody else sends
		return true
	}
	kept := h.hold(func() {
		q.held--
		if q.closed {
			s.reset(errReset)
		} else {
			q.streams <- s
		}
	})
	if kept {
		q.held++
	}
	return kept
}

// close resets what nobody has taken. It is false if that was done before.
func (q *queue) close() bool {
	if q.closed {
		return false
	}
	q.closed = true
	close(q.done)
	for {
		select {
		case c := <-q.streams:
			c.(*Stream).reset(errReset)
		default:
			return true
		}
	}
}

// Listener accepts streams at one address, as a net.Listener. Safe for concurrent use.
type Listener struct {
	host  *Host
	addr  string
	queue queue
}

// listen opens a listener. The caller holds the network's mu.
func (h *Host) listen(addr string) (*Listener, error) {
	bound, err := h.bind(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "memnet", Addr: address(addr), Err: err}
	}
	l := &Listener{host: h, addr: bound, queue: newQueue()}
	h.network.sockets[bound] = l
	return l, nil
}

// Accept waits for the next stream, or fails with net.ErrClosed after Close or the host's Crash.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue.streams:
		return c, nil
	case <-l.queue.done:
		return nil, &net.OpError{Op: "accept", Net: "memnet", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr is where the listener is.
func (l *Listener) Addr() net.Addr { return address(l.addr) }

// Close frees the address, ends Accept, and resets the streams that nobody has accepted.
func (l *Listener) Close() error {
	l.host.network.mu.Lock()
	defer l.host.network.mu.Unlock()
	l.close()
	return nil
}

func (l *Listener) owner() *Host { return l.host }

func (l *Listener) accept(s *Stream) bool { return l.queue.put(l.host, s) }

func (l *Listener) close() {
	if l.queue.close() {
		delete(l.host.network.sockets, l.addr)
	}
}
