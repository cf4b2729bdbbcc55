package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/chaos"
	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

// withChaos loads a cluster while it is broken for a while, and wants no violation once it is healed.
func withChaos(t *testing.T, c chaos.Config, nodes []*process, last time.Duration, load verify.Config) *verify.Result {
	t.Helper()
	for _, p := range nodes {
		c.Nodes = append(c.Nodes, p.Process)
		load.Nodes, load.Names = append(load.Nodes, p.url), append(load.Names, p.Name)
	}
	v, err := verify.New(load)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	faults := 0
	c.Event = func(e chaos.Event) {
		if e.Over {
			v.Note(fmt.Sprintf("%s is back after %v", e.Node, e.For.Round(time.Millisecond)))
			return
		}
		faults++
		v.Note(fmt.Sprintf("%s: %s for %v", e.Node, e.What, e.For.Round(time.Millisecond)))
	}
	breaker, err := chaos.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), last)
	defer cancel()
	broken := make(chan error, 1)
	go func() {
		defer cancel() // a node that does not come back ends the load too
		broken <- breaker.Run(ctx)
	}()
	if err := v.Load(ctx); err != nil {
		t.Error(err)
	}
	if err := <-broken; err != nil {
		t.Fatal(err)
	}
	result, err := v.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d faults; %s; replicas agree after %v", result.Verdict(), faults, result.Report, result.ConvergedIn.Round(time.Millisecond))
	if got, want := result.Verdict(), "PASS"; got != want || t.Failed() {
		for _, e := range result.Events {
			t.Log(e)
		}
		t.Errorf("verdict: got %q, want %q", got, want)
	}
	if faults < int(last/c.Every)/3 {
		t.Errorf("%d faults in %v, with one meant every %v", faults, last, c.Every)
	}
	return result
}

// One node at a time is killed, frozen or drained, all the while clients work: no promise is broken, and most requests succeed.
func TestGentleChaos(t *testing.T) {
	r := withChaos(t, chaos.Config{Seed: 1, Every: 2 * time.Second}, startCluster(t, 3), span(6*time.Second, 15*time.Second), verify.Config{Seed: 1})
	ok := 0
	for _, o := range r.History {
		if o.Outcome == check.OK {
			ok++
		}
	}
	t.Logf("%d of %d operations succeeded", ok, len(r.History))
	if ok < len(r.History)*8/10 {
		t.Errorf("%d of %d operations succeeded, with one node of three down at a time", ok, len(r.History))
	}
}

// Also several nodes at once, and all: requests fail, and no promise is broken.
func TestHarshChaos(t *testing.T) {
	long(t)
	for _, count := range []int{3, 5} {
		t.Run(fmt.Sprint(count, " nodes"), func(t *testing.T) {
			withChaos(t, chaos.Config{Seed: 2, Level: chaos.Harsh, Every: 2 * time.Second}, startCluster(t, count), 30*time.Second, verify.Config{Seed: 2})
		})
	}
}
