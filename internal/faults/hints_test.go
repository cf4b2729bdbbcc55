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
	generator "github.com/rondodb/rondo/internal/load"
	"github.com/rondodb/rondo/internal/proc"
)

// fill writes count keys of 100 bytes, each once, through these nodes as fast as it goes. Writes that are not acknowledged fail the test.
func (c *cluster) fill(prefix, query string, count int, through ...*proc.Process) {
	c.t.Helper()
	config := generator.Config{
		Bucket: loadBucket, Prefix: prefix, Connections: 16, Keys: count, ValueSize: 100, Query: query, Load: true,
		Duration: time.Millisecond, Warmup: -1, // what is measured afterwards is not wanted
	}
	for _, p := range through {
		config.Nodes = append(config.Nodes, p.URL())
	}
	result, err := generator.Run(c.t.Context(), config)
	c.must(err)
	if failed := result.All.Failed(); failed > 0 {
		c.t.Errorf("%d writes failed: %v", failed, result.All.Errors)
	}
}

// F19: an owner is killed, keys change and go meanwhile, and it returns. With hints alone it gets all of it, and nobody reads a key.
// Paused delivery delivers nothing. The same with 100,000 keys is internal/e2e.TestHintsDeliverEverything.
func TestHintsReachAnOwnerThatWasAway(t *testing.T) {
	c := loopback(t, 3)
	c.repairing("hints")
	c.start()
	away, rest := c.nodes[2], c.nodes[:2]
	one := c.through(rest[0])
	gone := numbered("gone", 50)
	for _, key := range gone {
		c.put(one, key, key, client.Options{W: "all"})
	}
	c.kill(away)
	c.dead([]*proc.Process{away}, rest)
	c.fill("key", "dw=0", 2000, rest...)
	for _, key := range gone {
		c.remove(one, key, client.Options{})
	}
	for _, p := range rest {
		c.must(page(p).PauseHints(t.Context(), true))
	}
	c.until(readyTime, func(ctx context.Context) error {
		kept := int64(0)
		for _, p := range rest {
			h, err := page(p).Hints(ctx)
			if err != nil {
				return err
			}
			kept += h.Count()
		}
		if kept < 2050 {
			return fmt.Errorf("%d hints are kept, want one for each of 2,050 keys", kept)
		}
		return nil
	})
	c.restart(away)
	c.whole(readyTime)
	c.pass(2 * time.Second)
	if got := c.about(away).Keys; got > 100 {
		t.Errorf("%s holds %d keys although delivery is paused", away.Name, got)
	}
	for _, p := range rest {
		c.must(page(p).PauseHints(t.Context(), false))
	}
	took := c.delivered(repairTime)
	c.equal(repairTime)
	t.Logf("2,050 hints delivered %v after delivery was let go on", took.Round(time.Millisecond))
	c.everywhere(gone, 0)
	c.everywhere([]string{"key000000000000", "key000000001999"}, 1)
}

// F5, F19: whom the hints are for is killed again and again while they are delivered, and once those who keep them. Each hint arrives all the
// same: it is forgotten only when it is on the target's disk.
func TestKillsWhileHintsAreDelivered(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.repairing("hints")
	c.start()
	away, rest := c.nodes[2], c.nodes[:2]
	c.kill(away)
	c.dead(c.nodes[2:], rest)
	c.fill("key", "dw=0", 30_000, rest...)
	kept := func() (count int64) {
		for _, p := range rest {
			h, err := page(p).Hints(t.Context())
			c.must(err)
			count += h.Count()
		}
		return count
	}
	left := kept()
	for round := range 4 {
		c.must(away.Start())
		c.until(readyTime, func(context.Context) error {
			if now := kept(); now < left {
				left = now
				return nil
			}
			return errors.New("nothing is delivered")
		})
		if round == 3 {
			c.kill(rest...)
			c.kill(away)
			c.restart(c.nodes...)
			break
		}
		c.kill(away)
		left = kept()
		t.Logf("%s is killed with %d hints left", away.Name, left)
	}
	c.whole(readyTime)
	c.delivered(repairTime)
	c.equal(repairTime)
	if got := c.about(away).Keys; got != 30_000 {
		t.Errorf("%s holds %d keys, want 30,000", away.Name, got)
	}
}

// F20: two owners are down, and what was written meanwhile is kept by one owner and, for the others, by two stand-ins. These lose their
// disks before they can hand it over. Merkle exchange makes the owners equal all the same, and fills the two that lost everything.
func TestHintHoldersLoseTheirDisks(t *testing.T) {
	long(t)
	c := loopback(t, 5)
	c.repairing("exchange") // hints are kept, and not delivered
	c.start()
	left, standins, down := c.nodes[0], c.nodes[1:3], c.nodes[3:]
	keys := c.owned("kept", 40, left, down[0], down[1])
	c.kill(down...)
	c.dead(down, c.nodes[:3])
	one := c.through(standins[0])
	for _, key := range keys {
		if got := c.put(one, key, key, client.Options{W: "2", Sloppy: "true"}).Receipt; got.Standins < 1 {
			t.Fatalf("%s is acknowledged without a stand-in: %+v", key, got)
		}
	}
	c.kill(standins...)
	for _, p := range standins {
		c.must(os.RemoveAll(filepath.Join(p.Data, "db")))
	}
	c.restart(down...)
	for _, p := range standins {
		c.must(p.Start())
	}
	c.whole(readyTime)
	t.Logf("all owners are equal %v after all are back", c.equal(repairTime).Round(time.Millisecond))
	c.everywhere(keys, 1)
	c.holds(keys, "")
	c.ready(standins...)
}

// F22: hints take more room than they may. Writes go on, what is dropped is told by the partitions that now differ, and exchange mends it.
func TestHintsBeyondTheirLimit(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.flags("--hint-limit", "64KiB")
	c.start()
	away, rest := c.nodes[2], c.nodes[:2]
	c.kill(away)
	c.dead([]*proc.Process{away}, rest)
	c.fill("many", "dw=0", 20_000, rest...) // each of them is acknowledged
	divergent, kept := 0, int64(0)
	for _, p := range rest {
		h, err := page(p).Hints(t.Context())
		c.must(err)
		divergent += h.Divergent()
		for _, to := range h.Targets {
			kept = max(kept, to.Bytes)
		}
	}
	t.Logf("at most %d bytes of hints on one node, %d partitions marked as divergent", kept, divergent)
	if divergent == 0 {
		t.Error("nothing is marked as divergent: hints were dropped in silence, or none were")
	}
	if kept > 80<<10 {
		t.Errorf("%d bytes of hints for one node, with a limit of 64 KiB", kept)
	}
	c.restart(away)
	c.whole(readyTime)
	t.Logf("equal after %v", c.equal(repairTime).Round(time.Millisecond))
	c.delivered(repairTime)
}

// F18, F19: hints for an owner are refused nowhere while it only is slow: it gets the writes themselves.
func TestPausedOwnerIsEqualAfterwards(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	l, _ := c.underLoad(time.Second)
	c.must(c.nodes[2].Pause())
	l.note("n3 stands still")
	c.pass(15 * time.Second)
	c.must(c.nodes[2].Resume())
	l.end()
	t.Logf("equal %v after it goes on", c.equal(repairTime).Round(time.Millisecond))
	c.delivered(repairTime)
	l.pass()
}

// problemOf is the problem that an answer tells, or a failure of the test.
func (c *cluster) problemOf(err error) *client.Error {
	c.t.Helper()
	var problem *client.Error
	if !errors.As(err, &problem) {
		c.t.Fatalf("%v, want a problem that a node tells", cmpErr(err))
	}
	return problem
}
