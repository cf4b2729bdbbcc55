package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// pipes is a listener in memory, so that a server can run in virtual time.
type pipes struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.waiting:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7070} }

// dial returns at once; the server takes the connection when it has a slot for it.
func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	go func() {
		select {
		case p.waiting <- far:
		case <-p.closed:
			far.Close()
		}
	}()
	return near
}

// inBubble runs a server in virtual time.
func inBubble(t *testing.T, f *replica, change func(*Config), run func(t *testing.T, p *pipes, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		sealer := vclock.NewSealer(f.layout.Cluster())
		config := Config{Coordinator: f, Buckets: settings{f}, Node: f, Sealer: func() *vclock.Sealer { return sealer }, Version: "test"}
		if change != nil {
			change(&config)
		}
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		p := &pipes{waiting: make(chan net.Conn), closed: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- s.Serve(p) }()
		run(t, p, s)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
}

// ask sends one request over a connection of its own.
func (p *pipes) ask(method, target, body string) (*http.Response, string, error) {
	c := p.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Minute))
	go fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// F38: ten times what the node can do, for a while. Each refusal comes at once, says when to come back and that nothing was
// done; the node goes on doing what it can, and serves everybody as soon as there are fewer.
func TestTenTimesTheCapacity(t *testing.T) {
	const slots, clients, work, duration = 4, 40, 50 * time.Millisecond, 8 * time.Second
	f := newReplica(t)
	var running, most, applied atomic.Int64
	f.put = func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error) {
		n := running.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(work)
		running.Add(-1)
		applied.Add(1)
		return quorum.WriteResult{Receipt: f.receipt(2)}, nil
	}
	inBubble(t, f, func(c *Config) { c.MaxRequests = slots }, func(t *testing.T, p *pipes, s *Server) {
		var ok, refused atomic.Int64
		var group sync.WaitGroup
		end := time.Now().Add(duration)
		for range clients {
			group.Go(func() {
				for time.Now().Before(end) {
					began := time.Now()
					resp, body, err := p.ask("PUT", "/v1/kv/b/k", "1")
					switch took := time.Since(began); {
					case err != nil:
						t.Error(err)
						return
					case resp.StatusCode == 200:
						ok.Add(1)
					case resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"overloaded"`) || !strings.Contains(body, `"not_applied"`):
						t.Errorf("got %d %v %s", resp.StatusCode, resp.Header, body)
						return
					case took > 10*time.Millisecond:
						t.Errorf("a refusal took %v", took)
						return
					default:
						refused.Add(1)
						time.Sleep(50 * time.Millisecond) // clients that do not heed Retry-After
					}
				}
			})
		}
		group.Wait()
		capacity := int64(slots * duration / work)
		if ok.Load() < capacity*8/10 || refused.Load() < ok.Load() {
			t.Errorf("%d answered of %d possible, %d refused", ok.Load(), capacity, refused.Load())
		}
		if most.Load() > slots || applied.Load() != ok.Load() {
			t.Errorf("%d at once, %d applied of %d answered", most.Load(), applied.Load(), ok.Load())
		}
		for range slots {
			group.Go(func() {
				if resp, body, err := p.ask("PUT", "/v1/kv/b/k", "1"); err != nil || resp.StatusCode != 200 {
					t.Errorf("right after the flood: %v %s", err, body)
				}
			})
		}
		group.Wait()
	})
}

// trickle sends a text, then one byte of filler every pause until the server closes the connection. It returns when that was,
// and what the server said.
func trickle(c net.Conn, text string, filler string, pause time.Duration) (time.Duration, string) {
	began := time.Now()
	var said bytes.Buffer
	closed := make(chan time.Duration, 1)
	go func() {
		io.Copy(&said, c) // ends when the server closes
		closed <- time.Since(began)
	}()
	_, err := io.WriteString(c, text)
	for i := 0; err == nil && filler != "" && i < 10_000; i++ {
		time.Sleep(pause)
		_, err = io.WriteString(c, filler[i%len(filler):][:1])
	}
	at := <-closed
	c.Close()
	return at, said.String()
}

// F40: clients that say nothing, say it slowly, or do not listen. Each is gone within its limit, writes nothing, and keeps nobody else
// from being served.
func TestSlowClients(t *testing.T) {
	const head = "PUT /v1/kv/b/slow HTTP/1.1\r\nHost: x\r\n"
	f := newReplica(t)
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		large := strings.Repeat("x", 1<<20)
		if resp, body, err := p.ask("PUT", "/v1/kv/b/large", large); err != nil || resp.StatusCode != 200 {
			t.Fatal(err, body)
		}
		var group sync.WaitGroup
		for name, c := range map[string]struct {
			text, filler string
			limit        time.Duration
			says         string
		}{
			"connects and says nothing":           {"", "", 5 * time.Second, ""},
			"a byte of the head each second":      {head, "X-Filler: filler filler filler ", 5 * time.Second, ""},
			"half a request line":                 {"PUT /v1/kv/b/sl", "", 5 * time.Second, ""},
			"no body, large one declared":         {head + "Content-Length: 1000000\r\n\r\n", "", 6 * time.Second, " 400 "},
			"a byte of a large body each second":  {head + "Content-Length: 1000000\r\n\r\n", "x", 6 * time.Second, " 400 "},
			"a byte of a chunk each second":       {head + "Transfer-Encoding: chunked\r\n\r\nffff\r\n", "x", 6 * time.Second, " 400 "},
			"a byte of a small body each second":  {head + "Content-Length: 20000\r\n\r\n", "x", 76 * time.Second, " 400 "},
			"idle after an answer":                {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "", 2*time.Minute + time.Second, " 200 "},
			"half a request after an answer":      {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li", "", 6 * time.Second, " 200 "},
			"a second head, slowly, after answer": {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li", "vez?", 6 * time.Second, " 200 "},
		} {
			group.Go(func() {
				at, said := trickle(p.dial(), c.text, c.filler, time.Second)
				if at > c.limit || at < 4*time.Second {
					t.Errorf("%s: closed after %v, the limit is %v", name, at, c.limit)
				}
				if !strings.Contains(said, c.says) || c.says == "" && said != "" && !strings.HasPrefix(said, "HTTP/1.1 4") {
					t.Errorf("%s: got %q", name, said)
				}
			})
		}
		group.Go(func() { // asks for a large value and does not read the answer
			c := p.dial()
			defer c.Close()
			io.WriteString(c, "GET /v1/kv/b/large?raw=true HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(4 * time.Minute)
			if n, _ := io.Copy(io.Discard, c); n > 1<<16 {
				t.Errorf("an answer was held for four minutes: %d bytes of it were left", n)
			}
		})
		for range 20 { // meanwhile
			if resp, body, err := p.ask("PUT", "/v1/kv/b/k", "1"); err != nil || resp.StatusCode != 200 {
				t.Error(err, body)
			}
			time.Sleep(time.Second)
		}
		group.Wait()
		if resp, body, err := p.ask("GET", "/v1/kv/b/slow", ""); err != nil || resp.StatusCode != 404 {
			t.Errorf("half a body was written: %v %s", err, body)
		}
		synctest.Wait()
		if conns, bytes := s.conns.Load(), s.bodies.used.Load(); conns != 0 || bytes != 0 {
			t.Errorf("%d connections and %d bytes of bodies are left", conns, bytes)
		}
	})
}

// F40: silent clients hold every connection that the node takes. Others get through as soon as those time out.
func TestSilentClientsHoldEveryConnection(t *testing.T) {
	inBubble(t, newReplica(t), func(c *Config) { c.MaxConnections = 50 }, func(t *testing.T, p *pipes, s *Server) {
		var silent []net.Conn
		for range 150 { // two thirds of them wait in the queue, and then hold a slot in their turn
			silent = append(silent, p.dial())
			synctest.Wait()
		}
		if n := s.conns.Load(); n != 50 {
			t.Errorf("%d connections are open, the limit is 50", n)
		}
		began := time.Now()
		if resp, body, err := p.ask("GET", "/livez", ""); err != nil || resp.StatusCode != 200 {
			t.Error(err, body)
		}
		if took := time.Since(began); took > 16*time.Second {
			t.Errorf("answered after %v", took)
		}
		for _, c := range silent {
			c.Close()
		}
	})
}

// F40: a chunked body without end is cut off at the limit of values, and its memory is given back.
func TestBodyWithoutEnd(t *testing.T) {
	f := newReplica(t)
	inBubble(t, f, func(c *Config) { c.MaxValue = 1 << 20 }, func(t *testing.T, p *pipes, s *Server) {
		c := p.dial()
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Minute))
		var sent, most atomic.Int64
		go func() {
			chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
			_, err := io.WriteString(c, "PUT /v1/kv/b/endless HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			for err == nil && sent.Load() < 64<<20 {
				_, err = io.WriteString(c, chunk)
				sent.Add(1 << 16)
				most.Store(max(most.Load(), s.bodies.used.Load()))
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 413 {
			t.Fatal(resp, err)
		}
		c.Close()
		synctest.Wait()
		if sent.Load() > 16<<20 || most.Load() > 1<<20+1 {
			t.Errorf("%d bytes were taken in, %d were held", sent.Load(), most.Load())
		}
		if n := s.bodies.used.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
		if resp, body, err := p.ask("GET", "/v1/kv/b/endless", ""); err != nil || resp.StatusCode != 404 {
			t.Errorf("it was written: %v %s", err, body)
		}
	})
}

// F40, F45: requests whose length can be read in two ways. None lets its body pass for a second request.
func TestFramingIsNotConfused(t *testing.T) {
	const inner = "PUT /v1/kv/b/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
	url, _ := serve(t, newReplica(t), nil)
	addr := strings.TrimPrefix(url, "http://")
	length := func(s string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(s)) }
	chunked := "Transfer-Encoding: chunked\r\n"
	for name, c := range map[string]struct {
		method, fields, body string
		status               string // of the only answer
	}{
		"two lengths":               {"PUT", "Content-Length: 0\r\n" + length(inner), inner, " 400 "},
		"two lengths in one":        {"PUT", fmt.Sprintf("Content-Length: 0, %d\r\n", len(inner)), inner, " 400 "},
		"length with a sign":        {"PUT", "Content-Length: +0\r\n", inner, " 400 "},
		"length in hex":             {"PUT", "Content-Length: 0x0\r\n", inner, " 400 "},
		"empty length":              {"PUT", "Content-Length: \r\n", inner, " 400 "},
		"negative length":           {"PUT", "Content-Length: -1\r\n", inner, " 400 "},
		"length beyond 64 bits":     {"PUT", "Content-Length: 18446744073709551616\r\n", inner, " 400 "},
		"space before the colon":    {"PUT", "Content-Length : 0\r\n", inner, " 400 "},
		"folded length":             {"PUT", fmt.Sprintf("Content-Length:\r\n %d\r\n", len(inner)), inner, " 200 "},
		"unknown coding":            {"PUT", "Transfer-Encoding: gzip\r\n", inner, " 400 "},
		"coding twice":              {"PUT", chunked + chunked, "0\r\n\r\n" + inner, " 400 "},
		"two codings":               {"PUT", "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n" + inner, " 400 "},
		"coding with a tab":         {"PUT", "Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n" + inner, " 400 "},
		"bad chunk size":            {"PUT", chunked, "0x5\r\nabcde\r\n0\r\n\r\n" + inner, " 400 "},
		"negative chunk size":       {"PUT", chunked, "-1\r\nabcde\r\n0\r\n\r\n" + inner, " 400 "},
		"chunk size beyond 64 bits": {"PUT", chunked, "10000000000000005\r\nabcde\r\n0\r\n\r\n" + inner, " 400 "},
		"chunk longer than said":    {"PUT", chunked, "1\r\nabc\r\n0\r\n\r\n" + inner, " 400 "},
		"GET with a body":           {"GET", length(inner), inner, " 404 "},
		"GET with a chunked body":   {"GET", chunked, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner), " 404 "},
		"HEAD with a body":          {"HEAD", length(inner), inner, " 404 "},
		"DELETE with a body":        {"DELETE", length(inner), inner, " 200 "},
		"POST with a body":          {"POST", length(inner), inner, " 405 "},
		"refused, with a body":      {"PUT", "If-Match: *\r\n" + length(inner), inner, " 400 "},
		"too large, with a body":    {"PUT", "Content-Length: 1000000000\r\n", inner, " 413 "},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		key := strings.ReplaceAll(name, " ", "-")
		io.WriteString(conn, c.method+" /v1/kv/b/"+key+" HTTP/1.1\r\nHost: x\r\n"+c.fields+"\r\n"+c.body)
		conn.(*net.TCPConn).CloseWrite()
		said, err := io.ReadAll(conn)
		conn.Close()
		if err != nil {
			t.Errorf("%s: %v after %q", name, err, said)
		}
		if got := string(said); strings.Count(got, "HTTP/1.1 ") != 1 || !strings.HasPrefix(got, "HTTP/1.1"+c.status) {
			t.Errorf("%s: got %q, want one answer, %s", name, got, c.status)
		}
		if resp, body := call(t, "GET", url+"/v1/kv/b/smuggled", ""); resp.StatusCode != 404 {
			t.Errorf("%s: the inner request was executed: %s", name, body)
		}
	}
	// With a coding and a length the coding counts, as RFC 9112 (6.3) says; the value is the chunks, whatever the length is.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "PUT /v1/kv/b/both HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"+chunked+"\r\n5\r\nwhole\r\n0\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 && resp.StatusCode != 400 {
		t.Error(resp, err)
	} else if resp.StatusCode == 200 {
		if _, got := call(t, "GET", url+"/v1/kv/b/both?raw=true", ""); got != "whole" {
			t.Errorf("got %q", got)
		}
	}
}

// F45: odd but legal HTTP, each with the exact answer.
func TestOddRequests(t *testing.T) {
	url, _ := serve(t, newReplica(t), nil)
	addr := strings.TrimPrefix(url, "http://")
	call(t, "PUT", url+"/v1/kv/b/k", "1")
	for name, c := range map[string]struct{ wire, status string }{
		"absolute target":       {"GET http://elsewhere/v1/kv/b/k?raw=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200"},
		"HTTP/1.0":              {"GET /v1/kv/b/k?raw=true HTTP/1.0\r\n\r\n", "200"},
		"HTTP/1.0 without end":  {"PUT /v1/kv/b/old HTTP/1.0\r\n\r\nvalue", "200"}, // no length: an empty value
		"bare line feeds":       {"GET /v1/kv/b/k?raw=true HTTP/1.1\nHost: x\nConnection: close\n\n", "200"},
		"OPTIONS of the server": {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"CONNECT":               {"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\nConnection: close\r\n\r\n", "404"},
		"another expectation":   {"PUT /v1/kv/b/expect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-ok\r\nConnection: close\r\n\r\n1", "417"},
		"HTTP/2 preface":        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
		"later version":         {"GET /v1/kv/b/k HTTP/3.0\r\nHost: x\r\n\r\n", "400"},
		"two hosts":             {"GET /v1/kv/b/k HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"},
		"a method in lower case": {
			"put /v1/kv/b/lower HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1", "405",
		},
		"upgrade is not taken up": {"GET /v1/kv/b/k?raw=true HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n", "200"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, c.wire)
		said, err := io.ReadAll(conn)
		conn.Close()
		if _, status, _ := strings.Cut(string(said), " "); err != nil || !strings.HasPrefix(status, c.status) {
			t.Errorf("%s: got %q, %v, want %s", name, said, err, c.status)
		}
	}
	for key, want := range map[string]int{"expect": 404, "lower": 404, "k": 200} {
		if resp, body := call(t, "GET", url+"/v1/kv/b/"+key, ""); resp.StatusCode != want {
			t.Errorf("%s afterwards: %d %s", key, resp.StatusCode, body)
		}
	}
}

// F45: a client that resets its connection in the middle of a body has written nothing, and leaves nothing behind.
func TestAbortInTheBody(t *testing.T) {
	f := newReplica(t)
	var puts atomic.Int64
	f.put = func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error) {
		puts.Add(1)
		return quorum.WriteResult{Receipt: f.receipt(2)}, nil
	}
	url, s := serve(t, f, nil)
	for _, wire := range []string{
		"Content-Length: 10\r\n\r\n12345", "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000),
		"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + strings.Repeat("x", 100_000),
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "PUT /v1/kv/b/k HTTP/1.1\r\nHost: x\r\n"+wire)
		for limit := time.Now().Add(5 * time.Second); s.bodies.used.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("the body is not being read")
			}
		}
		conn.(*net.TCPConn).SetLinger(0) // Close resets
		conn.Close()
		for limit := time.Now().Add(5 * time.Second); s.requests.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("the request goes on without its client")
			}
		}
	}
	if n := puts.Load(); n != 0 {
		t.Errorf("%d of the bodies were written", n)
	}
	if n := s.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}
