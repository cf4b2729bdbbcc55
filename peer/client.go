package peer

import (
	"context"
	"errors"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

const (
	fastTick    = 10 * time.Millisecond // how exactly deadlines are kept
	slowTick    = time.Second           // while nothing is pending
	userTimeout = 5 * time.Second       // TCP: unacknowledged data ends the connection
)

// Client is the asking side. It connects when it is first asked to reach a node and stays connected. All methods are safe for
// concurrent use.
type Client struct {
	config  Config
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	began   time.Time // zero of the client's clock
	closed  atomic.Bool
	running sync.WaitGroup // the connections' goroutines and the sweeper
	waits   sync.Pool      // of chan answer

	links atomic.Pointer[map[ring.NodeID]*link] // replaced, never changed

	mu       sync.Mutex // guards what follows and the replacing of links
	sweeping bool
	awake    atomic.Bool   // the sweeper ticks fast; no lock needed
	wake     chan struct{} // makes it tick fast
}

// NewClient checks the configuration. It starts nothing; the first call does.
func NewClient(config Config) (*Client, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.Addr == nil {
		return nil, errors.New("peer client needs a way to look up addresses")
	}
	if config.Dial == nil {
		var d net.Dialer
		config.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	c := &Client{config: config, began: time.Now(), wake: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.waits.New = func() any { return make(chan answer, 1) }
	c.links.Store(&map[ring.NodeID]*link{})
	return c, nil
}

// now is the client's clock: nanoseconds since it was made, monotonic.
func (c *Client) now() int64 { return int64(time.Since(c.began)) }

// session mints the number of a pair of connections.
func (c *Client) session() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config.Rand.Uint64()
}

// jitter is a time between half of d and d.
func (c *Client) jitter(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return d/2 + time.Duration(c.config.Rand.Int64N(int64(d/2)+1))
}

// start sends a request. An error means that it was not sent and nobody will be called.
func (c *Client) start(ctx context.Context, to ring.NodeID, r *request) (ticket, error) {
	l := (*c.links.Load())[to]
	if l == nil {
		l = c.link(to)
	}
	if err := ctx.Err(); err != nil {
		return ticket{}, &Error{Peer: to, Op: r.op, outcome: OutcomeTimeout, notApplied: true, text: "not sent", cause: err}
	}
	at := time.Now()
	remaining := c.config.CallTimeout
	if deadline, ok := ctx.Deadline(); ok {
		if remaining = deadline.Sub(at); remaining <= 0 {
			return ticket{}, &Error{Peer: to, Op: r.op, outcome: OutcomeTimeout, notApplied: true, text: "not sent", cause: context.DeadlineExceeded}
		}
	}
	t, err := l.start(r, int64(at.Sub(c.began)), remaining)
	if err == nil && !c.awake.Load() {
		c.rouse()
	}
	return t, err
}

// link is the peer's entry, made where there is none.
func (c *Client) link(id ring.NodeID) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.links.Load()
	if l := old[id]; l != nil {
		return l
	}
	links := maps.Clone(old)
	l := &link{client: c, id: id}
	links[id] = l
	c.links.Store(&links)
	return l
}

// Read asks a replica for an object, or only for its digest. done is called exactly once: from this goroutine where the
// request could not be sent, else from the connection's reader or the sweeper; it must not block. The object is the
// receiver's to keep, nil where the key was never written. Without a deadline in ctx Config.CallTimeout holds; cancelling ctx
// later does not take the request back.
func (c *Client) Read(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, digestOnly bool, done func(object []byte, digest, watermark uint64, err error)) {
	r := request{op: OpRead, layout: layout, keyed: true, key: key, call: call{read: done}}
	if digestOnly {
		r.flags = flagDigestOnly
	}
	if _, err := c.start(ctx, to, &r); err != nil {
		done(nil, 0, 0, err)
	}
}

// Write merges object on a replica, on disk before the answer where sync is set. The bytes are copied before Write returns.
// done is called as Read calls it.
func (c *Client) Write(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
	r := request{op: OpWrite, layout: layout, keyed: true, key: key, body: object, call: call{write: done}}
	if sync {
		r.flags |= flagSync
	}
	if repair {
		r.flags |= flagRepair
	}
	if _, err := c.start(ctx, to, &r); err != nil {
		done(err)
	}
}

// Coordinate has another node coordinate a write and blocks until it has answered or ctx ends.
func (c *Client) Coordinate(ctx context.Context, to ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	return c.Call(ctx, to, layout, OpCoordinate, payload)
}

// List has another node list a part of a bucket and blocks until it has answered or ctx ends.
func (c *Client) List(ctx context.Context, to ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	return c.Call(ctx, to, layout, OpList, payload)
}

// Standin has another node keep an object for an owner, or tell what it keeps, and blocks until it has answered or ctx ends.
func (c *Client) Standin(ctx context.Context, to ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	return c.Call(ctx, to, layout, OpStandin, payload)
}

// Call asks for anything that the other node's Handler.Call answers, and blocks until it has or ctx ends. The payload is
// copied; the answer is the caller's to keep.
func (c *Client) Call(ctx context.Context, to ring.NodeID, layout uint64, op Op, payload []byte) ([]byte, error) {
	wait := c.waits.Get().(chan answer)
	defer c.waits.Put(wait) // empty by then: every way out below has taken the one answer, or taken the call back
	t, err := c.start(ctx, to, &request{op: op, layout: layout, body: payload, call: call{wait: wait}})
	if err != nil {
		return nil, err
	}
	select {
	case a := <-wait:
		return a.payload, a.err
	case <-ctx.Done():
	}
	unsent, ok := t.on.cancel(t.id)
	if !ok {
		a := <-wait
		return a.payload, a.err
	}
	text := "no answer in time"
	if unsent {
		text = "not sent in time"
	}
	return nil, &Error{Peer: to, Op: op, outcome: OutcomeTimeout, notApplied: unsent, text: text, cause: ctx.Err()}
}

// Greet connects to a node that is known to be there, whatever pause failures before have left. It returns at once; an error says why
// there is no attempt. Where there is a connection, or one under way, nothing happens.
func (c *Client) Greet(to ring.NodeID) error {
	l := c.link(to)
	l.mu.Lock()
	l.ordinary = backoff{}
	l.mu.Unlock()
	_, err := l.dial(c.now(), OpPing)
	if err == nil && !c.awake.Load() {
		c.rouse()
	}
	return err
}

// Close ends every connection; pending calls fail. It returns when all goroutines of the client are gone.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	c.cancel()
	for _, l := range *c.links.Load() {
		l.mu.Lock() // after this no dial begins
		conn := l.conn.Load()
		l.mu.Unlock()
		if conn != nil {
			conn.close(errClosed)
			if large := conn.large.Load(); large != nil {
				large.close(errClosed)
			}
		}
	}
	c.running.Wait()
	return nil
}
