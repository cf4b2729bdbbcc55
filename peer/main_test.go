package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rondodb/rondo/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is a Handler of functions. A nil function answers with nothing.
type handler struct {
	tryRead func(key ring.Key, digestOnly bool) ([]byte, uint64, bool, error)
	read    func(key ring.Key, digestOnly bool) ([]byte, uint64, error)
	write   func(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error))
	mark    uint64 // watermark of all keys
	call    func(ctx context.Context, from ring.NodeID, layout uint64, op Op, payload []byte) ([]byte, error)
}

func (h *handler) TryRead(_ ring.NodeID, _ uint64, key ring.Key, digestOnly bool) ([]byte, uint64, uint64, bool, error) {
	if h.tryRead == nil {
		return nil, 0, 0, false, nil
	}
	object, digest, ok, err := h.tryRead(key, digestOnly)
	return object, digest, h.mark, ok, err
}

func (h *handler) Read(_ ring.NodeID, _ uint64, key ring.Key, digestOnly bool) ([]byte, uint64, uint64, error) {
	if h.read == nil {
		return nil, 0, h.mark, nil
	}
	object, digest, err := h.read(key, digestOnly)
	return object, digest, h.mark, err
}

func (h *handler) Write(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
	if h.write == nil {
		done(nil)
		return
	}
	h.write(from, layout, key, object, sync, repair, done)
}

func (h *handler) Call(ctx context.Context, from ring.NodeID, layout uint64, op Op, payload []byte) ([]byte, error) {
	if h.call == nil {
		return nil, nil
	}
	return h.call(ctx, from, layout, op, payload)
}

// The nodes of the tests: a client side and a server side.
const (
	idA = ring.NodeID("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	idB = ring.NodeID("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
)

// openServer starts server B on loopback; it is closed with the test.
func openServer(t testing.TB, h *handler, change func(*Config)) *Server {
	t.Helper()
	config := Config{Cluster: "test", Self: idB, Listen: "127.0.0.1:0", Handler: h}
	if change != nil {
		change(&config)
	}
	s, err := NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, s) })
	return s
}

// openClient makes client A, which finds every node at addr; it is closed with the test.
func openClient(t testing.TB, addr string, change func(*Config)) *Client {
	t.Helper()
	config := Config{Cluster: "test", Self: idA, Addr: func(ring.NodeID) (string, bool) { return addr, true }}
	if change != nil {
		change(&config)
	}
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closing(t, c) })
	return c
}

func closing(t testing.TB, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// within is a context for calls that should succeed.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// read is Client.Read that blocks.
func read(ctx context.Context, c *Client, key ring.Key) ([]byte, uint64, error) {
	type result struct {
		object []byte
		digest uint64
		err    error
	}
	got := make(chan result, 2)
	c.Read(ctx, idB, 7, key, false, func(object []byte, digest, _ uint64, err error) { got <- result{object, digest, err} })
	r := <-got
	return r.object, r.digest, r.err
}

// write is Client.Write that blocks.
func write(ctx context.Context, c *Client, key ring.Key, object []byte) error {
	got := make(chan error, 2)
	c.Write(ctx, idB, 7, key, object, true, true, func(err error) { got <- err })
	return <-got
}

// failed is the peer error within err, which must be one.
func failed(t testing.TB, err error, outcome string, notApplied bool) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want a peer error with outcome %s", err, outcome)
	}
	if e.Outcome() != outcome || e.NotApplied() != notApplied {
		t.Fatalf("got outcome %q, not applied %v, want %q, %v: %v", e.Outcome(), e.NotApplied(), outcome, notApplied, err)
	}
	return e
}

// eventually polls a condition, with a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// pipes is a network of net.Pipe connections: a listener and the dialer that reaches it.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	wrap  func(net.Conn) net.Conn // the client's end, where set
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		if p.wrap != nil {
			mine = p.wrap(mine)
		}
		return mine, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
