package e2e

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/check"
)

// workload is concurrent clients that read, merge and write the same few keys through all nodes with contexts, and write
// down what they did.
type workload struct {
	t       *testing.T
	nodes   []*process
	keys    int
	clients int
	began   time.Time

	mu  sync.Mutex
	ops []check.Op
}

// now is the time of the history's clock.
func (w *workload) now() int64 { return int64(time.Since(w.began)) }

func (w *workload) record(op check.Op) check.Op {
	op.Return = w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	op.ID = len(w.ops)
	w.ops = append(w.ops, op)
	return op
}

// read reads a key through a node. With a context the answer must be at least as new.
func (w *workload) read(client string, p *process, key, params, token string) check.Op {
	op := check.Op{Client: client, Kind: check.Read, Node: p.Name, Key: key, ContextIn: token, Invoke: w.now(), Outcome: check.Unknown}
	op.Final, op.Strict = params == finalRead, params == "" || params == finalRead
	header := map[string]string{}
	if token != "" {
		header["Rondo-Context"] = token
	}
	status, body, err := request(context.Background(), "GET", p.url+"/v1/kv/set/"+key+"?timeout=2s"+params, nil, header)
	var answer struct {
		Context string
		Reason  string
		Values  []struct{ Value string }
	}
	if err == nil && json.Unmarshal(body, &answer) == nil && (status == http.StatusOK || status == http.StatusNotFound && answer.Reason == "never_written") {
		op.Outcome, op.ContextOut = check.OK, answer.Context
		for _, v := range answer.Values {
			op.Values = append(op.Values, v.Value)
		}
	}
	return w.record(op)
}

// finalRead asks all replicas.
const finalRead = "&r=all"

// write puts a value that nobody else writes.
func (w *workload) write(client string, p *process, key, value, token string) check.Op {
	op := check.Op{Client: client, Kind: check.Put, Node: p.Name, Key: key, Value: value, ContextIn: token, Strict: true, Invoke: w.now(), Outcome: check.Unknown}
	status, answer, err := put(context.Background(), p.url, "set", key, value, token)
	switch {
	case err != nil:
	case status == http.StatusOK:
		op.Outcome, op.ContextOut = check.OK, answer
	case answer == "not_applied":
		op.Outcome = check.Fail
	}
	return w.record(op)
}

// run works until ctx ends: each client reads a key through one node and writes it through another, with the context of what it
// read, of its last write, or with none. Now and then it reads one replica only, with its context.
func (w *workload) run(ctx context.Context) {
	w.began = time.Now()
	var group sync.WaitGroup
	for i := range w.clients {
		group.Go(func() {
			client := "c" + strconv.Itoa(i)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			last := map[string]string{} // key → newest token of this client
			anyNode := func() *process { return w.nodes[random.IntN(len(w.nodes))] }
			for n := 0; ctx.Err() == nil; n++ {
				key := "k" + strconv.Itoa(random.IntN(w.keys))
				switch random.IntN(6) {
				case 0: // builds on what it knows
				case 1:
					if last[key] != "" {
						w.read(client, anyNode(), key, "&r=1", last[key])
					}
				default:
					if op := w.read(client, anyNode(), key, "", ""); op.Outcome == check.OK {
						last[key] = op.ContextOut
					}
				}
				token := last[key]
				if token == "" || random.IntN(10) == 0 {
					token = check.Fresh // what the client has not been shown is not its to replace
				}
				if op := w.write(client, anyNode(), key, client+"-"+strconv.Itoa(n), token); op.Outcome == check.OK {
					last[key] = op.ContextOut
				}
			}
		})
	}
	group.Wait()
}

// finish reads every key from all replicas through each node, once all nodes are back.
func (w *workload) finish() {
	for _, p := range w.nodes {
		p.waitReady(30 * time.Second)
	}
	for k := range w.keys {
		for _, p := range w.nodes {
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				if op := w.read("final", p, "k"+strconv.Itoa(k), finalRead, ""); op.Outcome == check.OK {
					break
				}
				if time.Now().After(deadline) {
					w.t.Fatalf("no read of k%d from all replicas through %s", k, p.Name)
				}
			}
		}
	}
}

// judge has the checkers read the history.
func (w *workload) judge() {
	report := check.History(w.ops)
	w.t.Log(report.String())
	if len(report.Violations) > 0 {
		w.t.Fail()
	}
	if report.Writes < 100 || report.Finals < w.keys {
		w.t.Errorf("the history is too thin to show anything")
	}
}

// TestConcurrentWriters: the final siblings are exactly the maximal set, and no acknowledged write is lost, while nothing
// breaks, while one node is killed and restarted, and while one node is stopped and continued.
func TestConcurrentWriters(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(ctx context.Context, nodes []*process)
	}{
		{"no fault", func(context.Context, []*process) {}},
		{"kill -9 of one node", func(ctx context.Context, nodes []*process) {
			for i := 0; pause(ctx, 700*time.Millisecond); i++ {
				nodes[i%3].kill()
				pause(ctx, 500*time.Millisecond)
				nodes[i%3].start()
				nodes[i%3].waitReady(30 * time.Second)
			}
		}},
		{"SIGSTOP of one node", func(ctx context.Context, nodes []*process) {
			for i := 0; pause(ctx, 500*time.Millisecond); i++ {
				nodes[i%3].signal(syscall.SIGSTOP)
				pause(ctx, 3*time.Second)
				nodes[i%3].signal(syscall.SIGCONT)
				pause(ctx, time.Second)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			nodes := startCluster(t, 3)
			w := &workload{t: t, nodes: nodes, keys: 12, clients: 8}
			ctx, cancel := context.WithTimeout(t.Context(), span(4*time.Second, 12*time.Second))
			defer cancel()
			var fault sync.WaitGroup
			fault.Go(func() { test.fault(ctx, nodes) })
			w.run(ctx)
			fault.Wait()
			w.finish()
			w.judge()
		})
	}
}

// pause waits, and tells whether there is still time.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
