package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// link is what the client knows of one peer: its connections and how the last dial went. A connection object exists from the
// moment its dial begins, so that calls can wait in its buffer.
type link struct {
	client *Client
	id     ring.NodeID

	conn atomic.Pointer[clientConn] // the ordinary connection, nil where there is none

	mu         sync.Mutex
	ordinary   backoff
	large      backoff
	lastErr    error  // why the last dial failed or the last connection ended
	logged     string // the last refusal that was logged
	connects   uint64
	largeDials bool // a large connection is being dialled
	forgotten  bool // no longer in the client's table

	bytesIn, bytesOut, framesIn, framesOut, strayReplies atomic.Uint64
}

// backoff spaces dials. The zero value allows one at once.
type backoff struct {
	failures int
	until    int64 // nanoseconds on the client's clock
}

// start sends a request, dialling where needed. An error means that nothing was sent and the call will not be answered.
func (l *link) start(r *request, now int64, remaining time.Duration) (ticket, error) {
	size := r.size()
	if size > MaxFrame {
		return ticket{}, &Error{Peer: l.id, Op: r.op, outcome: OutcomeError, notApplied: true, text: fmt.Sprintf("message of %d bytes is too large", size)}
	}
	for {
		c := l.conn.Load()
		if c == nil {
			var err error
			if c, err = l.dial(now, r.op); err != nil {
				return ticket{}, err
			}
		}
		if size > LargePayload {
			if large := c.large.Load(); large != nil {
				if t, ok, err := large.send(r, now, remaining); ok || err != nil {
					return t, err
				}
			}
			l.dialLarge(c, now)
		}
		t, ok, err := c.send(r, now, remaining)
		if ok || err != nil {
			return t, err
		}
		if l.conn.Load() == c { // it has just broken, and its reader is about to say so
			return ticket{}, l.unreachable(r.op, "connection lost", c.reason())
		}
	}
}

func (l *link) unreachable(op Op, text string, cause error) *Error {
	return &Error{Peer: l.id, Op: op, outcome: OutcomeUnreachable, notApplied: true, text: text, cause: cause}
}

// dial begins a connection, or returns the one there is. While the pause after a failure lasts it fails at once.
func (l *link) dial(now int64, op Op) (*clientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conn.Load(); c != nil {
		return c, nil
	}
	if l.client.closed.Load() {
		return nil, l.unreachable(op, "client", errClosed)
	}
	if l.forgotten {
		return nil, l.unreachable(op, "not connected", errUnknown)
	}
	if now < l.ordinary.until {
		return nil, l.unreachable(op, "not connected", l.lastErr)
	}
	addr, ok := l.client.config.Addr(l.id)
	if !ok {
		return nil, l.unreachable(op, "not connected", errUnknown)
	}
	c := newClientConn(l, addr, classOrdinary, l.client.session())
	l.conn.Store(c)
	l.client.running.Go(func() { l.run(c) })
	return c, nil
}

// dialLarge begins the large connection of a pair unless that is under way or has failed just now.
func (l *link) dialLarge(c *clientConn, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.largeDials || now < l.large.until || l.client.closed.Load() || !c.ready.Load() || c.large.Load() != nil {
		return
	}
	l.largeDials = true
	large := newClientConn(l, c.addr, classLarge, c.session)
	large.pair = c
	l.client.running.Go(func() { l.run(large) })
}

// run is the life of one connection: dial, hello, read until it ends. It is the connection's reader, and the only place
// where the calls of a lost connection fail.
func (l *link) run(c *clientConn) {
	var writer sync.WaitGroup
	began := l.client.now()
	nc, err := l.open(c)
	connected := err == nil
	if connected {
		began = l.client.now()
		c.received.Store(began)
		c.attach(nc)
		writer.Go(c.writeLoop)
		if l.opened(c) {
			c.mu.Lock()
			c.flush()
			err = c.readLoop()
		} else {
			err = errClosed
		}
	}
	c.close(err)
	l.ended(c, began, connected)
	if large := c.large.Load(); large != nil {
		large.close(errors.New("the ordinary connection is lost"))
	}
	writer.Wait()
	for _, e := range c.abandon() {
		e.call.fail(e.err)
	}
}

// open dials and says hello. It takes DialTimeout at most and ends early with the client.
func (l *link) open(c *clientConn) (net.Conn, error) {
	config := &l.client.config
	ctx, cancel := context.WithTimeout(l.client.ctx, config.DialTimeout)
	defer cancel()
	nc, err := config.Dial(ctx, c.addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", c.addr, err)
	}
	if err := l.greet(ctx, c, nc); err != nil {
		return nil, errors.Join(err, ignoreClosed(nc.Close()))
	}
	return nc, nil
}

// greet exchanges hellos.
func (l *link) greet(ctx context.Context, c *clientConn, nc net.Conn) error {
	config := &l.client.config
	if err := tune(nc, userTimeout); err != nil {
		return fmt.Errorf("set up connection to %s: %w", c.addr, err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		nc.SetDeadline(time.Unix(1, 0)) // fails only where the connection is closed, and then there is nothing to interrupt
	})
	mine := hello{
		versions: config.versions, class: c.class, session: c.session, cluster: config.Cluster, from: config.Self, to: l.id,
		identity: config.ClusterID(),
	}
	var theirs hello
	_, err := nc.Write(appendHello(nil, mine))
	if err == nil {
		theirs, err = readHello(nc)
	}
	if !stop() {
		<-interrupted
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return fmt.Errorf("exchange hello with %s: %w", c.addr, err)
	}
	if theirs.refusal != "" {
		return &refusedError{theirs.refusal}
	}
	if _, err := agree(mine, theirs, l.id); err != nil {
		text, _ := reasonOf(err)
		frame := beginFrame(nil, header{op: OpRefuse})
		frame = sealFrame(append(frame, cut(text, maxFaultText)...), 0)
		if nc.SetWriteDeadline(time.Now().Add(config.DialTimeout)) == nil {
			nc.Write(frame) // a courtesy: the connection is given up either way
		}
		return err
	}
	return nil
}

// opened makes a connection known whose hello has succeeded, and tells whether it may live.
func (l *link) opened(c *clientConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connects++
	if c.class == classOrdinary {
		l.logged = ""
		c.ready.Store(true)
		return true
	}
	l.largeDials = false
	c.ready.Store(true)
	c.pair.large.Store(c)
	return !c.pair.isClosed()
}

// ended notes the end of a connection, or of the attempt to have one, and when the next may begin.
func (l *link) ended(c *clientConn, began int64, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, config := &l.ordinary, &l.client.config
	if c.class == classLarge {
		b = &l.large
		c.pair.large.CompareAndSwap(c, nil)
		if !connected {
			l.largeDials = false
		}
	}
	l.conn.CompareAndSwap(c, nil)
	now := l.client.now()
	if connected && now-began >= int64(time.Second) {
		b.failures = 0
	} else {
		pause := config.BackoffMax
		if b.failures < 16 {
			pause = min(pause, config.BackoffMin<<b.failures)
		}
		b.failures++
		b.until = now + int64(l.client.jitter(pause))
	}
	l.lastErr = c.reason()
	if l.client.closed.Load() {
		return
	}
	text, refused := reasonOf(l.lastErr)
	log := l.client.config.Logger
	switch {
	case !refused:
		log.Debug("peer connection ended", "peer", l.id, "address", c.addr, "connected", connected, "error", l.lastErr)
	case text != l.logged:
		l.logged = text
		log.Warn("peer connection refused", "peer", l.id, "address", c.addr, "reason", text)
	}
}

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
