package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

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
