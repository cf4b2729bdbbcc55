package memnet

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

var (
	errReset   = fmt.Errorf("connection reset: %w", syscall.ECONNRESET)
	errTimeout = fmt.Errorf("user timeout: %w", syscall.ETIMEDOUT)
)

// conn is both ends of a stream and both directions between them.
type conn struct {
	ends   [2]Stream // the one that dialed, the one that was dialed
	halves [2]half   // from it, to it
}

// newConn makes a stream; the caller adds it to the network's.
func newConn(near, far *Host, there, back *path, local, remote address) *conn {
	c := &conn{}
	n := near.network
	for i, h := range []*Host{near, far} {
		s := &c.ends[i]
		s.network, s.host, s.conn, s.loop = n, h, c, near.machine == far.machine
		s.cond.L = &n.mu
		s.out, s.in = &c.halves[i], &c.halves[1-i]
	}
	c.ends[0].local, c.ends[0].remote = local, remote
	c.ends[1].local, c.ends[1].remote = remote, local
	c.halves[0] = half{network: n, path: there, writer: &c.ends[0], reader: &c.ends[1]}
	c.halves[1] = half{network: n, path: back, writer: &c.ends[1], reader: &c.ends[0]}
	return c
}

// joins tells whether the stream is between these hosts.
func (c *conn) joins(a, b string) bool {
	near, far := c.ends[0].host.machine.name, c.ends[1].host.machine.name
	return near == a && far == b || near == b && far == a
}

func (c *conn) touches(m *machine) bool {
	return c.ends[0].host.machine == m || c.ends[1].host.machine == m
}

// Stream is one end of a stream, as a net.Conn. Safe for concurrent use; a Write is not mixed with others. No goroutine belongs to it.
type Stream struct {
	network       *Network
	host          *Host
	conn          *conn
	in, out       *half
	local, remote address
	loop          bool // both ends are on one host

	cond                        sync.Cond // on the network's mu: something has changed for who reads or writes
	timer                       *time.Timer
	armed                       time.Time // when the timer fires; zero: it does not
	writing                     bool
	readDeadline, writeDeadline time.Time
	closed                      bool
	err                         error // why the stream is broken
}

var _ net.Conn = (*Stream)(nil)

// LocalAddr is this end.
func (s *Stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the other end.
func (s *Stream) RemoteAddr() net.Addr { return s.remote }

// Read waits for bytes that have arrived, up to the read deadline. After them it yields io.EOF where the other end was closed in
// order, and an error that is syscall.ECONNRESET or syscall.ETIMEDOUT where the stream broke.
func (s *Stream) Read(b []byte) (int, error) {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	for {
		if err := s.check(s.readDeadline); err != nil {
			return 0, s.failure("read", err)
		}
		frozen := s.host.paused && !s.loop
		switch {
		case len(b) == 0:
			return 0, nil
		case frozen:
		case s.in.ready > 0:
			full := s.in.size == window
			n := s.in.read(b)
			if full {
				s.in.writer.cond.Broadcast()
			}
			return n, nil
		case s.err != nil:
			return 0, s.failure("read", s.err)
		case s.in.eof:
			return 0, io.EOF
		}
		s.wait(s.readDeadline)
	}
}

// Write sends a copy of the bytes. It waits while the other end has 256 KiB to read or to come, up to the write deadline, and tells
// how many bytes were taken, which need not arrive.
func (s *Stream) Write(b []byte) (int, error) {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	ours, written := false, 0
	defer func() {
		if ours {
			s.writing = false
			s.cond.Broadcast()
		}
	}()
	for {
		err := s.check(s.writeDeadline)
		if err == nil {
			err = s.err
		}
		if err != nil {
			return written, s.failure("write", err)
		}
		if ours || !s.writing {
			ours, s.writing = true, true
			written += s.out.write(b[written:])
			if written == len(b) {
				return written, nil
			}
			if s.err != nil {
				continue
			}
		}
		s.wait(s.writeDeadline)
	}
}

// check brings the stream up to date, and fails where the caller may do nothing more.
func (s *Stream) check(deadline time.Time) error {
	if s.closed {
		return net.ErrClosed
	}
	if deadline.IsZero() && len(s.in.underWay()) == 0 && s.out.since.IsZero() {
		return nil // no need to look at the clock
	}
	now := time.Now()
	if !deadline.IsZero() && !deadline.After(now) {
		return os.ErrDeadlineExceeded
	}
	s.in.settle(now)
	if s.out.overdue(now) {
		s.fail(errTimeout)
	}
	return nil
}

// wait returns when something has changed, or at the deadline, or when something is due.
func (s *Stream) wait(deadline time.Time) {
	next := deadline
	for _, at := range []time.Time{s.in.next(), s.out.deadline()} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() && (s.armed.IsZero() || next.Before(s.armed)) {
		s.armed = next
		if s.timer == nil {
			s.timer = time.AfterFunc(time.Until(next), s.ring)
		} else {
			s.timer.Reset(time.Until(next))
		}
	}
	s.cond.Wait()
}

// ring is the timer.
func (s *Stream) ring() {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.armed = time.Time{}
	s.cond.Broadcast()
}

// failure is an error as a net.Conn reports it.
func (s *Stream) failure(op string, err error) error {
	return &net.OpError{Op: op, Net: "memnet", Source: s.local, Addr: s.remote, Err: err}
}

// SetDeadline sets both deadlines, also for calls that wait already; zero = none.
func (s *Stream) SetDeadline(t time.Time) error {
	return s.setDeadlines(t, &s.readDeadline, &s.writeDeadline)
}

// SetReadDeadline sets the deadline of Read, as SetDeadline.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.setDeadlines(t, &s.readDeadline) }

// SetWriteDeadline sets the deadline of Write, as SetDeadline.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.setDeadlines(t, &s.writeDeadline) }

func (s *Stream) setDeadlines(t time.Time, which ...*time.Time) error {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	if s.closed {
		return s.failure("set", net.ErrClosed)
	}
	for _, d := range which {
		*d = t
	}
	s.cond.Broadcast()
	return nil
}

// Close ends the stream in order: the other end reads what was sent, then io.EOF. What it sends from now on comes back as a reset.
func (s *Stream) Close() error {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	if s.closed {
		return s.failure("close", net.ErrClosed)
	}
	now := time.Now()
	s.in.settle(now)
	if s.err == nil && s.out.overdue(now) {
		s.fail(errTimeout)
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.err == nil {
		s.in.skip(s.in.ready)
		s.in.writer.cond.Broadcast()
		s.out.push(fin, 0, time.Time{})
		s.in.bounce()
	}
	s.cond.Broadcast()
	s.forget()
	return nil
}

// gone tells whether nobody takes what arrives at this end.
func (s *Stream) gone() bool { return s.closed || s.err != nil }

// forget drops the stream from the network when both ends are gone.
func (s *Stream) forget() {
	if s.conn.ends[0].gone() && s.conn.ends[1].gone() {
		delete(s.network.conns, s.conn)
	}
}

// fail breaks this end, without a word to the other: nothing more comes or leaves. What has arrived can be read.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = err
		s.out.lose()
		s.out.since = time.Time{}
		s.forget()
	}
	s.cond.Broadcast()
}

// reset breaks this end and tells the other.
func (s *Stream) reset(err error) {
	if s.gone() {
		return
	}
	s.out.lose()
	s.out.push(rst, 0, time.Time{})
	s.fail(err)
}

// die is the end of this end's host. What a process had closed before it was killed still goes its way.
func (s *Stream) die(silent bool, now time.Time) {
	s.in.settle(now)
	s.out.settle(now)
	if s.timer != nil {
		s.timer.Stop()
	}
	s.in.skip(s.in.ready)
	if silent {
		s.fail(errDown)
		s.out.lose()
		s.in.refresh(now)
	} else {
		s.reset(errDown)
	}
	if !s.closed {
		s.err = errDown
	}
	s.cond.Broadcast()
}
