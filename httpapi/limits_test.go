package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
)

// Beyond its limit of requests the node answers at once, and operators get their answers all the same.
func TestOverload(t *testing.T) {
	f := newReplica(t)
	enter, leave := make(chan struct{}), make(chan struct{})
	f.get = func(context.Context, ring.Key, quorum.ReadOptions) (quorum.ReadResult, error) {
		enter <- struct{}{}
		<-leave
		return quorum.ReadResult{}, nil
	}
	url, s := serve(t, f, func(c *Config) { c.MaxRequests = 3 })
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { call(t, "GET", url+"/v1/kv/b/k", "") })
		<-enter
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		resp, body := call(t, method, url+"/v1/kv/b/k", "")
		if resp.StatusCode != 503 || !strings.Contains(body, "overloaded") || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: got %d %s", method, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/v1/cluster", "/v1/node", "/v1/buckets/b"} {
		if resp, body := call(t, "GET", url+path, ""); resp.StatusCode != 200 {
			t.Errorf("%s under load: got %d %s", path, resp.StatusCode, body)
		}
	}
	close(leave)
	group.Wait()
	if n := s.requests.Load(); n != 0 {
		t.Errorf("%d requests in flight after all", n)
	}
}

// Bodies in memory are bounded together, and what they took is given back.
func TestBodyBudget(t *testing.T) {
	f := newReplica(t)
	url, s := serve(t, f, func(c *Config) { c.MaxValue, c.MaxBodies = 1<<20, 4<<20 })
	enter, leave := make(chan struct{}), make(chan struct{})
	f.put = func(_ context.Context, _ ring.Key, v quorum.Value, _ quorum.WriteOptions) (quorum.WriteResult, error) {
		if len(v.Bytes) > 1000 {
			enter <- struct{}{}
			<-leave
		}
		return quorum.WriteResult{Receipt: f.receipt(2)}, nil
	}
	large := strings.Repeat("x", 1<<20)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { call(t, "PUT", url+"/v1/kv/b/k", large) })
		<-enter
	}
	if resp, body := call(t, "PUT", url+"/v1/kv/b/k", large); resp.StatusCode != 503 || !strings.Contains(body, "overloaded") {
		t.Errorf("a fifth body: got %d %s", resp.StatusCode, body)
	}
	close(leave)
	group.Wait()
	if resp, body := call(t, "PUT", url+"/v1/kv/b/k", "small"); resp.StatusCode != 200 {
		t.Errorf("after that: got %d %s", resp.StatusCode, body)
	}
	if n := s.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// The request's timeout is the coordinator's deadline, and covers the body.
func TestDeadline(t *testing.T) {
	f := newReplica(t)
	var left time.Duration
	f.get = func(ctx context.Context, _ ring.Key, _ quorum.ReadOptions) (quorum.ReadResult, error) {
		at, _ := ctx.Deadline()
		left = time.Until(at)
		return quorum.ReadResult{}, nil
	}
	url, _ := serve(t, f, nil)
	for query, want := range map[string]time.Duration{"": 5 * time.Second, "?timeout=60s": time.Minute, "?timeout=250ms": 250 * time.Millisecond} {
		call(t, "GET", url+"/v1/kv/b/k"+query, "")
		if left > want || left < want-200*time.Millisecond {
			t.Errorf("%q: %v are left, want about %v", query, left, want)
		}
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	began := time.Now()
	fmt.Fprintf(c, "PUT /v1/kv/b/k?timeout=100ms HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n12345")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); resp.StatusCode != 400 || took > 5*time.Second {
		t.Errorf("a body that does not come: got %d after %v", resp.StatusCode, took)
	}
}

// A client that expects 100-continue gets it only once everything else is right.
func TestExpectContinue(t *testing.T) {
	url, _ := serve(t, newReplica(t), nil)
	for query, want := range map[string]string{"": "HTTP/1.1 100 Continue\r\n", "?w=9": "HTTP/1.1 400 Bad Request\r\n"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "PUT /v1/kv/b/k%s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", query)
		got, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v", query, got, err)
		}
		c.Close()
	}
}

// More connections than the limit wait; they are not refused, and not served before another one ends.
func TestConnectionLimit(t *testing.T) {
	url, s := serve(t, newReplica(t), func(c *Config) { c.MaxConnections = 2 })
	addr := strings.TrimPrefix(url, "http://")
	ask := func(c net.Conn) error {
		fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns[:2] {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	third := make(chan error, 1)
	go func() { third <- ask(conns[2]) }()
	select {
	case err := <-third:
		t.Errorf("a connection beyond the limit was served: %v", err)
	case <-time.After(50 * time.Millisecond): // long enough to be served, were it accepted
	}
	conns[0].Close()
	if err := <-third; err != nil {
		t.Error(err)
	}
	if n := s.conns.Load(); n > 2 {
		t.Errorf("%d connections are open", n)
	}
}

// What net/http says by itself is replaced only before a handler runs: a value that looks the same is not.
func TestRejectionNeverTouchesValues(t *testing.T) {
	const own = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	if rejection([]byte(own)) == nil {
		t.Fatal("the answer of net/http is not recognised")
	}
	url, _ := serve(t, newReplica(t), nil)
	for pad := range 3 { // so that it may begin a write of its own
		value := strings.Repeat("x", pad*2048) + own
		call(t, "PUT", url+"/v1/kv/b/k", value)
		if _, got := call(t, "GET", url+"/v1/kv/b/k?raw=true", ""); got != value {
			t.Errorf("got %q", got)
		}
	}
	side, other := net.Pipe()
	defer side.Close()
	defer other.Close()
	c := &conn{Conn: side}
	c.served.Store(true)
	go c.Write([]byte(own))
	b := make([]byte, len(own))
	if _, err := io.ReadFull(other, b); err != nil || string(b) != own {
		t.Errorf("got %q, %v", b, err)
	}
}
