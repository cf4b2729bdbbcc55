package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"

	// What the program under test is made of, so that go test does not take an old result for one of it.
	_ "github.com/rondodb/rondo/internal/load"
	_ "github.com/rondodb/rondo/node"
)

// binary is the rondo program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "rondo-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if _, err := os.ReadDir("../../cmd/rondo"); err != nil { // go test notes what a test looks at
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary, err = proc.Build(dir, buildFlags()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// long skips a test that takes more than some seconds unless it was asked for, and otherwise lets it run beside others.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RONDO_FAULTS") == "" {
		t.Skip("SKIPPED: takes long; set RONDO_FAULTS=1 or run make faults")
	}
	t.Parallel()
}

// lacks skips a test that this machine cannot run, or fails it where RONDO_REQUIRE_FAULTS asks for all of them.
func lacks(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("RONDO_REQUIRE_FAULTS") != "" {
		t.Fatalf("RONDO_REQUIRE_FAULTS is set, and this test cannot run here: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// cluster is nodes that form one ring.
type cluster struct {
	t     *testing.T
	nodes []*proc.Process
}

// loopback makes count nodes n1, n2, … on loopback ports, with their data and logs in a folder of the test, and does not start
// them: what is different about a node (its Data, say) can be set before.
func loopback(t *testing.T, count int) *cluster {
	t.Helper()
	nodes, err := proc.Loopback(binary, t.TempDir(), "faults", count)
	if err != nil {
		t.Fatal(err)
	}
	return newCluster(t, nodes)
}

// planted names a bug of internal/plant that the nodes have, where they are built with the tag planted.
const planted = "RONDO_PLANT"

// newCluster has the nodes killed with the test, and their logs shown where it failed.
func newCluster(t *testing.T, nodes []*proc.Process) *cluster {
	for _, p := range nodes {
		p.Args = append(p.Args, "--cache", "16MiB") // many clusters run at once
		if bug := os.Getenv(planted); bug != "" {
			p.Env = append(p.Env, planted+"="+bug)
		}
	}
	t.Cleanup(func() {
		if err := proc.KillAll(nodes); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			return
		}
		for _, p := range nodes {
			t.Logf("last lines of %s:\n%s", p.Name, p.LogTail(40))
			if err := keep(t, p); err != nil {
				t.Error(err)
			}
		}
	})
	return &cluster{t: t, nodes: nodes}
}

// keep copies a node's log to where go test -artifacts keeps files.
func keep(t *testing.T, p *proc.Process) error {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.ArtifactDir(), p.Name+".log"), b, 0o644)
}

// readyTime is how long a node may take until it serves.
const readyTime = 30 * time.Second

// start runs all nodes, waits until they are ready, and until each sees all others alive.
func (c *cluster) start() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), readyTime)
	defer cancel()
	if err := proc.StartAll(ctx, c.nodes); err != nil {
		c.t.Fatal(err)
	}
	c.whole(readyTime)
}

// restart runs nodes that have ended again, and waits until they are ready.
func (c *cluster) restart(nodes ...*proc.Process) {
	c.t.Helper()
	for _, p := range nodes {
		if err := p.Start(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.ready(nodes...)
}

// ready waits until nodes serve.
func (c *cluster) ready(nodes ...*proc.Process) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), readyTime)
	defer cancel()
	for _, p := range nodes {
		if err := p.WaitReady(ctx); err != nil {
			c.t.Fatal(err)
		}
	}
}

// kill ends nodes at once, as kill -9 does.
func (c *cluster) kill(nodes ...*proc.Process) {
	c.t.Helper()
	if err := proc.KillAll(nodes); err != nil {
		c.t.Fatal(err)
	}
}

// must fails the test on an error.
func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// urls are the base addresses of the nodes.
func (c *cluster) urls() (out []string) {
	for _, p := range c.nodes {
		out = append(out, p.URL())
	}
	return out
}

// names are the names of the nodes.
func (c *cluster) names() (out []string) {
	for _, p := range c.nodes {
		out = append(out, p.Name)
	}
	return out
}

// whole waits until every node sees every other alive, and returns how long that took.
func (c *cluster) whole(limit time.Duration) time.Duration {
	c.t.Helper()
	return c.until(limit, func(ctx context.Context) error {
		for _, p := range c.nodes {
			if got, err := healths(ctx, p); err != nil || got["alive"] != len(c.nodes) {
				return errors.Join(fmt.Errorf("%s sees %v, want %d alive", p.Name, got, len(c.nodes)), err)
			}
		}
		return nil
	})
}

// stable is for how long a cluster must be well before it counts as healed.
const stable = 2 * time.Second

// healed waits until every node sees every other alive and writes to all replicas through itself, and that has stayed so for a while.
// It returns how long it took until it was so for good.
func (c *cluster) healed(limit time.Duration) time.Duration {
	c.t.Helper()
	began := time.Now()
	var well time.Time
	c.until(limit+stable, func(ctx context.Context) error {
		for _, p := range c.nodes {
			got, err := healths(ctx, p)
			if err == nil && got["alive"] != len(c.nodes) {
				err = fmt.Errorf("%s sees %v, want %d alive", p.Name, got, len(c.nodes))
			}
			if err == nil {
				err = writeAll(ctx, p)
			}
			if err != nil {
				well = time.Time{}
				return err
			}
		}
		if well.IsZero() {
			well = time.Now()
		}
		if time.Since(well) < stable {
			return fmt.Errorf("well for %v only", time.Since(well))
		}
		return nil
	})
	return well.Sub(began)
}

// writeAll writes one key through a node to all of its replicas.
func writeAll(ctx context.Context, p *proc.Process) error {
	c, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Put(ctx, "healed", p.Name, []byte("v"), client.Options{W: "all"})
	return err
}

// unseen waits until these nodes have noticed that another is gone: its health is alive with none of them. It returns how long that took.
func (c *cluster) unseen(gone *proc.Process, by ...*proc.Process) time.Duration {
	c.t.Helper()
	return c.until(readyTime, func(ctx context.Context) error {
		for _, p := range by {
			all, err := members(ctx, p)
			if err != nil {
				return err
			}
			for _, m := range all {
				if m.Name == gone.Name && m.Health == "alive" {
					return fmt.Errorf("%s sees %s alive", p.Name, gone.Name)
				}
			}
		}
		return nil
	})
}

// ring is the version and hash of the ring as the first node knows it; all nodes must know the same.
func (c *cluster) ring() string {
	c.t.Helper()
	var first string
	for _, p := range c.nodes {
		one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: 5 * time.Second})
		c.must(err)
		r, err := one.Ring(c.t.Context())
		one.Close()
		c.must(err)
		got := fmt.Sprint(r.Ring, " ", r.Hash)
		if first == "" {
			first = got
		}
		if got != first || r.Ring == 0 {
			c.t.Errorf("%s knows ring %s, %s knows %s", p.Name, got, c.nodes[0].Name, first)
		}
	}
	return first
}

// healths counts the members by their health, as one node sees it.
func healths(ctx context.Context, p *proc.Process) (map[string]int, error) {
	members, err := members(ctx, p)
	count := map[string]int{}
	for _, m := range members {
		count[m.Health]++
	}
	return count, err
}

// members are the members as one node sees them.
func members(ctx context.Context, p *proc.Process) (all []client.Member, err error) {
	c, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	seen, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	return seen.Members, nil
}

// pollTick is the pause between two looks at a condition.
const pollTick = 100 * time.Millisecond

// until polls a condition until it holds, and returns how long that took. A condition that does not hold within the limit fails the
// test with its last error.
func (c *cluster) until(limit time.Duration, condition func(ctx context.Context) error) time.Duration {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	began := time.Now()
	last := errors.New("it was not looked at")
	for ctx.Err() == nil {
		err := condition(ctx)
		if err == nil {
			return time.Since(began)
		}
		if ctx.Err() == nil { // else it says only that the time was up
			last = err
		}
		wait(ctx, pollTick)
	}
	c.t.Fatalf("not within %v: %v", limit, last)
	return 0
}

// wait lets time pass, and tells whether there is more.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// buildFlags are those of the program under test: with a bug planted, where RONDO_PLANT names one, to see that a test finds it.
func buildFlags() []string {
	if os.Getenv(planted) == "" {
		return nil
	}
	return []string{"-tags", "planted"}
}
