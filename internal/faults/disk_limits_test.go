package faults

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/internal/verify"
)

// What a single node cannot notice about its own disk, as it is today. A test here that fails because the damage was noticed means
// that the limit is gone: then it belongs into TestDamagedDataDirectory.

// F26, F33: an old copy of a killed node's directory is put back in its place. The store cannot tell: it counts on under a new
// incarnation and votes for the past, so that an acknowledged write which only one other replica has can be missed, until r=all or a
// repair brings it back. No dot is minted twice, and nothing is lost in the end. Noticing it waits for the exchange of what the
// replicas hold (Merkle trees).
func TestRolledBackReplicaVotesForThePast(t *testing.T) {
	long(t)
	testSilentLoss(t, func(c *cluster, victim *proc.Process, write func()) {
		backup := filepath.Join(t.TempDir(), "backup")
		c.kill(victim)
		c.must(os.CopyFS(backup, os.DirFS(victim.Data)))
		c.restart(victim)
		c.whole(readyTime)
		write()
		c.kill(victim)
		c.must(os.RemoveAll(victim.Data))
		c.must(os.Rename(backup, victim.Data))
	})
}

// F33: a bit flips in the middle of the journal of a killed node. It looks like the torn end that a power cut leaves, and what follows
// it is dropped. Telling one from the other waits for the same exchange.
func TestJournalDamagedAfterKillIsTakenForItsEnd(t *testing.T) {
	long(t)
	testSilentLoss(t, func(c *cluster, victim *proc.Process, write func()) {
		write()
		c.kill(victim)
		c.must(edit("*.log", func(b []byte) []byte {
			b[len(b)/2] ^= 0x10
			return b
		})(victim.Data))
	})
}

// testSilentLoss has lose take acknowledged writes away from one replica, and shows the limit and the way back.
func testSilentLoss(t *testing.T, lose func(c *cluster, victim *proc.Process, write func())) {
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
	var keys []string
	var before string
	lose(c, victim, func() {
		c.kill(behind)
		keys = c.writeKeys("late", 100)
		before = incarnationOf(c, victim)
	})
	c.kill(first) // what it holds counts for nothing now
	c.restart(behind, victim)
	missing, right := 0, 0
	for _, key := range keys {
		c.until(readyTime, func(ctx context.Context) error { // until each has found the other
			one, err := client.New(client.Config{Nodes: []string{behind.URL()}, Timeout: 2 * time.Second})
			c.must(err)
			defer one.Close()
			object, err := one.Get(ctx, loadBucket, key, client.Options{R: "quorum"})
			var problem *client.Error
			switch {
			case errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound:
				missing++
			case err != nil:
				return err
			case len(object.Values) != 1 || string(object.Values[0].Data) != key:
				t.Errorf("%s: %s", key, object.Raw)
			default:
				right++
			}
			return nil
		})
	}
	t.Logf("%d of %d acknowledged writes are not found without the third replica", missing, len(keys))
	if missing == 0 {
		t.Errorf("all %d writes are found: the limit that this test documents is gone", right)
	}
	c.restart(first)
	c.whole(readyTime)
	if after := incarnationOf(c, victim); after == before {
		t.Errorf("%s counts on as incarnation %s with less than it held", victim.Name, after)
	}
	c.exportAll()
	c.found(keys, behind, victim)
	l.begin()
	c.written(l, 100)
	l.pass()
}

// incarnationOf is the actor of the dots that a node mints.
func incarnationOf(c *cluster, p *proc.Process) string {
	c.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: 2 * time.Second})
	c.must(err)
	defer one.Close()
	raw, err := one.Node(c.t.Context())
	c.must(err)
	var node struct{ Incarnation string }
	c.must(json.Unmarshal(raw, &node))
	if node.Incarnation == "" {
		c.t.Fatalf("no incarnation in %s", raw)
	}
	return node.Incarnation
}
