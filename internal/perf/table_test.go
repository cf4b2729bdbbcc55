package perf

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/load"
	"github.com/rondodb/rondo/internal/proc"
)

// rounds is how often each figure is taken; the table shows medians. Both sides of a ratio take turns within a round.
func rounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("RONDO_BENCH_ROUNDS"))
	if err != nil {
		return 5
	}
	return max(n, 1)
}

// wanted skips a measurement that was not asked for.
func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("RONDO_BENCH") == "" {
		t.Skip("SKIPPED: a measurement; set RONDO_BENCH=1 or run make bench")
	}
}

const (
	keys = 100_000
	turn = 3 * time.Second // of load on one side
)

func quotient(a, b time.Duration) float64 { return float64(a) / float64(b) }

// sample is one turn of load.
type sample struct {
	rate  float64       // operations per second
	cpu   time.Duration // of all servers, per operation
	p50   time.Duration
	p99   time.Duration
	p999  time.Duration
	count uint64
}

// drive loads servers for a while. Errors fail the test.
func drive(t *testing.T, servers []*proc.Process, config load.Config) sample {
	t.Helper()
	for _, s := range servers {
		config.Nodes = append(config.Nodes, s.URL())
		config.PIDs = append(config.PIDs, s.PID())
	}
	if config.Duration == 0 {
		config.Duration = turn
	}
	config.Keys, config.Warmup = max(config.Keys, 1), 500*time.Millisecond
	result, err := load.Run(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	if result.All.Failed() > 0 || result.All.Count == 0 {
		t.Errorf("%d of %d operations failed: %v", result.All.Failed(), result.All.Count, result.All.Errors)
	}
	l := result.All.Latency
	return sample{result.All.Rate, result.Target.PerOp, l.P50, l.P99, l.P999, result.All.Count}
}

// row is one figure of the table: a ratio with what it must and aims to be.
type row struct {
	name      string
	must, aim float64
	less      bool // smaller is better
	ratios    []float64
}

func (r *row) median() float64 {
	s := slices.Clone(r.ratios)
	slices.Sort(s)
	return s[len(s)/2]
}

func (r *row) verdict() string {
	m := r.median()
	meets := func(bound float64) bool { return r.less && m <= bound || !r.less && m >= bound }
	switch {
	case meets(r.aim):
		return "aim met"
	case meets(r.must):
		return "met"
	}
	return "NOT MET"
}

// TestTable prints what quorum operations cost against a bare server on the same machine. It fails only where an operation
// fails: the figures are for docs/benchmarks.md, not for a machine that others share to judge.
func TestTable(t *testing.T) {
	wanted(t)
	floor := []*proc.Process{startFloor(t)}
	nodes := startCluster(t, 3)
	fill := load.Config{Connections: 64, Keys: keys, Load: true, ReadPercent: 100, Duration: time.Second, Query: "dw=0"}
	drive(t, nodes, fill)

	read := &row{name: "CPU per quorum read (r=2 of 3) / CPU of a bare GET", must: 5, aim: 3, less: true}
	write := &row{name: "CPU per quorum write, dw=0 / CPU of a bare PUT", must: 10, aim: 6, less: true}
	synced := &row{name: "throughput of synced quorum writes / dw=0", must: 0.55, aim: 0.75}
	readOne := &row{name: "p50 at one connection (net/http client), read / bare GET", must: 3, aim: 2, less: true}
	writeOne := &row{name: "p50 at one connection (net/http client), write dw=0 / bare PUT", must: 4.5, aim: 3, less: true}
	readLean := &row{name: "the same with the load generator's own lean client, read / bare GET", less: true}
	writeLean := &row{name: "the same with the load generator's own lean client, write dw=0 / bare PUT", less: true}
	var samples [13][]sample
	names := [13]string{
		"bare GET", "quorum read", "bare PUT", "quorum write, dw=0", "quorum write, synced",
		"bare GET, 1 connection", "quorum read, 1 connection", "bare PUT, 1 connection", "quorum write dw=0, 1 connection",
		"bare GET, 1 connection, net/http client", "quorum read, 1 connection, net/http client",
		"bare PUT, 1 connection, net/http client", "quorum write dw=0, 1 connection, net/http client",
	}
	for range rounds(t) {
		take := func(i int, servers []*proc.Process, connections, reads int, query string) sample {
			s := drive(t, servers, load.Config{Connections: connections, Keys: keys, ReadPercent: reads, Query: query})
			samples[i] = append(samples[i], s)
			return s
		}
		g := take(0, floor, 64, 100, "")
		r := take(1, nodes, 64, 100, "r=2")
		p := take(2, floor, 64, 0, "")
		w := take(3, nodes, 64, 0, "dw=0")
		d := take(4, nodes, 64, 0, "")
		read.ratios = append(read.ratios, quotient(r.cpu, g.cpu))
		write.ratios = append(write.ratios, quotient(w.cpu, p.cpu))
		synced.ratios = append(synced.ratios, d.rate/w.rate)
		g1 := take(5, floor, 1, 100, "")
		r1 := take(6, nodes, 1, 100, "r=2")
		p1 := take(7, floor, 1, 0, "")
		w1 := take(8, nodes, 1, 0, "dw=0")
		readLean.ratios = append(readLean.ratios, quotient(r1.p50, g1.p50))
		writeLean.ratios = append(writeLean.ratios, quotient(w1.p50, p1.p50))
		one := func(i int, servers []*proc.Process, method, query string) time.Duration {
			s := roundTrips(t, servers, method, query)
			samples[i] = append(samples[i], s)
			return s.p50
		}
		readOne.ratios = append(readOne.ratios, quotient(one(10, nodes, "GET", "r=2"), one(9, floor, "GET", "")))
		writeOne.ratios = append(writeOne.ratios, quotient(one(12, nodes, "PUT", "dw=0"), one(11, floor, "PUT", "")))
	}

	var b strings.Builder
	fmt.Fprintf(&b, "\n| load (1 KB values, %d keys, 64 connections; medians of %d turns) | ops/s | CPU µs/op, all servers | p50 | p99 |\n|---|---|---|---|---|\n", keys, len(samples[0]))
	for i, s := range samples {
		m := middle(s)
		fmt.Fprintf(&b, "| %s | %.0f | %.1f | %v | %v |\n", names[i], m.rate, float64(m.cpu.Nanoseconds())/1000, m.p50.Round(time.Microsecond), m.p99.Round(10*time.Microsecond))
	}
	b.WriteString("\n| figure | median | all turns | must | aim | |\n|---|---|---|---|---|---|\n")
	for _, r := range []*row{read, write, synced, readOne, writeOne, readLean, writeLean} {
		var all []string
		for _, x := range r.ratios {
			all = append(all, fmt.Sprintf("%.2f", x))
		}
		if r.must == 0 {
			fmt.Fprintf(&b, "| %s | %.2f | %s | | | for information |\n", r.name, r.median(), strings.Join(all, " "))
			continue
		}
		bound := map[bool]string{true: "≤", false: "≥"}[r.less]
		fmt.Fprintf(&b, "| %s | %.2f | %s | %s %g | %s %g | %s |\n", r.name, r.median(), strings.Join(all, " "), bound, r.must, bound, r.aim, r.verdict())
	}
	t.Log(b.String())
}

// roundTrips sends one request after the other over one connection, as an application with Go's own HTTP client does.
func roundTrips(t *testing.T, servers []*proc.Process, method, query string) sample {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	value := strings.Repeat("x", 1024)
	url := servers[0].URL() + "/v1/kv/bench/key%012d?" + query
	var took []time.Duration
	before, began := cpu(t, servers...), time.Now()
	for i := 0; time.Since(began) < turn; i++ {
		var body io.Reader
		if method == "PUT" {
			body = strings.NewReader(value)
		}
		req, err := http.NewRequest(method, fmt.Sprintf(url, i%keys), body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		sent := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v", req.URL, resp.StatusCode, err)
		}
		took = append(took, time.Since(sent))
	}
	elapsed := time.Since(began)
	used := cpu(t, servers...) - before
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	n := len(took)
	return sample{float64(n) / elapsed.Seconds(), used / time.Duration(n), at(0.5), at(0.99), at(0.999), uint64(n)}
}

// middle takes the median of each figure by itself.
func middle(s []sample) sample {
	median := func(of func(sample) float64) float64 {
		v := make([]float64, len(s))
		for i := range s {
			v[i] = of(s[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return sample{
		rate: median(func(s sample) float64 { return s.rate }),
		cpu:  time.Duration(median(func(s sample) float64 { return float64(s.cpu) })),
		p50:  time.Duration(median(func(s sample) float64 { return float64(s.p50) })),
		p99:  time.Duration(median(func(s sample) float64 { return float64(s.p99) })),
		p999: time.Duration(median(func(s sample) float64 { return float64(s.p999) })),
	}
}

// TestMemory prints the resident memory of a node that holds a million keys of 1 KB with default settings.
func TestMemory(t *testing.T) {
	wanted(t)
	node := startCluster(t, 1)
	drive(t, node, load.Config{Connections: 64, Keys: 1_000_000, Load: true, ReadPercent: 100, Duration: 10 * time.Second, Query: "dw=0"})
	t.Logf("resident memory with 1,000,000 keys of 1 KB, after loading and 10 s of random reads: %d MiB (must: ≤ 1024, aim: ≤ 512)", resident(t, node[0])>>20)
}

// TestSustained prints the latency of writes while 3 GB of new random keys go into one node.
func TestSustained(t *testing.T) {
	wanted(t)
	node := startCluster(t, 1)
	began := time.Now()
	s := drive(t, node, load.Config{
		Connections: 16, Keys: 1, Distribution: load.Latest, ReadPercent: 0, Duration: sustainedFor(), Content: load.Bytes, Query: "dw=0",
	})
	t.Logf("%.2f GB of new keys in %v: %.0f writes/s, p50 %v, p99 %v, p99.9 %v (must: ≤ 50 ms, aim: ≤ 20 ms), no request failed",
		float64(s.count)*1024/1e9, time.Since(began).Round(time.Second), s.rate, s.p50, s.p99, s.p999)
}

// sustainedFor is long enough for 3 GB at some 11,000 writes a second.
func sustainedFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("RONDO_BENCH_SUSTAINED")); err == nil {
		return d
	}
	return 280 * time.Second
}
