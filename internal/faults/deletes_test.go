package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
)

// backup is a copy of a node's data directory, taken while the node does not run.
type backup struct{ dir string }

// copied makes a backup of a node that is down.
func (c *cluster) copied(p *proc.Process) backup {
	c.t.Helper()
	b := backup{filepath.Join(c.t.TempDir(), p.Name)}
	c.must(os.CopyFS(b.dir, os.DirFS(p.Data)))
	return b
}

// putBack replaces the data directory of a node that is down by a backup. Which of the two the operator copied and which moved does not
// matter: neither is the directory that the node left.
func (c *cluster) putBack(p *proc.Process, b backup) {
	c.t.Helper()
	c.must(os.RemoveAll(p.Data))
	c.must(os.CopyFS(p.Data, os.DirFS(b.dir)))
}

// blocked waits until a node says that one of the others stops the collection of tombstones, by its name.
func (c *cluster) blocked(by *proc.Process, nodes ...*proc.Process) string {
	c.t.Helper()
	var blocker string
	c.until(collectTime, func(ctx context.Context) error {
		var seen []string
		for _, p := range nodes {
			t, err := page(p).Tombstones(ctx)
			if err != nil {
				return err
			}
			if t.Collected > 0 {
				c.t.Fatalf("%s has collected %d tombstones while %s is away", p.Name, t.Collected, by.Name)
			}
			if blocker = t.Blocker; t.Waiting > 0 && strings.Contains(blocker, by.Name) {
				return nil
			}
			seen = append(seen, fmt.Sprintf("%s: %d wait, %q", p.Name, t.Waiting, t.Blocker))
		}
		return fmt.Errorf("no node names %s as what stops it: %v", by.Name, seen)
	})
	return blocker
}

// F24: keys are deleted while an owner is away, for longer than collection ever waits. Nothing is collected, and whoever asks is told
// why. When the owner is back, no key is, and then the tombstones go.
func TestDeletesWhileAnOwnerIsAway(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	away, rest := c.nodes[2], c.nodes[:2]
	one := c.through(rest[0])
	deleted, kept := numbered("deleted", 100), numbered("kept", 50)
	for _, key := range append(numbered("deleted", 100), kept...) {
		c.put(one, key, key, client.Options{W: "all"})
	}
	c.kill(away)
	c.dead([]*proc.Process{away}, rest)
	for _, key := range deleted {
		c.remove(one, key, client.Options{})
	}
	t.Logf("collection is blocked: %s", c.blocked(away, rest...))
	c.restart(away)
	c.equal(repairTime)
	c.everywhere(deleted, 0)
	c.absent(deleted)
	began := time.Now()
	count := c.collected()
	t.Logf("%d objects collected %v after all were equal", count, time.Since(began).Round(time.Second))
	if count < 3*uint64(len(deleted)) {
		t.Errorf("%d objects were collected on three owners together, want %d", count, 3*len(deleted))
	}
	c.forgotten(deleted)
	c.absent(deleted)
	c.holds(kept, "")
}

// F23, F25: a stand-in keeps hints of a write and of a delete; it is copied, delivers them, and all is deleted and collected, or written
// anew. Then the copy is put back and delivers its hints again, long after: the key that was deleted stays so, and the one that was
// written again stays as it is, although the old tombstone comes late. An owner whose old copy is put back does not bring anything back
// either.
func TestNothingReturnsFromAnOldCopy(t *testing.T) {
	long(t)
	c := loopback(t, 4)
	c.start()
	away, owner, standin := c.nodes[0], c.nodes[2], c.nodes[3]
	late := c.owned("late", 20, c.nodes[:3]...)
	again := c.owned("again", 20, c.nodes[:3]...)
	old := c.owned("old", 20, c.nodes[:3]...)
	one := c.through(c.nodes[1])
	for _, key := range append(append([]string{}, again...), old...) {
		c.put(one, key, "first", client.Options{W: "all"})
	}
	c.kill(away)
	c.dead(c.nodes[:1], c.nodes[1:])
	for _, key := range late {
		if got := c.put(one, key, "first", client.Options{W: "all", Sloppy: "true"}).Receipt; got.Standins != 1 {
			t.Fatalf("%s is acknowledged as %+v, want one stand-in", key, got)
		}
	}
	for _, key := range again {
		c.remove(one, key, client.Options{W: "all", Sloppy: "true"})
	}
	c.kill(standin, owner)
	hints, data := c.copied(standin), c.copied(owner)
	c.restart(standin, owner, away)
	c.whole(readyTime)
	c.delivered(repairTime)
	for _, key := range append(append([]string{}, late...), old...) {
		c.remove(one, key, client.Options{W: "all"})
	}
	t.Logf("%d objects collected", c.collected())
	c.forgotten(late)
	c.forgotten(again)
	for _, key := range again {
		c.put(one, key, "second", client.Options{W: "all"})
	}

	c.kill(standin)
	c.putBack(standin, hints)
	c.restart(standin)
	c.delivered(repairTime)
	m, err := page(standin).Metrics(t.Context())
	c.must(err)
	if got := m.Sum("rondo_hints_delivered_total"); got < float64(len(late)+len(again)) {
		t.Errorf("the copy of %s came back with %v hints, want %d", standin.Name, got, len(late)+len(again))
	}
	c.kill(owner)
	c.putBack(owner, data)
	c.must(owner.Start())
	c.equal(repairTime)
	c.absent(late)
	c.absent(old)
	c.holds(again, "second")
	c.collected()
	c.forgotten(late)
	c.forgotten(old)
	c.everywhere(again, 1)
	c.ready(owner)
}

// Values that expire, some of them while an owner is away, are gone on every node from the same moment on, also for a read of one replica
// and in listings; they do not come back with the owner; and they are collected like tombstones.
func TestExpiryWhileAnOwnerIsAway(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	away, rest := c.nodes[2], c.nodes[:2]
	one := c.through(rest[0])
	const life = 5 * time.Second
	short, kept := numbered("short", 20), numbered("kept", 20)
	began := time.Now()
	for _, key := range short {
		c.put(one, key, key, client.Options{W: "all", TTL: life.String()})
	}
	for _, key := range kept {
		c.put(one, key, "first", client.Options{W: "all", TTL: life.String()})
	}
	c.kill(away)
	for _, key := range kept { // written again, to stay
		c.put(one, key, key, client.Options{})
	}
	c.pass(time.Until(began.Add(life / 2)))
	if _, err := one.Get(t.Context(), loadBucket, short[0], client.Options{R: "quorum"}); err != nil && time.Since(began) < life {
		t.Errorf("%s is gone %v after it was written with a life of %v: %v", short[0], time.Since(began), life, err)
	}
	c.pass(time.Until(time.Now().Add(life))) // all of them have expired
	c.restart(away)
	c.whole(readyTime)
	c.absent(short)
	if _, err := c.through(away).Get(t.Context(), loadBucket, short[0], client.Options{R: "1"}); c.problemOf(err).Code != client.CodeKeyNotFound {
		t.Errorf("%s is there for a read of one replica: %v", short[0], err)
	}
	c.equal(repairTime)
	for _, p := range c.nodes {
		listed, err := c.through(p).List(t.Context(), loadBucket, client.ListOptions{Limit: 1000})
		c.must(err)
		if len(listed.Keys) != len(kept) {
			t.Errorf("%s lists %d keys, want the %d that have not expired", p.Name, len(listed.Keys), len(kept))
		}
	}
	t.Logf("%d objects collected", c.collected())
	c.forgotten(short)
	c.holds(kept, "")
}
