package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

// load is clients that write and read all the time, and note what they see. It can begin and end several times before it is
// judged once.
type load struct {
	c      *cluster
	v      *verify.Verifier
	cancel context.CancelFunc
	ended  chan error // gets what Load returned
}

// newLoad makes a light load on all nodes: 6 clients, one operation each in about 20 ms. edit may change it; nil = as it is.
func (c *cluster) newLoad(edit func(*verify.Config)) *load {
	c.t.Helper()
	config := verify.Config{
		Nodes: c.urls(), Names: c.names(), Clients: 6, Pace: 20 * time.Millisecond, Timeout: 2 * time.Second, Seed: 1,
		Settle: time.Minute,
	}
	if edit != nil {
		edit(&config)
	}
	v, err := verify.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	l := &load{c: c, v: v}
	c.t.Cleanup(func() {
		if l.cancel != nil {
			l.cancel()
			<-l.ended
		}
		v.Close()
	})
	return l
}

// underLoad starts the cluster, lets a load and a witness at each node begin, and gives them a while before anything breaks.
func (c *cluster) underLoad(before time.Duration) (*load, *witness) {
	c.t.Helper()
	c.start()
	l := c.newLoad(nil)
	l.begin()
	w := c.watch(c.nodes...)
	c.pass(before)
	return l, w
}

// begin starts the clients.
func (l *load) begin() {
	ctx, cancel := context.WithCancel(l.c.t.Context())
	l.cancel, l.ended = cancel, make(chan error, 1)
	go func() { l.ended <- l.v.Load(ctx) }()
}

// end stops the clients and waits for their last answers.
func (l *load) end() {
	l.c.t.Helper()
	l.cancel()
	err := <-l.ended
	l.cancel = nil
	if err != nil {
		l.c.t.Fatal(err)
	}
}

// note writes an event into the history's log and into the test's.
func (l *load) note(format string, args ...any) {
	l.c.t.Helper()
	text := fmt.Sprintf(format, args...)
	l.v.Note(text)
	l.c.t.Log(text)
}

// finish makes the final reads once all faults are over, and judges; the history is kept where it breaks a promise.
func (l *load) finish() *verify.Result {
	l.c.t.Helper()
	result, err := l.v.Finish(l.c.t.Context())
	if err != nil {
		l.c.t.Fatal(err)
	}
	l.c.t.Logf("%s: %s; converged in %v", result.Verdict(), firstLine(result.Report.String()), result.ConvergedIn.Round(time.Millisecond))
	return result
}

// pass ends the load where it still runs, and fails the test unless the verdict is PASS.
func (l *load) pass() *verify.Result {
	l.c.t.Helper()
	if l.cancel != nil {
		l.end()
	}
	result := l.finish()
	if got, want := result.Verdict(), "PASS"; got != want {
		l.c.t.Errorf("verdict %q, want %q; problems %q, not read %q", got, want, result.Problems, result.NotRead)
		for _, v := range result.Report.Violations[:min(5, len(result.Report.Violations))] {
			l.c.t.Logf("%v\n%s", v, check.Timeline(check.Shrink(result.History, v)))
		}
		l.save(result.History)
	}
	return result
}

// save keeps a history where go test -artifacts keeps files.
func (l *load) save(ops []check.Op) {
	path := filepath.Join(l.c.t.ArtifactDir(), "history.jsonl")
	f, err := os.Create(path)
	if err != nil {
		l.c.t.Error(err)
		return
	}
	if err := check.Save(f, ops); err != nil {
		l.c.t.Error(err)
	}
	if err := f.Close(); err != nil {
		l.c.t.Error(err)
	}
	l.c.t.Logf("the history is in %s (kept with go test -artifacts)", path)
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}

// background runs f beside the test and returns a function that ends it and waits for it.
func background(ctx context.Context, f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { f(ctx) })
	return func() {
		cancel()
		group.Wait()
	}
}
