package memnet

import (
	"context"
	"net"
	"sync"
	"time"
)

// stream is one end of a connection.
type stream struct {
	net.Conn
	network       *Network
	peer          *stream
	local, remote string
	delay         time.Duration // of each write
}

// pipe makes both ends of a connection.
func (n *Network) pipe(from, to string, there, back time.Duration) (near, far *stream) {
	a, b := net.Pipe()
	near = &stream{Conn: a, network: n, local: from + ":0", remote: to, delay: there}
	far = &stream{Conn: b, network: n, local: to, remote: from + ":0", delay: back}
	near.peer, far.peer = far, near
	n.mu.Lock()
	n.streams[near] = struct{}{}
	n.mu.Unlock()
	return near, far
}

func (s *stream) LocalAddr() net.Addr  { return address(s.local) }
func (s *stream) RemoteAddr() net.Addr { return address(s.remote) }

func (s *stream) Write(b []byte) (int, error) {
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	return s.Conn.Write(b)
}

// Close hangs up. What the other end has not read by then is lost.
func (s *stream) Close() error {
	s.network.mu.Lock()
	delete(s.network.streams, s)
	delete(s.network.streams, s.peer)
	s.network.mu.Unlock()
	return s.Conn.Close()
}

// joins tells whether the stream is between these hosts.
func (s *stream) joins(a, b string) bool {
	from, to := hostOf(s.local), hostOf(s.remote)
	return from == a && to == b || from == b && to == a
}

// abort breaks both ends. Closing a pipe never fails.
func (s *stream) abort() {
	_ = s.Close()
	_ = s.peer.Close()
}

// Listener accepts streams at one address, as a net.Listener.
type Listener struct {
	network *Network
	addr    string
	queue   chan net.Conn

	mu     sync.Mutex
	closed chan struct{}
}

// backlog is how many streams wait to be accepted; more are refused.
const backlog = 128

// Listen opens a listener at host:port. The address must be free.
func (n *Network) Listen(addr string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil || n.transports[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: address(addr), Err: errInUse}
	}
	l := &Listener{network: n, addr: addr, queue: make(chan net.Conn, backlog), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Accept waits for the next stream, or fails with net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr is where the listener is.
func (l *Listener) Addr() net.Addr { return address(l.addr) }

// Close ends Accept and hangs up on what waits.
func (l *Listener) Close() error {
	l.network.mu.Lock()
	if l.network.listeners[l.addr] == l {
		delete(l.network.listeners, l.addr)
	}
	l.network.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return nil
	default:
	}
	close(l.closed)
	hangUp(l.queue)
	return nil
}

func (l *Listener) accept(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return false
	default:
	}
	select {
	case l.queue <- s:
		return true
	default:
		return false
	}
}

// hangUp breaks the streams that nobody has accepted.
func hangUp(queue chan net.Conn) {
	for {
		select {
		case c := <-queue:
			c.(*stream).abort()
		default:
			return
		}
	}
}

// Dial opens a stream from a host to host:port; ctx bounds the wait.
func (n *Network) Dial(ctx context.Context, from, to string) (net.Conn, error) {
	const forever = 365 * 24 * time.Hour
	return n.dial(from, to, forever, ctx.Done())
}
