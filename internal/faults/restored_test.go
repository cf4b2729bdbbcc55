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
	"github.com/rondodb/rondo/internal/verify"
)

// F26: an old copy of a node's directory is put back in its place. The node knows it for a copy: it counts on under a new incarnation and
// casts no vote until it has synced with every other owner, so that no quorum read misses what it has forgotten. Then all is there again,
// what was deleted and collected meanwhile stays deleted, and nobody had to do anything.
func TestRestoredCopyOfADataDirectory(t *testing.T) {
	long(t)
	for _, how := range []struct {
		name string
		end  func(c *cluster, p *proc.Process)
	}{
		{"stopped", (*cluster).stop},
		{"killed", func(c *cluster, p *proc.Process) { c.kill(p) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			long(t)
			testSilentLoss(t, func(c *cluster, victim *proc.Process, write func()) {
				how.end(c, victim)
				old := c.copied(victim)
				c.restart(victim)
				c.whole(readyTime)
				write()
				how.end(c, victim)
				c.putBack(victim, old)
			}, false)
		})
	}
}

// F33: bits flip all over the journal of a killed node. It looks like the torn end that a power cut leaves, and what is damaged is dropped:
// until the next exchange that replica votes without it. A test that fails because nothing is missed means that this gap is closed: then
// it belongs into TestDamagedDataDirectory.
func TestJournalDamagedAfterKillIsTakenForItsEnd(t *testing.T) {
	long(t)
	testSilentLoss(t, func(c *cluster, victim *proc.Process, write func()) {
		write()
		c.kill(victim)
		c.must(edit("*.log", func(b []byte) []byte {
			for i := 1000; i < len(b); i += 4000 {
				b[i] ^= 0x10
			}
			return b
		})(victim.Data))
	}, true)
}

// testSilentLoss has lose take acknowledged writes away from one replica. The only other one that has them is down when a replica that
// never had them and the one that lost them are asked: missed tells whether they may then answer that there is nothing. When all are
// back everything is found, and the replicas become equal without a read.
func testSilentLoss(t *testing.T, lose func(c *cluster, victim *proc.Process, write func()), missed bool) {
	c := loopback(t, 3)
	c.start()
	first, behind, victim := c.nodes[0], c.nodes[1], c.nodes[2]
	l := c.newLoad(func(config *verify.Config) {
		config.Bucket = loadBucket
		config.Pace = 10 * time.Millisecond
	})
	l.begin()
	c.written(l, 100)
	l.end()
	c.whole(readyTime)
	gone := numbered("gone", 30)
	for _, key := range gone {
		c.put(c.through(first), key, key, client.Options{W: "all"})
	}
	var keys []string
	var before string
	lose(c, victim, func() {
		for _, key := range gone {
			c.remove(c.through(first), key, client.Options{W: "all"})
		}
		if !missed { // so that nothing but marks is left of them
			t.Logf("%d objects collected", c.collected())
		}
		c.kill(behind)
		keys = c.writeKeys("late", 100)
		before = c.about(victim).Incarnation
	})
	c.kill(first)
	for _, p := range []*proc.Process{behind, victim} {
		c.must(p.Start())
	}
	absent, right, refused := c.asked(keys, behind, victim)
	t.Logf("without the third replica %d of %d acknowledged writes are found, %d reads are refused, %d told not to be there", right, len(keys), refused, absent)
	if absent > 0 != missed {
		t.Errorf("%d of %d acknowledged writes were told not to be there", absent, len(keys))
	}
	if !missed && refused == 0 {
		t.Error("no read was refused: nothing was tested")
	}
	c.must(first.Start())
	t.Logf("equal %v after all are back", c.equal(repairTime).Round(time.Millisecond))
	c.ready(c.nodes...)
	c.whole(readyTime)
	if after := c.about(victim).Incarnation; after == before {
		t.Errorf("%s counts on as incarnation %s with less than it held", victim.Name, after)
	}
	c.holds(keys, "")
	c.absent(gone)
	l.begin()
	c.written(l, 100)
	l.pass()
}

// asked reads keys strictly through two nodes that work with each other, and counts what they say. A wrong value fails the test.
func (c *cluster) asked(keys []string, nodes ...*proc.Process) (absent, right, refused int) {
	c.t.Helper()
	for _, p := range nodes { // each takes the other's writes, also where it has no vote
		c.put(c.through(p), "asked-"+p.Name, p.Name, client.Options{W: "2"})
	}
	for i, key := range keys {
		one := c.through(nodes[i%len(nodes)])
		object, err := one.Get(c.t.Context(), loadBucket, key, client.Options{R: "quorum"})
		var problem *client.Error
		switch {
		case errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound:
			absent++
		case err != nil:
			refused++
		case len(object.Values) != 1 || string(object.Values[0].Data) != key:
			c.t.Errorf("%s: %s", key, object.Raw)
		default:
			right++
		}
	}
	return absent, right, refused
}

// F30: the database of one replica goes back to an older state behind its back, with the identity kept, as a snapshot of the volume does
// it: nothing tells. Nobody reads the keys, and the replicas are equal within a minute. From then on exchanges carry roots only.
func TestSilentDivergenceHeals(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.repairing("exchange")
	c.start()
	victim := c.nodes[2]
	db := filepath.Join(victim.Data, "db")
	c.fill("before", "dw=0", 1000, c.nodes...)
	c.kill(victim)
	older := filepath.Join(t.TempDir(), "db")
	c.must(os.CopyFS(older, os.DirFS(db)))
	c.restart(victim)
	c.whole(readyTime)
	c.fill("after", "dw=0&w=all", 1000, c.nodes...)
	held := c.about(victim).Keys
	c.kill(victim)
	c.must(os.RemoveAll(db))
	c.must(os.CopyFS(db, os.DirFS(older)))
	c.must(victim.Start())
	t.Logf("equal %v after the start", c.equal(repairTime).Round(time.Millisecond))
	c.ready(victim)
	if got := c.about(victim).Keys; got != held {
		t.Errorf("%s holds %d keys, before %d", victim.Name, got, held)
	}
	moved := c.about(victim).Repair.ObjectsReceived // in exchanges that it began; the others count what they sent in theirs
	for _, p := range c.nodes[:2] {
		moved += c.about(p).Repair.ObjectsSent
	}
	if moved < 900 {
		t.Errorf("%d objects were handed to %s: it had forgotten hardly any, and nothing was tested", moved, victim.Name)
	}
	c.quiet()
}

// quiet fails the test unless exchanges go on between replicas that are equal, and carry nothing but roots.
func (c *cluster) quiet() {
	c.t.Helper()
	for _, p := range c.nodes {
		before := c.about(p).Repair
		c.until(repairTime, func(ctx context.Context) error {
			a, err := page(p).About(ctx)
			if err == nil && a.Repair.Exchanges < before.Exchanges+2 {
				err = fmt.Errorf("%s has made %d exchanges", p.Name, a.Repair.Exchanges-before.Exchanges)
			}
			return err
		})
		after := c.about(p).Repair
		count := after.Exchanges - before.Exchanges
		bytes := (after.Bytes - before.Bytes) / count
		c.t.Logf("%s: %d exchanges of %d bytes each", p.Name, count, bytes)
		if moved := after.ObjectsSent + after.ObjectsReceived - before.ObjectsSent - before.ObjectsReceived; moved > 0 {
			c.t.Errorf("%s moved %d objects between replicas that are equal", p.Name, moved)
		}
		if bytes > 32<<10 {
			c.t.Errorf("%s: an exchange between equal replicas takes %d bytes, want the roots of 256 trees", p.Name, bytes)
		}
	}
}
