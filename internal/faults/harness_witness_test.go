package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
)

// witnessTimeout is the deadline of a witness's requests, which the node is told too.
const witnessTimeout = 2 * time.Second

// slack is what an answer may take beyond the deadline that the node was told, on a busy machine.
const slack = time.Second

// witness is one client for each node that writes and reads strictly (r and w a majority of the owners) through that node alone, all the
// time, and notes how each request went. It shows what a client of a single node sees; what is right or wrong is the load's.
type witness struct {
	t    *testing.T
	stop func()

	mu   sync.Mutex
	seen []sighting
}

// sighting is one request of a witness.
type sighting struct {
	Node    string
	At      time.Time
	Took    time.Duration
	Write   bool
	Status  int    // of HTTP; 0 = no answer
	Code    string // of a problem
	Outcome string // of a failed write
	Err     error
}

func (s sighting) ok() bool { return s.Err == nil || s.Status == http.StatusNotFound }

// watch starts a client at each of the nodes. It ends with the test, or with end.
func (c *cluster) watch(nodes ...*proc.Process) *witness {
	c.t.Helper()
	w := &witness{t: c.t}
	var clients []*client.Client
	for _, p := range nodes {
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: witnessTimeout})
		if err != nil {
			c.t.Fatal(err)
		}
		clients = append(clients, one)
	}
	stop := background(c.t.Context(), func(ctx context.Context) {
		var group sync.WaitGroup
		for i, one := range clients {
			group.Go(func() { w.work(ctx, nodes[i].Name, one) })
		}
		group.Wait()
	})
	w.stop = sync.OnceFunc(func() {
		stop()
		for _, one := range clients {
			one.Close()
		}
	})
	c.t.Cleanup(w.stop)
	return w
}

// work makes about 20 requests a second, each on one of 64 keys of this node's client, blind: only the answer counts.
func (w *witness) work(ctx context.Context, node string, one *client.Client) {
	for i := 0; ; i++ {
		began := time.Now()
		key := fmt.Sprint(node, "-", i/2%64)
		var err error
		if i%2 == 0 {
			_, err = one.Put(ctx, "witness", key, []byte(key), client.Options{R: "quorum", W: "quorum", Sloppy: "false"})
		} else {
			_, err = one.Get(ctx, "witness", key, client.Options{R: "quorum", Sloppy: "false"})
		}
		if ctx.Err() != nil {
			return // broken off by the end of the test
		}
		s := sighting{Node: node, At: began, Took: time.Since(began), Write: i%2 == 0, Err: err}
		var problem *client.Error
		if errors.As(err, &problem) {
			s.Status, s.Code, s.Outcome = problem.Status, problem.Code, problem.Outcome
		}
		w.mu.Lock()
		w.seen = append(w.seen, s)
		w.mu.Unlock()
		if !wait(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// between are the requests through these nodes that began at or after from and before to.
func (w *witness) between(from, to time.Time, nodes ...*proc.Process) (out []sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if !s.At.Before(from) && s.At.Before(to) && slices.ContainsFunc(nodes, func(p *proc.Process) bool { return p.Name == s.Node }) {
			out = append(out, s)
		}
	}
	return out
}

// show logs how these requests went, as a figure.
func (w *witness) show(what string, seen []sighting) {
	w.t.Helper()
	good := 0
	for _, s := range seen {
		if s.ok() {
			good++
		}
	}
	w.t.Logf("%s: %d of %d requests succeeded, p50 %v, p99 %v, slowest %v", what, good, len(seen), quantile(seen, 0.5), quantile(seen, 0.99), quantile(seen, 1))
}

// drought is the longest time between from and to in which no request succeeded.
func drought(from, to time.Time, seen []sighting) (longest time.Duration) {
	var ends []time.Time
	for _, s := range seen {
		if s.ok() {
			ends = append(ends, s.At.Add(s.Took))
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	for _, end := range append(ends, to) {
		longest = max(longest, end.Sub(from))
		from = end
	}
	return longest
}

// serves fails the test unless at least 99 % of these requests succeeded, each with an answer in time, and returns the share.
func (w *witness) serves(what string, seen []sighting) float64 {
	w.t.Helper()
	good := 0
	var failed []string
	for _, s := range seen {
		if s.ok() {
			good++
		} else {
			failed = append(failed, "\n  "+s.String())
		}
	}
	if len(seen) < 20 {
		w.t.Errorf("%s: only %d requests: they show nothing", what, len(seen))
		return 0
	}
	share := float64(good) / float64(len(seen))
	w.t.Logf("%s: %d of %d requests succeeded (%.2f %%), p50 %v, p99 %v, slowest %v%s", what, good, len(seen), 100*share,
		quantile(seen, 0.5), quantile(seen, 0.99), quantile(seen, 1), strings.Join(failed[:min(10, len(failed))], ""))
	if share < 0.99 {
		w.t.Errorf("%s: %.2f %% of requests succeeded, want at least 99 %%", what, 100*share)
	}
	return share
}

// answers fails the test unless every one of these requests was answered within its deadline, whatever the answer.
func (w *witness) answers(what string, seen []sighting) {
	w.t.Helper()
	if len(seen) < 5 {
		w.t.Errorf("%s: only %d requests: they show nothing", what, len(seen))
	}
	w.show(what, seen)
	for _, s := range seen {
		if !s.ok() && s.Status == 0 || s.Took > witnessTimeout+slack {
			w.t.Errorf("%s: not answered in time: %v", what, s)
		}
	}
}

// refuses fails the test unless every one of these strict requests was answered 503 or 504 within its deadline, writes with an outcome.
// An answer of 2xx, or a write called unknown that cannot be, is a false claim.
func (w *witness) refuses(what string, seen []sighting) {
	w.t.Helper()
	var wrong []string
	outcomes := map[string]int{}
	for _, s := range seen {
		outcomes[fmt.Sprint(s.Status, " ", s.Code, " ", s.Outcome)]++
		clear := s.Status == http.StatusServiceUnavailable || s.Status == http.StatusGatewayTimeout
		if !clear || s.Took > witnessTimeout+slack || s.Write && s.Outcome != "not_applied" && s.Outcome != "unknown" {
			wrong = append(wrong, s.String())
		}
	}
	if len(seen) < 5 {
		w.t.Errorf("%s: only %d requests: they show nothing", what, len(seen))
		return
	}
	w.t.Logf("%s: %d requests refused: %v; p50 %v, slowest %v", what, len(seen), outcomes, quantile(seen, 0.5), quantile(seen, 1))
	if len(wrong) > 0 {
		w.t.Errorf("%s: %d of %d requests were not refused clearly and in time:\n%s", what, len(wrong), len(seen), strings.Join(wrong[:min(10, len(wrong))], "\n"))
	}
}

// String is the request on one line.
func (s sighting) String() string {
	kind := "GET"
	if s.Write {
		kind = "PUT"
	}
	return fmt.Sprintf("%s %s through %s took %v: %v", s.At.Format("15:04:05.000"), kind, s.Node, s.Took.Round(time.Millisecond), s.Err)
}

// quantile is the time that a share q of the requests took at most.
func quantile(seen []sighting, q float64) time.Duration {
	if len(seen) == 0 {
		return 0
	}
	var took []time.Duration
	for _, s := range seen {
		took = append(took, s.Took)
	}
	slices.Sort(took)
	return took[min(len(took)-1, int(q*float64(len(took))))].Round(100 * time.Microsecond)
}
