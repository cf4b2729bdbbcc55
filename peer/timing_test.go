package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
)

// hole is a connection that can lose everything, like a cable that is cut: writes succeed and go nowhere.
type hole struct {
	net.Conn
	cut *atomic.Bool
}

func (h hole) Write(b []byte) (int, error) {
	if h.cut.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// bubble runs a test in virtual time with a server and a client over pipes.
func bubble(t *testing.T, h *handler, change func(*Config), test func(t *testing.T, net *pipes, server *Server, client *Client)) {
	synctest.Test(t, func(t *testing.T) {
		net := newPipes()
		both := func(c *Config) {
			c.Rand = rand.New(rand.NewPCG(1, 2))
			c.Dial = net.dial
			if change != nil {
				change(c)
			}
		}
		server := openServer(t, h, func(c *Config) { both(c); c.Listener = net })
		client := openClient(t, "b", both)
		test(t, net, server, client)
	})
}

// timed is how long a call took in virtual time, and how it ended.
func timed(call func() error) (time.Duration, error) {
	began := time.Now()
	err := call()
	return time.Since(began), err
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

var someKey = ring.NewKey("b", "k")

// F12: the other end vanishes without a word. Calls end at their own deadline, the connection within PingAfter and
// PingTimeout, and after that nobody waits for it any more.
func TestHalfOpen(t *testing.T) {
	var cut atomic.Bool
	bubble(t, &handler{}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		pipes.wrap = func(nc net.Conn) net.Conn { return hole{nc, &cut} }
		if err := write(within(t, time.Second), client, someKey, nil); err != nil {
			t.Fatal(err)
		}
		cut.Store(true)
		began := time.Now()
		took, err := timed(func() error { return write(within(t, 300*time.Millisecond), client, someKey, nil) })
		failed(t, err, OutcomeTimeout, false)
		between(t, "a call into the hole", took, 300*time.Millisecond, 315*time.Millisecond)
		err = write(within(t, 10*time.Second), client, someKey, nil)
		failed(t, err, OutcomeError, false)
		if !errors.Is(err, errPing) {
			t.Errorf("got %v, want it to say that the ping was not answered", err)
		}
		between(t, "noticing", time.Since(began), 3*time.Second, 3500*time.Millisecond)
		// Nobody answers the hello either: one call waits for the dial, the next ones do not.
		took, err = timed(func() error { return write(within(t, 10*time.Second), client, someKey, nil) })
		failed(t, err, OutcomeUnreachable, true)
		between(t, "a call that dials", took, time.Second, 1100*time.Millisecond)
		took, err = timed(func() error { return write(within(t, 10*time.Second), client, someKey, nil) })
		failed(t, err, OutcomeUnreachable, true)
		between(t, "a call during the pause", took, 0, 0)
		cut.Store(false)
		eventually(t, "a new connection", func() bool { return write(within(t, time.Second), client, someKey, nil) == nil })
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, &handler{
		call: func(ctx context.Context, _ ring.NodeID, _ uint64, _ Op, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		write: func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
			time.AfterFunc(time.Minute, func() { done(nil) })
		},
	}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		for _, limit := range []time.Duration{time.Millisecond, 15 * time.Millisecond, 3 * time.Second} {
			took, err := timed(func() error { return write(within(t, limit), client, someKey, nil) })
			failed(t, err, OutcomeTimeout, false)
			between(t, "a write", took, limit, limit+fastTick+time.Millisecond)
			took, err = timed(func() error {
				_, err := client.Call(within(t, limit), idB, 1, OpForm, nil)
				return err
			})
			failed(t, err, OutcomeTimeout, false)
			between(t, "a call", took, limit, limit+fastTick)
		}
		took, err := timed(func() error { return write(context.Background(), client, someKey, nil) })
		failed(t, err, OutcomeTimeout, false)
		between(t, "a write without a deadline", took, 5*time.Second, 5*time.Second+2*fastTick)
		// The handler's own deadline is the caller's: it answers by itself.
		took, err = timed(func() error { _, err := client.Call(context.Background(), idB, 1, OpForm, nil); return err })
		failed(t, err, OutcomeTimeout, false)
		between(t, "a call without a deadline", took, 5*time.Second, 5*time.Second+2*fastTick)

		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		failed(t, write(ctx, client, someKey, nil), OutcomeTimeout, true)
		time.Sleep(time.Minute) // the late answers come
	})
}

// A request whose deadline has passed in the queue is not begun.
func TestExpiredInQueue(t *testing.T) {
	var begun atomic.Int32
	bubble(t, &handler{write: func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
		begun.Add(1)
		time.Sleep(200 * time.Millisecond)
		done(nil)
	}}, func(c *Config) { c.Workers = 1 }, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		first := make(chan error, 1)
		client.Write(within(t, time.Second), idB, 1, someKey, nil, false, false, func(err error) { first <- err })
		synctest.Wait()
		failed(t, write(within(t, 100*time.Millisecond), client, someKey, nil), OutcomeTimeout, false)
		if err := <-first; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if n, late := begun.Load(), client.Stats()[0].StrayReplies; n != 1 || late != 1 {
			t.Errorf("got %d writes begun and %d late answers, want 1 and 1", n, late)
		}
	})
}

// A server at work on something slow is not a dead one: it answers pings.
func TestSlowIsNotDown(t *testing.T) {
	bubble(t, &handler{write: func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
		time.AfterFunc(20*time.Second, func() { done(nil) })
	}}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		took, err := timed(func() error { return write(within(t, time.Minute), client, someKey, nil) })
		if err != nil {
			t.Error(err)
		}
		between(t, "a slow write", took, 20*time.Second, 20*time.Second)
		if got := client.Stats()[0].Connects; got != 1 {
			t.Errorf("got %d connections, want 1", got)
		}
	})
}

func TestIdleConnection(t *testing.T) {
	var cut atomic.Bool
	bubble(t, &handler{}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		pipes.wrap = func(nc net.Conn) net.Conn { return hole{nc, &cut} }
		if err := write(within(t, time.Second), client, someKey, nil); err != nil {
			t.Fatal(err)
		}
		before := client.Stats()[0].FramesIn
		time.Sleep(10 * time.Minute)
		s := client.Stats()[0]
		if pings := s.FramesIn - before; !s.Connected || s.Connects != 1 || pings < 90 || pings > 125 {
			t.Errorf("after ten idle minutes: %d pings, %+v", pings, s)
		}
		cut.Store(true)
		time.Sleep(9 * time.Second)
		if client.Stats()[0].Connected {
			t.Error("an idle connection to a vanished peer is kept")
		}
	})
}

// The server, too, gives up a connection on which nothing comes.
func TestServerIdleTimeout(t *testing.T) {
	bubble(t, &handler{}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		nc, err := pipes.dial(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write(appendHello(nil, hello{versions: versions{1, 1}, cluster: "test", from: idA, to: idB})); err != nil {
			t.Fatal(err)
		}
		if _, err := readHello(nc); err != nil {
			t.Fatal(err)
		}
		took, err := timed(func() error { _, err := nc.Read(make([]byte, 1)); return err })
		if err == nil {
			t.Error("got a byte")
		}
		between(t, "the silence", took, 20*time.Second, 26*time.Second)
	})
}

// A call may wait for a dial, but not beyond its deadline; then it was never sent.
func TestDialThatHangs(t *testing.T) {
	hang := func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	bubble(t, &handler{}, func(c *Config) { c.Dial = hang }, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		took, err := timed(func() error { return write(within(t, 100*time.Millisecond), client, someKey, nil) })
		failed(t, err, OutcomeTimeout, true)
		between(t, "a short call", took, 100*time.Millisecond, 115*time.Millisecond)
		_, err = client.Call(within(t, 100*time.Millisecond), idB, 1, OpForm, nil)
		failed(t, err, OutcomeTimeout, true)
		took, err = timed(func() error { return write(within(t, time.Minute), client, someKey, nil) })
		failed(t, err, OutcomeUnreachable, true)
		between(t, "a long call", took, 500*time.Millisecond, time.Second)
	})
}

// What expired while the dial went on is not sent when it has succeeded.
func TestExpiredWhileDialling(t *testing.T) {
	var begun atomic.Int32
	bubble(t, &handler{write: func(_ ring.NodeID, _ uint64, key ring.Key, _ []byte, _, _ bool, done func(error)) {
		begun.Add(1)
		done(nil)
	}}, nil, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		dial := client.config.Dial
		client.config.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			time.Sleep(500 * time.Millisecond)
			return dial(ctx, addr)
		}
		results := make(chan error, 1)
		client.Write(within(t, time.Second), idB, 1, someKey, []byte("in time"), false, false, func(err error) { results <- err })
		failed(t, write(within(t, 100*time.Millisecond), client, someKey, []byte("too late")), OutcomeTimeout, true)
		if err := <-results; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := begun.Load(); got != 1 {
			t.Errorf("got %d writes on the server, want 1", got)
		}
	})
}

func TestBackoff(t *testing.T) {
	var dials []time.Duration
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		up := newPipes()
		client := openClient(t, "b", func(c *Config) {
			c.Rand = rand.New(rand.NewPCG(1, 2))
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				dials = append(dials, time.Since(began))
				if time.Since(began) < time.Minute {
					return nil, errors.New("connection refused")
				}
				return up.dial(ctx, addr)
			}
		})
		openServer(t, &handler{}, func(c *Config) { c.Listener = up })
		for time.Since(began) < time.Minute {
			took, err := timed(func() error { return write(within(t, time.Second), client, someKey, nil) })
			failed(t, err, OutcomeUnreachable, true)
			between(t, "a call to a closed port", took, 0, 0)
			time.Sleep(5 * time.Millisecond)
		}
		for i, at := range dials[1:] {
			low, high := 25*time.Millisecond<<min(i, 6), min(50*time.Millisecond<<min(i, 6), 2*time.Second)+6*time.Millisecond
			between(t, "pause", at-dials[i], min(low, time.Second), high)
		}
		if n := len(dials); n < 30 || n > 70 {
			t.Errorf("got %d dials in a minute", n)
		}
		eventually(t, "a connection", func() bool { return write(within(t, time.Second), client, someKey, nil) == nil })
	})
}

// A peer that is not called and not known any more is forgotten.
func TestForgottenPeer(t *testing.T) {
	var known atomic.Bool
	known.Store(true)
	bubble(t, &handler{}, func(c *Config) {
		c.Addr = func(ring.NodeID) (string, bool) { return "b", known.Load() }
	}, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		if err := write(within(t, time.Second), client, someKey, nil); err != nil {
			t.Fatal(err)
		}
		known.Store(false)
		closing(t, server)
		failed(t, write(within(t, time.Second), client, someKey, nil), OutcomeUnreachable, true)
		time.Sleep(forgetAfter*slowTick + time.Minute)
		if got := client.Stats(); len(got) != 0 {
			t.Errorf("got %+v", got)
		}
		failed(t, write(within(t, time.Second), client, someKey, nil), OutcomeUnreachable, true)
	})
}

// A client that does not read its answers holds up itself, and no one else.
func TestPeerThatDoesNotRead(t *testing.T) {
	object := make([]byte, 60_000)
	bubble(t, &handler{tryRead: func(ring.Key, bool) ([]byte, uint64, bool, error) { return object, 1, true, nil }},
		func(c *Config) { c.SendBuffer = 1 << 20 },
		func(t *testing.T, pipes *pipes, server *Server, client *Client) {
			nc, err := pipes.dial(context.Background(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Write(appendHello(nil, hello{versions: versions{1, 1}, cluster: "test", from: "cccc", to: idB})); err != nil {
				t.Fatal(err)
			}
			if _, err := readHello(nc); err != nil {
				t.Fatal(err)
			}
			if err := nc.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			request := sealFrame(appendKey(beginFrame(nil, header{op: OpRead, id: 2, timeout: 1e6}), someKey), 0)
			sent := 0
			for ; sent < 1e6; sent++ {
				if _, err = nc.Write(request); err != nil {
					break
				}
			}
			if sent > 10_000 {
				t.Errorf("the server has taken %d requests from a peer that reads nothing", sent)
			}
			if _, _, err := read(within(t, time.Second), client, someKey); err != nil {
				t.Error(err)
			}
		})
}

// Payloads in flight are bounded over all connections: what does not fit waits, and is served later.
func TestInFlightBudget(t *testing.T) {
	var most, now atomic.Int32
	bubble(t, &handler{write: func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
		most.Store(max(most.Load(), now.Add(1)))
		time.AfterFunc(10*time.Millisecond, func() { now.Add(-1); done(nil) })
	}}, func(c *Config) { c.MaxInFlight = 100_000 }, func(t *testing.T, pipes *pipes, server *Server, client *Client) {
		results := make(chan error, 20)
		for range 20 {
			client.Write(within(t, 10*time.Second), idB, 1, someKey, make([]byte, 30_000), false, false, func(err error) { results <- err })
		}
		for range 20 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := most.Load(); got != 3 {
			t.Errorf("got %d writes of 30 kB at once, want 3", got)
		}
		if err := write(within(t, time.Second), client, someKey, make([]byte, 200_000)); err != nil { // alone, it may be more
			t.Error(err)
		}
	})
}
