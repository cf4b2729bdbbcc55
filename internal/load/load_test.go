package load

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a server that keeps values, as far as load looks at them.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	gets   int
	puts   int
	query  string
	kind   string
	slow   func() // called for each request, may be nil
	refuse atomic.Bool
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.slow != nil {
		m.slow()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.query = r.URL.RawQuery
	switch {
	case m.refuse.Load():
		w.WriteHeader(503)
		io.WriteString(w, `{"code":"overloaded"}`)
	case r.Method == "PUT":
		m.puts++
		m.kind = r.Header.Get("Content-Type")
		m.values[r.URL.Path] = body
		io.WriteString(w, `{"context":"c"}`)
	default:
		m.gets++
		v, ok := m.values[r.URL.Path]
		if !ok {
			w.WriteHeader(404)
			io.WriteString(w, `{"code":"key_not_found"}`)
			return
		}
		if m.gets%3 == 0 { // chunked
			w.Write(v[:len(v)/2])
			w.(http.Flusher).Flush()
			v = v[len(v)/2:]
		}
		w.Write(v)
	}
}

func newMemory(t *testing.T) (*memory, string) {
	m := &memory{values: map[string][]byte{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, server.URL
}

func TestClosedLoop(t *testing.T) {
	for _, content := range []string{JSON, Bytes} {
		m, url := newMemory(t)
		phases := map[string]bool{}
		r, err := Run(context.Background(), Config{
			Nodes: []string{url}, Connections: 4, ReadPercent: 50, Keys: 50, Load: true, ValueSize: 300, Content: content, Query: "r=one&dw=0",
			Warmup: 600 * time.Millisecond, Duration: 700 * time.Millisecond, Progress: func(p Progress) { phases[p.Phase] = true },
			PIDs: []int{os.Getpid()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.Loaded != 50 || len(m.values) != 50 {
			t.Errorf("got %d keys loaded, %d stored, want 50", r.Loaded, len(m.values))
		}
		for path, v := range m.values {
			if len(v) != 300 || (content == JSON) != json.Valid(v) || !strings.HasPrefix(path, "/v1/kv/bench/key0000") {
				t.Fatalf("%s: got a value of %d bytes: %.60q", path, len(v), v)
			}
		}
		if r.Reads.Count == 0 || r.Writes.Count == 0 || r.All.Failed() != 0 || r.Reads.Misses != 0 || r.All.Count != r.Reads.Count+r.Writes.Count {
			t.Errorf("got reads %+v writes %+v", r.Reads, r.Writes)
		}
		if sum := uint64(m.gets + m.puts - 50); r.All.Count > sum || r.All.Count < sum/8 {
			t.Errorf("got %d operations measured, the server saw %d", r.All.Count, sum)
		}
		if share := float64(r.Reads.Count) / float64(r.All.Count); share < 0.35 || share > 0.65 {
			t.Errorf("got %.2f of reads, want about 0.5", share)
		}
		l := r.All.Latency
		if !slices.IsSorted([]time.Duration{1, l.Min, l.P50, l.P90, l.P95, l.P99, l.P999, l.P9999, l.Max + l.Max/500}) {
			t.Errorf("got latencies out of order: %+v", l)
		}
		if m.query != "r=one&dw=0" || (m.kind == "application/json") != (content == JSON) {
			t.Errorf("got query %q, content type %q", m.query, m.kind)
		}
		if r.Generator.PerOp <= 0 || r.Target.Total <= 0 || !phases["warmup"] || !phases["measure"] {
			t.Errorf("got CPU %+v and %+v, phases %v", r.Generator, r.Target, phases)
		}
	}
}

// TestOpenLoopChargesStalls stops the server for a while: in an open loop many requests must show the stall, not one per connection.
func TestOpenLoopChargesStalls(t *testing.T) {
	m, url := newMemory(t)
	var began atomic.Pointer[time.Time]
	now := time.Now()
	began.Store(&now)
	m.slow = func() {
		// From 400 to 700 ms after the beginning every request waits until 700 ms.
		if past := time.Since(*began.Load()); past > 400*time.Millisecond && past < 700*time.Millisecond {
			time.Sleep(700*time.Millisecond - past)
		}
	}
	now = time.Now()
	began.Store(&now)
	r, err := Run(context.Background(), Config{Nodes: []string{url}, Connections: 2, Rate: 500, Keys: 10, Warmup: -1, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if due := r.All.Count + r.Unsent; due < 495 || due > 505 || r.All.Count < 100 { // how many are unsent is the machine's matter
		t.Errorf("got %d operations and %d unsent, want about 500 together", r.All.Count, r.Unsent)
	}
	// 150 requests were due in the stall; half of them waited 150 ms or more. One per connection would be 2.
	if r.All.Latency.P90 < 100*time.Millisecond {
		t.Errorf("got p90 %v, want the stall of 300ms to show", r.All.Latency.P90)
	}
	if r.Late.Max < 100*time.Millisecond {
		t.Errorf("got requests sent up to %v after they were due, want the stall to show", r.Late.Max)
	}
}

func TestOpenLoopSaysWhatWasNotSent(t *testing.T) {
	m, url := newMemory(t)
	m.slow = func() { time.Sleep(10 * time.Millisecond) }
	r, err := Run(context.Background(), Config{Nodes: []string{url}, Connections: 1, Rate: 5000, Keys: 10, Warmup: -1, Duration: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if due := r.Unsent + r.All.Count; due < 1400 || due > 1600 || r.Unsent < 500 {
		t.Errorf("got %d sent and %d unsent, want 1500 together and most of them unsent", r.All.Count, r.Unsent)
	}
}

func TestErrorsAreCounted(t *testing.T) {
	m, url := newMemory(t)
	m.refuse.Store(true)
	r, err := Run(context.Background(), Config{Nodes: []string{url}, Connections: 2, Keys: 10, Warmup: -1, Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.All.Count != 0 || r.Writes.Errors["overloaded"] == 0 || r.All.Failed() != r.Writes.Errors["overloaded"] {
		t.Errorf("got %+v, want overloaded only", r.All)
	}
	m.refuse.Store(false)
	r, err = Run(context.Background(), Config{Nodes: []string{url}, Connections: 2, Keys: 10, ReadPercent: 100, Warmup: -1, Duration: 100 * time.Millisecond})
	if err != nil || r.Reads.Misses == 0 || r.Reads.Misses != r.Reads.Count || r.All.Failed() != 0 {
		t.Errorf("got %+v %v, want misses only", r.Reads, err)
	}
}

// TestLostConnections ends every third connection, as a dying node does; the run goes on.
func TestLostConnections(t *testing.T) {
	m, url := newMemory(t)
	var n atomic.Int64
	m.slow = func() {
		if n.Add(1)%3 == 0 {
			panic(http.ErrAbortHandler)
		}
	}
	r, err := Run(context.Background(), Config{Nodes: []string{url}, Connections: 2, Keys: 10, Warmup: -1, Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.All.Count == 0 || r.All.Errors["connection_lost"] == 0 {
		t.Errorf("got %+v, want both successes and lost connections", r.All)
	}
}

func TestInterrupt(t *testing.T) {
	m, url := newMemory(t)
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	m.slow = func() {
		if n.Add(1) == 50 {
			cancel()
		}
	}
	r, err := Run(ctx, Config{Nodes: []string{url}, Connections: 2, Keys: 10, Warmup: -1, Duration: time.Hour})
	if err != nil || !r.Interrupted || r.All.Count < 40 || r.All.Failed() != 0 {
		t.Errorf("got %+v interrupted %v %v, want the 50 operations until then", r.All, r.Interrupted, err)
	}
}

func TestBadConfigs(t *testing.T) {
	for _, c := range []Config{
		{ReadPercent: 101},
		{Keys: -1},
		{Connections: -1},
		{Distribution: "normal"},
		{Content: "xml"},
		{Prefix: "a b"},
		{ValueSize: 5},
		{Rate: -1},
		{Nodes: []string{"https://h"}},
		{Nodes: []string{"http://127.0.0.1:1"}},
		{Nodes: []string{"http://h:p"}},
	} {
		if _, err := Run(context.Background(), c); err == nil {
			t.Errorf("%+v: got no error", c)
		}
	}
}

func TestDistributions(t *testing.T) {
	const keys, draws = 1000, 200_000
	r := rand.New(rand.NewPCG(1, 2))
	counts := map[string][]int{}
	for _, kind := range []string{Uniform, Zipf, Latest} {
		c := newChooser(kind, keys)
		count := make([]int, keys)
		for range draws {
			count[c.read(r)]++ // panics where it is out of range
		}
		counts[kind] = count
	}
	if low, high := slices.Min(counts[Uniform]), slices.Max(counts[Uniform]); low < 100 || high > 320 {
		t.Errorf("uniform: got %d to %d of one key, want about 200", low, high)
	}
	// With theta 0.99 over 1000 keys the first rank has 1/7.73 of all draws, the second half as many.
	if got := counts[Zipf][0]; got < 24_000 || got > 28_000 {
		t.Errorf("zipf: got %d of the first key, want about 25,900", got)
	}
	if got := counts[Zipf][1]; got < 11_500 || got > 15_000 {
		t.Errorf("zipf: got %d of the second key, want about 13,000", got)
	}
	if got := counts[Latest][keys-1]; got < 24_000 {
		t.Errorf("latest: got %d of the newest key, want about 25,900", got)
	}
	c := newChooser(Latest, keys)
	if got := c.write(r); got != keys {
		t.Errorf("latest: got key %d for a write, want a new one, %d", got, keys)
	}
	for _, n := range []int{1, 2, 3} {
		c := newChooser(Zipf, n)
		for range 1000 {
			if k := c.read(r); k >= uint64(n) {
				t.Fatalf("zipf over %d keys: got key %d", n, k)
			}
		}
	}
}

// BenchmarkGenerator is what one operation costs the generator and a bare server together, in one process.
func BenchmarkGenerator(b *testing.B) {
	value := make([]byte, 1024)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(value) }))
	defer server.Close()
	r, err := Run(context.Background(), Config{Nodes: []string{server.URL}, ReadPercent: 100, Duration: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(r.All.Rate, "ops/s")
	b.ReportMetric(float64(r.Generator.PerOp.Nanoseconds()), "cpu-ns/op")
}
