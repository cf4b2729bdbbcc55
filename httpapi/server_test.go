package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// call makes a request over a connection of its own. Without an answer the test fails, and the answer is empty.
func call(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return &http.Response{}, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: read answer: %v", method, url, err)
	}
	return resp, string(b)
}

// Every error of a coordinator has its status, says its figures, and is a problem as the document says.
func TestErrors(t *testing.T) {
	f := newReplica(t)
	url, _ := serve(t, f, nil)
	v := validator(t)
	covered := vclock.Context{Clock: vclock.Clock{}.With(vclock.Dot{Actor: 1, Counter: 1}), Time: 5}
	for _, c := range []struct {
		err     error
		status  int
		code    string
		outcome string
		read    int // status on a read, where it is another
	}{
		{&quorum.Error{Code: quorum.CodeInvalid, Detail: "d"}, 400, "invalid_argument", "not_applied", 0},
		{&quorum.Error{Code: quorum.CodeSiblings, Detail: "d", Context: &covered}, 409, "too_many_siblings", "not_applied", -1},
		{&quorum.Error{Code: quorum.CodeConflict, Detail: "d", Outcome: quorum.NotApplied}, 409, "conflict", "not_applied", -1},
		{&quorum.Error{Code: quorum.CodeUnavailable, Detail: "d", Outcome: quorum.NotApplied, N: 3, Required: 2, Acked: 1}, 503, "quorum_unavailable", "not_applied", 0},
		{&quorum.Error{Code: quorum.CodeUnavailable, Detail: "d", Outcome: quorum.Unknown, N: 3, Required: 2, Acked: 1, Replicas: []quorum.ReplicaReceipt{{Node: "n2", Role: "owner", Error: "no \"answer\"\xff"}}}, 503, "quorum_unavailable", "unknown", 0},
		{&quorum.Error{Code: quorum.CodeOverloaded, Detail: "d", RetryAfter: 1500 * time.Millisecond}, 503, "overloaded", "not_applied", 0},
		{&quorum.Error{Code: quorum.CodeNotReady, Detail: "d"}, 503, "not_ready", "not_applied", 0},
		{&quorum.Error{Code: quorum.CodeTimeout, Detail: "d", Outcome: quorum.Unknown, N: 3, Required: 3, Acked: 2, Durable: 1}, 504, "quorum_timeout", "unknown", 0},
		{fmt.Errorf("wrapped: %w", &quorum.Error{Code: quorum.CodeTimeout, Detail: "d"}), 504, "quorum_timeout", "unknown", 0},
		{&quorum.Error{Code: quorum.CodeInternal, Detail: "d", Outcome: quorum.NotApplied, Err: errors.New("secret")}, 500, "internal", "not_applied", 0},
		{errors.New("secret"), 500, "internal", "unknown", 0},
		{&quorum.Error{Code: "new_code", Detail: "d"}, 500, "internal", "unknown", 0},
	} {
		f.put = func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error) {
			return quorum.WriteResult{}, c.err
		}
		f.get = func(context.Context, ring.Key, quorum.ReadOptions) (quorum.ReadResult, error) {
			return quorum.ReadResult{}, c.err
		}
		for _, method := range []string{"PUT", "DELETE", "GET", "HEAD"} {
			read := method == "GET" || method == "HEAD"
			if read && c.read != 0 {
				continue
			}
			target := url + "/v1/kv/b/k"
			resp, body := call(t, method, target, "")
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s, %v: got %d %s", method, c.err, resp.StatusCode, body)
			}
			req, _ := http.NewRequest(method, target, nil)
			if err := v.Check(req, nil, resp, []byte(body)); err != nil {
				t.Error(err)
			}
			if c.code == "overloaded" && resp.Header.Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", resp.Header.Get("Retry-After"))
			}
			if method == "HEAD" {
				continue
			}
			var p struct {
				Code, Outcome, Context string
				Quorum                 *struct{ N, Required, Acked, Durable int }
				Replicas               []struct{ Node, Error string }
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			wantOutcome := c.outcome
			if read {
				wantOutcome = ""
			}
			if p.Code != c.code || p.Outcome != wantOutcome || strings.Contains(body, "secret") {
				t.Errorf("%s, %v: got %s", method, c.err, body)
			}
			var e *quorum.Error
			if errors.As(c.err, &e) && (p.Quorum != nil) != (e.N > 0) || e != nil && len(p.Replicas) != len(e.Replicas) || e != nil && (e.Context != nil) != (p.Context != "") {
				t.Errorf("%s, %v: got %s", method, c.err, body)
			}
		}
	}
}

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

// A panic is a 500 with a request id and a line in the log; the process and the connection's neighbours go on.
func TestPanic(t *testing.T) {
	f := newReplica(t)
	f.put = func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error) {
		panic("planted")
	}
	var logs bytes.Buffer
	url, _ := serve(t, f, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	resp, body := call(t, "PUT", url+"/v1/kv/b/k", "1")
	var p struct {
		Code, Outcome string
		RequestID     string `json:"request_id"`
	}
	json.Unmarshal([]byte(body), &p)
	if resp.StatusCode != 500 || p.Code != "internal" || p.Outcome != "unknown" || p.RequestID == "" || strings.Contains(body, "planted") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	if !strings.Contains(logs.String(), "planted") || !strings.Contains(logs.String(), p.RequestID) || !strings.Contains(logs.String(), "stack") {
		t.Errorf("the log has: %s", logs.String())
	}
	if resp, body := call(t, "GET", url+"/metrics", ""); resp.StatusCode != 200 || !strings.Contains(body, "rondo_http_panics_total 1\n") {
		t.Errorf("after the panic: got %d, and the panic is not counted", resp.StatusCode)
	}
}

// Without a ring everything on keys is not ready, and says what the node waits for; requests that make no sense are 400 still.
func TestNotReady(t *testing.T) {
	f := newReplica(t)
	f.ready = func() (bool, string) { return false, "waiting for 3 fresh nodes, 2 seen: n1, n2" }
	url, _ := serve(t, f, func(c *Config) { c.Sealer = func() *vclock.Sealer { return nil } })
	for _, path := range []string{"/v1/kv/b/k", "/v1/kv/b", "/readyz"} {
		resp, body := call(t, "GET", url+path, "")
		if resp.StatusCode != 503 || !strings.Contains(body, "not_ready") || !strings.Contains(body, "2 seen: n1, n2") {
			t.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, body := call(t, "PUT", url+"/v1/kv/b/k", "1"); resp.StatusCode != 503 || !strings.Contains(body, `"outcome":"not_applied"`) {
		t.Errorf("PUT: got %d %s", resp.StatusCode, body)
	}
	f.layout = nil
	if resp, body := call(t, "GET", url+"/v1/cluster/ring", ""); resp.StatusCode != 503 {
		t.Errorf("ring: got %d %s", resp.StatusCode, body)
	}
	for path, status := range map[string]int{"/livez": 200, "/v1/kv/b/k?r=x": 400, "/v1/kv/.b/k": 400, "/v1/explain/b/k": 503} {
		if resp, body := call(t, "GET", url+path, ""); resp.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, resp.StatusCode, body, status)
		}
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

// Shutdown lets a request finish, and cuts it off when its own time is over.
func TestShutdown(t *testing.T) {
	for _, patient := range []bool{true, false} {
		f := newReplica(t)
		enter, leave := make(chan struct{}), make(chan struct{})
		f.get = func(ctx context.Context, _ ring.Key, _ quorum.ReadOptions) (quorum.ReadResult, error) {
			close(enter)
			select {
			case <-leave:
			case <-ctx.Done():
				return quorum.ReadResult{}, ctx.Err()
			}
			return quorum.ReadResult{}, nil
		}
		url, s := serve(t, f, nil)
		answered := make(chan int, 1)
		go func() {
			resp, err := http.DefaultTransport.RoundTrip(mustRequest(url + "/v1/kv/b/k"))
			if err != nil {
				answered <- 0
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			answered <- resp.StatusCode
		}()
		<-enter
		limit := 10 * time.Second
		if !patient {
			limit = 20 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(ctx) }()
		if patient {
			for !s.draining.Load() {
				time.Sleep(time.Millisecond) // a poll; Shutdown was just called
			}
			close(leave)
		}
		err := <-done
		cancel()
		if status := <-answered; patient && (err != nil || status != 404) || !patient && err == nil {
			t.Errorf("patient %v: Shutdown says %v, the answer is %d", patient, err, status)
		}
		if n := s.conns.Load(); n != 0 {
			t.Errorf("patient %v: %d connections are left", patient, n)
		}
	}
}

func mustRequest(url string) *http.Request {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		panic(err)
	}
	r.Close = true
	return r
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

// The metrics are there, named and explained as the conventions want, and count.
func TestMetrics(t *testing.T) {
	url, s := serve(t, newReplica(t), nil)
	m := s.Metrics
	for range 3 {
		m.PeerCall("11111111111111111111111111111111", "read", "ok", 2*time.Millisecond)
	}
	m.PeerCall("11111111111111111111111111111111", "new class", "new outcome", time.Millisecond)
	m.Quorum("read", "")
	m.Quorum("write", quorum.CodeTimeout)
	m.Event("conflict", 4)
	m.Event("read_repair", 2)
	m.Event("not known", 2)
	m.ClockSkew("11111111111111111111111111111111", 3*time.Second)
	call(t, "PUT", url+"/v1/kv/b/k", "1")
	call(t, "GET", url+"/v1/kv/b/other", "")
	_, body := call(t, "GET", url+"/metrics", "")
	for _, want := range []string{
		`rondo_http_requests_total{code="200",op="put"} 1`, `rondo_http_requests_total{code="404",op="get"} 1`, `rondo_http_request_seconds_count{op="put"} 1`,
		`rondo_peer_calls_total{class="read",outcome="ok",peer="11111111111111111111111111111111"} 3`, `outcome="other"`, `rondo_peer_call_seconds_count{class="read",`,
		`rondo_quorum_operations_total{op="read",outcome="met"} 1`, `rondo_quorum_operations_total{op="write",outcome="quorum_timeout"} 1`,
		"rondo_conflicts_total 1", "rondo_conflict_siblings_sum 4", "rondo_read_repairs_total 2", "rondo_clock_skew_seconds{", "rondo_store_gets_total 7",
		`rondo_store_fsync_seconds_bucket{file="journal",le="1"} 5`, `rondo_store_fsync_seconds_count{file="journal"} 6`, `rondo_members{health="alive",state="member"} 3`,
		"rondo_ready 1", `rondo_build_info{version="test"} 1`, "go_goroutines", "process_cpu_seconds_total", "rondo_store_keys 5",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not there", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "rondo_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s has no help text", family.GetName())
		}
	}
}

// Many nodes, at once, have figures of their own up to a bound.
func TestPeersAreBounded(t *testing.T) {
	m := NewMetrics()
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range maxPeers {
				m.PeerCall(ring.NodeID(fmt.Sprint(g%2, "-", i)), "write", "ok", time.Millisecond)
			}
		})
	}
	group.Wait()
	if n := len(*m.peers.Load()); n > maxPeers+1 {
		t.Errorf("%d peers have figures", n)
	}
}

// A configuration that cannot work is refused.
func TestConfig(t *testing.T) {
	f := newReplica(t)
	good := Config{Coordinator: f, Buckets: settings{f}, Node: f, Sealer: func() *vclock.Sealer { return nil }}
	for name, change := range map[string]func(*Config){
		"no coordinator": func(c *Config) { c.Coordinator = nil }, "no sealer": func(c *Config) { c.Sealer = nil },
		"large": func(c *Config) { c.MaxValue = 33 << 20 }, "negative": func(c *Config) { c.MaxRequests = -1 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	m := NewMetrics()
	good.Metrics = m
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	if _, err := New(good); err == nil {
		t.Error("two servers share one registry")
	}
}
