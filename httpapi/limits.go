package httpapi

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// limitListener accepts no more connections while as many are open as it allows: they wait in the kernel's queue.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
	open   *atomic.Int64 // connections, for metrics and for the end
	hurry  *atomic.Bool  // close without waiting for anybody
}

func newLimitListener(l net.Listener, most int, open *atomic.Int64, hurry *atomic.Bool) *limitListener {
	return &limitListener{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{}), open: open, hurry: hurry}
}

// Accept waits for a free slot, then for a connection.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	l.open.Add(1)
	return &conn{Conn: c, listener: l}, nil
}

// Close ends Accept. Open connections stay.
func (l *limitListener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.Listener.Close()
	})
	return err
}

// conn is one client connection.
type conn struct {
	net.Conn
	listener *limitListener
	closed   atomic.Bool
	served   atomic.Bool // a handler answers, or has answered, the present request
	unread   atomic.Bool // the present request was answered without reading its body
}

// Limits of what is read from a client that still sends a body which nobody wants.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 8 << 20
)

// Close gives the slot back, once. To close on a client that is still sending would reset the connection, and the client
// might never see the answer: so it first gets a moment to notice.
func (c *conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.Conn.Close()
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Load() && !c.listener.hurry.Load() {
		if half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			io.CopyN(io.Discard, c.Conn, lingerBytes) // how far it got does not matter
		}
	}
	err := c.Conn.Close()
	c.listener.open.Add(-1)
	<-c.listener.slots
	return err
}

// Write sends b; but what net/http itself says, in plain text, to a request that it cannot read becomes a problem document. That
// can only be before a handler got the request, so nothing that a handler writes is ever touched.
func (c *conn) Write(b []byte) (int, error) {
	if !c.served.Load() {
		if problem := rejection(b); problem != nil {
			if _, err := c.Conn.Write(problem); err != nil {
				return 0, err
			}
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

// budget counts bytes against a limit.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }
