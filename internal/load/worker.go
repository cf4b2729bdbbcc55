package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// worker drives one connection.
type worker struct {
	run      *run
	tally    *tally
	rand     *rand.Rand
	target   int         // index of the node it talks to
	requests []*requests // by target, rendered when first needed
	fails    int         // connections that failed in a row

	mu   sync.Mutex // guards conn against cut
	conn *conn
	gone bool
}

func newWorker(r *run, i int) *worker {
	return &worker{
		run: r, tally: r.tallies[i%len(r.tallies)], rand: rand.New(rand.NewPCG(r.config.Seed, uint64(i))),
		target: i % len(r.targets), requests: make([]*requests, len(r.targets)),
	}
}

// errStopped ends an operation because the run was interrupted.
var errStopped = errors.New("load: stopped")

// cut closes the connection under a blocked operation, for good.
func (w *worker) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	w.drop()
}

// close drops the connection after the last operation.
func (w *worker) close() { w.cut() }

// drop forgets a connection. Callers hold mu. What Close says about a connection that is given up means nothing.
func (w *worker) drop() {
	if w.conn != nil {
		_ = w.conn.net.Close()
		w.conn = nil
	}
}

// connect returns the connection, dialled anew if need be.
func (w *worker) connect(ctx context.Context) (*conn, error) {
	w.mu.Lock()
	c, gone := w.conn, w.gone
	w.mu.Unlock()
	switch {
	case gone:
		return nil, errStopped
	case c != nil:
		return c, nil
	}
	c, err := dial(ctx, w.run.targets[w.target].addr, w.run.config.Timeout)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return nil, errors.Join(errStopped, c.net.Close())
	}
	w.conn = c
	return c, nil
}

// exchange makes one operation and returns its answer. A broken connection is dropped, and the next one goes to the next node.
func (w *worker) exchange(ctx context.Context, kind int, key uint64, now time.Time) (reply, error) {
	c, err := w.connect(ctx)
	if err == nil {
		q := w.requests[w.target]
		if q == nil {
			q = newRequests(&w.run.config, w.run.targets[w.target], w.rand)
			w.requests[w.target] = q
		}
		render := q.read
		if kind != kindRead {
			render = q.write
		}
		var r reply
		if r, err = c.do(render(key), now); err == nil {
			w.fails = 0
			if r.close {
				w.mu.Lock()
				w.drop()
				w.mu.Unlock()
			}
			return r, nil
		}
	}
	w.mu.Lock()
	w.drop()
	w.mu.Unlock()
	w.fails++
	w.target = (w.target + 1) % len(w.run.targets)
	return reply{}, err
}

// pause waits after failures: 1 ms, doubled each time up to 500 ms.
func (w *worker) pause(ctx context.Context) {
	if w.fails == 0 {
		return
	}
	t := time.NewTimer(time.Millisecond << min(w.fails, 9))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// choose picks the kind and key of an operation.
func (w *worker) choose() (kind int, key uint64) {
	if w.rand.IntN(100) < w.run.config.ReadPercent {
		return kindRead, w.run.keys.read(w.rand)
	}
	return kindWrite, w.run.keys.write(w.rand)
}

// operate makes one operation that was due at an instant, and counts it. It returns when it ended.
func (w *worker) operate(ctx context.Context, due, now time.Time) time.Time {
	kind, key := w.choose()
	r, err := w.exchange(ctx, kind, key, now)
	after := time.Now()
	miss := r.status == 404 && r.code == "key_not_found" && kind == kindRead
	measured := !due.Before(w.run.measure)
	switch {
	case w.run.stop.Load() && err != nil:
	case !measured:
		w.run.warm.Add(1)
	case err != nil:
		w.tally.fail(kind, errorCode(err))
	case r.status >= 300 && !miss:
		w.tally.fail(kind, codeOf(r))
	default:
		w.tally.record(kind, after.Sub(due), now.Sub(due), miss)
	}
	if err != nil {
		w.pause(ctx)
		after = time.Now()
	}
	return after
}

func codeOf(r reply) string {
	if r.code != "" {
		return r.code
	}
	return fmt.Sprintf("http_%d", r.status)
}

// closed sends operations one after the other until the end.
func (w *worker) closed(ctx context.Context) {
	for now := time.Now(); now.Before(w.run.end) && !w.run.stop.Load(); {
		now = w.operate(ctx, now, now)
	}
}

// open sends operations as they become due until the schedule is closed.
func (w *worker) open(ctx context.Context, schedule <-chan time.Time) {
	for due := range schedule {
		now := time.Now()
		if w.run.stop.Load() || now.After(w.run.end) && due.Before(w.run.end) && now.Sub(w.run.end) > w.run.config.Timeout {
			continue // drain
		}
		w.run.sent.Add(1)
		w.operate(ctx, due, now)
	}
}

// load writes every key once, over all connections.
func (r *run) load(ctx context.Context, result *Result) error {
	var (
		next, loaded atomic.Uint64
		group        sync.WaitGroup
		mu           sync.Mutex
	)
	failures := map[string]uint64{}
	began := time.Now()
	for _, w := range r.workers {
		group.Go(func() {
			for !r.stop.Load() {
				key := next.Add(1) - 1
				if key >= uint64(r.config.Keys) {
					return
				}
				if code := w.put(ctx, key); code == "" {
					loaded.Add(1)
				} else if !r.stop.Load() {
					mu.Lock()
					failures[code]++
					mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-tick.C:
			if r.config.Progress != nil {
				r.config.Progress(Progress{Phase: "load", Done: loaded.Load(), Total: uint64(r.config.Keys), Past: time.Since(began)})
			}
		}
	}
	result.Loaded, result.LoadFailed, result.LoadTime = loaded.Load(), failures, time.Since(began)
	if result.Loaded == 0 && len(failures) > 0 {
		return fmt.Errorf("load keys: none of %d could be written: %v", r.config.Keys, failures)
	}
	return nil
}

// loadAttempts is how often the load phase tries a key.
const loadAttempts = 8

// put writes one key, again where that may help. It returns why it could not, "" where it could.
func (w *worker) put(ctx context.Context, key uint64) string {
	code := ""
	for attempt := range loadAttempts {
		r, err := w.exchange(ctx, kindWrite, key, time.Now())
		switch {
		case err == nil && r.status < 300:
			return ""
		case err != nil:
			code = errorCode(err)
		default:
			if code = codeOf(r); r.status < 500 {
				return code
			}
			w.fails = attempt + 4
		}
		w.pause(ctx)
		w.fails = attempt + 1
		if w.run.stop.Load() {
			break
		}
	}
	return code
}
