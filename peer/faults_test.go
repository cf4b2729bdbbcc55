package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

// pipesThatWait is a dialer that fails once the channel is closed.
func pipesThatWait(until chan struct{}) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case <-until:
		case <-ctx.Done():
		}
		return nil, errors.New("no route")
	}
}

// journal collects log lines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, string(b))
	return len(b), nil
}

func (j *journal) matching(part string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// F47, F49: strangers are refused on both sides, both say why, and say it once.
func TestHelloRefusals(t *testing.T) {
	for _, test := range []struct {
		name   string
		server func(*Config)
		to     ring.NodeID
		want   string
	}{
		{"cluster name", func(c *Config) { c.Cluster = "other" }, idB, `belongs to cluster \"test\", not \"other\"`},
		{"cluster identity", func(c *Config) { c.ClusterID = func() string { return "two" } }, idB, "another cluster of the same name"},
		{"node", func(*Config) {}, "cccc", "looks for node cccc"},
		{"version", func(c *Config) { c.versions = versions{2, 3} }, idB, "speaks protocol versions 1 to 1, not 2 to 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var onServer, onClient journal
			var dials atomic.Int32
			server := openServer(t, &handler{}, func(c *Config) {
				c.Logger = slog.New(slog.NewTextHandler(&onServer, nil))
				test.server(c)
			})
			client := openClient(t, server.Addr().String(), func(c *Config) {
				c.Logger = slog.New(slog.NewTextHandler(&onClient, nil))
				c.ClusterID = func() string { return "one" }
				c.BackoffMin, c.BackoffMax = time.Millisecond, time.Millisecond
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					dials.Add(1)
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				}
			})
			for dials.Load() < 4 {
				_, err := client.Call(within(t, 10*time.Second), test.to, 1, OpForm, nil)
				failed(t, err, OutcomeUnreachable, true)
				if plain := strings.ReplaceAll(test.want, `\`, ""); !strings.Contains(err.Error(), plain) {
					t.Errorf("got %v, want %q", err, plain)
				}
			}
			logged := func(j *journal) int {
				return j.matching(strings.ReplaceAll(test.want, `"`, `\"`)) + j.matching(test.want)
			}
			eventually(t, "both logs", func() bool { return logged(&onServer) > 0 && logged(&onClient) > 0 })
			if s, c := logged(&onServer), logged(&onClient); s > 2 || c > 2 {
				t.Errorf("refusal was logged %d times by the server and %d times by the client", s, c)
			}
		})
	}
}

// A server that would talk to anyone is refused by the client, and told why.
func TestClientRefuses(t *testing.T) {
	net := newPipes()
	client := openClient(t, "b", func(c *Config) { c.Dial = net.dial })
	told := make(chan string, 1)
	var peer sync.WaitGroup
	peer.Go(func() {
		nc, err := net.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if _, err := readHello(nc); err != nil {
			t.Error(err)
		}
		nc.Write(appendHello(nil, hello{versions: versions{1, 1}, cluster: "test", from: "cccc"}))
		f, err := newFrameReader(nc, nil).next()
		if err != nil || f.op != OpRefuse {
			t.Errorf("got %v, %v, want a refusal", f.op, err)
		}
		told <- string(f.payload)
	})
	defer peer.Wait()
	_, err := client.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
	failed(t, err, OutcomeUnreachable, true)
	want := "node " + string(idB) + " was expected"
	if got := <-told; !strings.Contains(got, want) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %q and %v, want %q", got, err, want)
	}
}

// raw is a stand-in for a server: it says hello on one connection and leaves the rest to serve.
func raw(t *testing.T, serve func(nc net.Conn, frames *frameReader)) (dial func(context.Context, string) (net.Conn, error), done *sync.WaitGroup) {
	net := newPipes()
	done = new(sync.WaitGroup)
	done.Go(func() {
		nc, err := net.Accept()
		if err != nil {
			return
		}
		net.Close()
		defer nc.Close()
		h, err := readHello(nc)
		if err != nil {
			t.Error(err)
			return
		}
		h.from, h.to = h.to, h.from
		if _, err := nc.Write(appendHello(nil, h)); err != nil {
			t.Error(err)
		}
		serve(nc, newFrameReader(nc, nil))
	})
	t.Cleanup(func() { net.Close(); done.Wait() })
	return net.dial, done
}

func reply(op Op, id uint64, payload string) []byte {
	return sealFrame(append(beginFrame(nil, header{op: op, flags: flagReply, id: id}), payload...), 0)
}

func TestDuplicateAndUnknownReplies(t *testing.T) {
	dial, _ := raw(t, func(nc net.Conn, frames *frameReader) {
		for {
			f, err := frames.next()
			if err != nil {
				return
			}
			for _, id := range []uint64{f.id + 1<<32, f.id + 2, f.id, f.id, f.id} {
				if _, err := nc.Write(reply(f.op, id, "answer")); err != nil {
					return
				}
			}
		}
	})
	client := openClient(t, "b", func(c *Config) { c.Dial = dial })
	for i := range 3 {
		got, err := client.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
		if err != nil || string(got) != "answer" {
			t.Errorf("call %d: got %q, %v", i, got, err)
		}
	}
	eventually(t, "stray replies", func() bool { return client.Stats()[0].StrayReplies == 12 })
}

// Whatever is not the protocol ends the connection, and with it the calls on it, whose outcome is not known.
func TestBrokenReplies(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for name, answer := range map[string]func(id uint64) []byte{
		"checksum":     func(id uint64) []byte { return flip(reply(OpWrite, id, "")) },
		"huge length":  func(uint64) []byte { return []byte{0xff, 0xff, 0xff, 0xff} },
		"other op":     func(id uint64) []byte { return reply(OpRead, id, "123456789") },
		"odd payload":  func(id uint64) []byte { return reply(OpWrite, id, "x") },
		"other class":  func(id uint64) []byte { return reply(OpWrite, id^1, "") },
		"no reply":     func(id uint64) []byte { return sealFrame(beginFrame(nil, header{op: OpWrite, id: id}), 0) },
		"flags":        func(id uint64) []byte { return sealFrame(beginFrame(nil, header{op: OpWrite, flags: 0x81, id: id}), 0) },
		"no fault":     func(id uint64) []byte { return sealFrame(beginFrame(nil, header{op: OpWrite, flags: 3, id: id}), 0) },
		"end":          func(uint64) []byte { return nil },
		"end in frame": func(id uint64) []byte { return reply(OpWrite, id, "")[:9] },
	} {
		t.Run(name, func(t *testing.T) {
			dial, served := raw(t, func(nc net.Conn, frames *frameReader) {
				f, err := frames.next()
				if err != nil {
					t.Error(err)
					return
				}
				nc.Write(answer(f.id))
			})
			client := openClient(t, "b", func(c *Config) { c.Dial = dial })
			err := write(within(t, 10*time.Second), client, ring.NewKey("b", "k"), []byte("o"))
			failed(t, err, OutcomeError, false)
			served.Wait()
			err = write(within(t, 10*time.Second), client, ring.NewKey("b", "k"), []byte("o"))
			failed(t, err, OutcomeUnreachable, true)
		})
	}
}

// The server gives up on a client that does not keep to the protocol.
func TestBrokenRequests(t *testing.T) {
	server := openServer(t, &handler{}, func(c *Config) { c.HelloTimeout = 100 * time.Millisecond })
	hi := appendHello(nil, hello{versions: versions{1, 1}, cluster: "test", from: idA, to: idB})
	request := func(op Op, flags byte, payload string) []byte {
		return append(hi[:len(hi):len(hi)], sealFrame(append(beginFrame(nil, header{op: op, flags: flags, id: 2, timeout: 1e6}), payload...), 0)...)
	}
	flipped := request(OpPing, 0, "")
	flipped[len(flipped)-1] ^= 1
	for name, b := range map[string][]byte{
		"nothing": nil, "not a hello": []byte("GET / HTTP/1.1\r\n\r\n"), "half a hello": hi[:20], "huge hello": []byte("rndo\xff\xff\xff\xff"),
		"checksum": flipped, "reply": request(OpRead, flagReply, ""), "key": request(OpRead, 0, "\x05\x05abc"), "bytes after key": request(OpRead, 0, "\x01\x01abc"),
		"write": request(OpWrite, 0, ""), "refusal": request(OpRefuse, 0, "no"), "large without ordinary": appendHello(nil, hello{versions: versions{1, 1}, class: 1, cluster: "test", from: idA, to: idB}),
	} {
		nc, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		nc.Write(b) // the server may have closed it already
		var buf [4096]byte
		for err == nil {
			_, err = nc.Read(buf[:])
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the server keeps the connection", name)
		}
		nc.Close()
	}
	eventually(t, "no connections", func() bool { return server.Stats().Connections == 0 })

	// What only a later version knows is refused without an end.
	nc, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.Write(request(OpRead, 0x40, "\x01\x01ab"))
	if h, err := readHello(nc); err != nil || h.refusal != "" {
		t.Fatalf("got hello %+v, %v", h, err)
	}
	f, err := newFrameReader(nc, nil).next()
	if err != nil || f.flags != flagReply|flagError || !strings.Contains(string(f.payload), "unknown to this version") {
		t.Errorf("got flags %d, %q, %v", f.flags, f.payload, err)
	}
}

func TestTooManyConnections(t *testing.T) {
	server := openServer(t, &handler{}, func(c *Config) { c.MaxConns = 1 })
	first := openClient(t, server.Addr().String(), nil)
	if _, err := first.Call(within(t, 10*time.Second), idB, 1, OpForm, nil); err != nil {
		t.Fatal(err)
	}
	second := openClient(t, server.Addr().String(), nil)
	_, err := second.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
	failed(t, err, OutcomeUnreachable, true)
}

func TestServerRestart(t *testing.T) {
	server := openServer(t, &handler{}, nil)
	addr := server.Addr().String()
	client := openClient(t, addr, nil)
	key := ring.NewKey("b", "k")
	if err := write(within(t, 10*time.Second), client, key, nil); err != nil {
		t.Fatal(err)
	}
	closing(t, server)
	eventually(t, "the end of the connection", func() bool { return !client.Stats()[0].Connected })
	failed(t, write(within(t, 10*time.Second), client, key, nil), OutcomeUnreachable, true)
	openServer(t, &handler{}, func(c *Config) { c.Listen = addr })
	eventually(t, "a new connection", func() bool { return write(within(t, 10*time.Second), client, key, nil) == nil })
}

// Requests that were begun are answered before the server goes; new ones are refused.
func TestServerDrains(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	server := openServer(t, &handler{call: func(context.Context, ring.NodeID, uint64, Op, []byte) ([]byte, error) {
		close(begun)
		<-release
		return []byte("done"), nil
	}}, func(c *Config) { c.DrainTime = 10 * time.Second })
	client := openClient(t, server.Addr().String(), nil)
	result := make(chan error, 1)
	go func() {
		got, err := client.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
		if err == nil && string(got) != "done" {
			err = errors.New("wrong answer")
		}
		result <- err
	}()
	<-begun
	var stop sync.WaitGroup
	stop.Go(func() { closing(t, server) })
	eventually(t, "draining", server.draining.Load)
	failed(t, write(within(t, 10*time.Second), client, ring.NewKey("b", "k"), nil), OutcomeUnreachable, true)
	close(release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	stop.Wait()
}

func TestCloseFailsCalls(t *testing.T) {
	begun := make(chan struct{}, 1)
	server := openServer(t, &handler{call: func(ctx context.Context, _ ring.NodeID, _ uint64, _ Op, _ []byte) ([]byte, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}, func(c *Config) { c.DrainTime = time.Millisecond })
	client := openClient(t, server.Addr().String(), nil)
	result := make(chan error, 1)
	go func() { _, err := client.Call(context.Background(), idB, 1, OpForm, nil); result <- err }()
	<-begun
	closing(t, client)
	failed(t, <-result, OutcomeError, false)
	_, err := client.Call(context.Background(), idB, 1, OpForm, nil)
	failed(t, err, OutcomeUnreachable, true)
}

// What the kernel has not taken is not applied, to the byte.
func TestUnsentIsNotApplied(t *testing.T) {
	gate := make(chan struct{})
	dial, _ := raw(t, func(nc net.Conn, frames *frameReader) {
		if _, err := frames.next(); err != nil {
			t.Error(err)
		}
		<-gate // reads no more
	})
	client := openClient(t, "b", func(c *Config) { c.Dial = dial })
	results := make([]error, 4)
	var calls sync.WaitGroup
	send := func(i int, object []byte) {
		calls.Add(1)
		client.Write(within(t, 10*time.Second), idB, 1, ring.NewKey("b", "k"), object, false, false, func(err error) { results[i] = err; calls.Done() })
	}
	send(0, []byte("taken"))
	eventually(t, "one frame sent", func() bool { return client.Stats()[0].BytesOut > 0 && client.Stats()[0].Waiting == 0 })
	send(1, make([]byte, 2*readBuffer)) // the pipe takes a part at most
	eventually(t, "a write in progress", func() bool { return client.Stats()[0].Waiting == 0 })
	send(2, []byte("in the buffer"))
	send(3, []byte("in the buffer"))
	close(gate)
	calls.Wait()
	failed(t, results[0], OutcomeError, false)
	for _, err := range results[1:] {
		failed(t, err, OutcomeUnreachable, true)
	}
}

func TestAddressChange(t *testing.T) {
	one := openServer(t, &handler{}, nil)
	two := openServer(t, &handler{}, nil)
	var mu sync.Mutex
	addr := one.Addr().String()
	client := openClient(t, "", func(c *Config) {
		c.Addr = func(ring.NodeID) (string, bool) { mu.Lock(); defer mu.Unlock(); return addr, addr != "" }
	})
	key := ring.NewKey("b", "k")
	if err := write(within(t, 10*time.Second), client, key, nil); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	addr = two.Addr().String()
	mu.Unlock()
	eventually(t, "a connection to the new address", func() bool {
		return write(within(t, 10*time.Second), client, key, nil) == nil && client.Stats()[0].Addr == two.Addr().String()
	})
	_, err := client.Call(within(t, time.Second), "unknown", 1, OpForm, nil)
	if err == nil {
		t.Error("a node that is not there has answered")
	}
}
