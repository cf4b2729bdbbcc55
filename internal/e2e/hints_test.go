package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/inspect"
	"github.com/rondodb/rondo/internal/load"
)

// full tells whether sizes are those that were promised, not those that fit into every run of these tests.
func full() bool { return os.Getenv("RONDO_FULL") != "" }

// sized picks the number of a usual long run, or the one with RONDO_FULL=1.
func sized(usual, all int) int {
	if full() {
		return all
	}
	return usual
}

// pages are the operator pages of nodes.
func pages(nodes ...*process) (all []inspect.Node) {
	for _, p := range nodes {
		all = append(all, inspect.Node{Name: p.Name, URL: p.url})
	}
	return all
}

// holdFor polls until look is content, and returns how long that took; its last complaint fails the test.
func holdFor(t *testing.T, limit time.Duration, look func(ctx context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	for {
		err := look(ctx)
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// write puts count keys once each through these nodes, over 32 connections, and wants every one acknowledged. It returns the time.
func write(t *testing.T, prefix, query string, count int, through ...*process) time.Duration {
	t.Helper()
	config := load.Config{
		Bucket: "many", Prefix: prefix, Keys: count, ValueSize: 100, Connections: 32, Query: query, Load: true,
		Duration: time.Millisecond, Warmup: -1, // what is measured after the loading is not wanted
	}
	for _, p := range through {
		config.Nodes = append(config.Nodes, p.url)
	}
	began := time.Now()
	result, err := load.Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if failed := result.All.Failed(); failed > 0 {
		t.Errorf("%d writes failed: %v", failed, result.All.Errors)
	}
	return time.Since(began)
}

// noted waits until these nodes see so many others alive.
func noted(t *testing.T, alive int, by ...*process) {
	t.Helper()
	holdFor(t, 30*time.Second, func(ctx context.Context) error {
		for _, n := range pages(by...) {
			if err := n.Sees(ctx, alive); err != nil {
				return err
			}
		}
		return nil
	})
}

// An owner is killed, 100,000 keys that it has change meanwhile, and it returns. Hints alone, without Merkle exchange and without any
// read, make it equal to the others: not one of them is lost, and none stays behind.
func TestHintsDeliverEverything(t *testing.T) {
	long(t)
	const keys = 100_000
	nodes := startCluster(t, 3, "--repair", "hints")
	away, rest := nodes[2], nodes[:2]
	write(t, "key", "dw=0", keys, nodes...)
	holdFor(t, time.Minute, func(ctx context.Context) error { return inspect.Equal(ctx, pages(nodes...)) })
	away.kill()
	noted(t, 2, rest...)
	took := write(t, "key", "dw=0", keys, rest...)
	t.Logf("%d keys changed in %v: %.0f/s, with one owner away", keys, took.Round(time.Millisecond), keys/took.Seconds())
	kept := int64(0)
	for _, n := range pages(rest...) {
		h, err := n.Hints(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept += h.Count()
		t.Logf("%s keeps %d hints, %+v", n.Name, h.Count(), h.Targets)
	}
	if kept < keys {
		t.Errorf("%d hints are kept for %d keys", kept, keys)
	}
	if err := inspect.Equal(t.Context(), pages(rest...)); err == nil {
		t.Error("all owners are equal although one is away: nothing is tested")
	}
	began := time.Now()
	away.start()
	away.waitReady(30 * time.Second)
	ready := time.Since(began)
	holdFor(t, 2*time.Minute, func(ctx context.Context) error { return inspect.NoHints(ctx, pages(nodes...)) })
	delivered := time.Since(began)
	t.Logf("ready after %v, all hints delivered after %v: %.0f/s", ready.Round(time.Millisecond), delivered.Round(time.Millisecond), keys/(delivered-ready).Seconds())
	holdFor(t, 5*time.Second, func(ctx context.Context) error { return inspect.Equal(ctx, pages(nodes...)) })
	for _, n := range pages(nodes...) {
		m, err := n.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if exchanges, repairs := m.Sum("rondo_exchanges_total"), m.Sum("rondo_read_repairs_total"); exchanges+repairs > 0 {
			t.Errorf("%s made %v exchanges and %v read repairs: the hints were not alone", n.Name, exchanges, repairs)
		}
	}
}
