package node

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/storage"
)

// A node whose journal went missing while it was down casts no read votes, says so, is filled again by the others, and serves.
func TestLostJournal(t *testing.T) {
	c := three(t)
	const keys = 200
	for i := range keys {
		if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k"+strconv.Itoa(i), strconv.Itoa(i)+`"`, "Content-Type", "text/plain"); status != 200 {
			t.Fatalf("PUT: %d %s", status, b)
		}
	}
	c.await(10*time.Second, "on all replicas", func() bool {
		status, _, b := c.do("GET", c.url("n1")+"/v1/kv/b/k199?r=all", "")
		return status == 200 && strings.Contains(string(b), `"agreed":true`)
	})
	c.stop("n3")
	logs, err := filepath.Glob(filepath.Join(c.dir, "n3", "db", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no journal: %v", err)
	}
	for _, l := range logs {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n3")
	c.await(10*time.Second, "in the ring", func() bool { return c.ring("n3") == c.ring("n1") })
	for i := range keys { // quorums with or without its vote
		if status, _, b := c.do("GET", c.url("n"+strconv.Itoa(1+i%3))+"/v1/kv/b/k"+strconv.Itoa(i), ""); status != 200 {
			t.Fatalf("GET k%d with a replica that has lost it: %d %s", i, status, b)
		}
	}
	c.awaitReady()
	c.equal("n3", keys)
}

// equal checks that a node holds the keys k0 and so on just as n1 does, without reading them.
func (c *cluster) equal(name string, keys int) {
	c.t.Helper()
	for i := range keys {
		_, _, b := c.do("GET", c.url("n1")+"/v1/explain/b/k"+strconv.Itoa(i), "")
		var explained struct {
			Replicas []struct{ Node, Digest string }
		}
		if err := json.Unmarshal(b, &explained); err != nil {
			c.t.Fatalf("explain: %v: %s", err, b)
		}
		digests := map[string]string{}
		for _, r := range explained.Replicas {
			digests[r.Node] = r.Digest
		}
		if digests[name] == "" || digests[name] != digests["n1"] {
			c.t.Fatalf("k%d: %s", i, b)
		}
	}
}

// What nobody else owns cannot be fetched again: the node says so, and answers for what is left only when its operator accepts the loss.
func TestLossThatNobodyCanMend(t *testing.T) {
	c := newCluster(t, "alone", 1)
	c.start("n1")
	c.awaitReady()
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k", "1"); status != 200 {
		t.Fatalf("PUT: %d %s", status, b)
	}
	c.stop("n1")
	for _, name := range []string{"db", "clean.json"} {
		if err := os.RemoveAll(filepath.Join(c.dir, "n1", name)); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n1")
	c.await(10*time.Second, "in a ring", func() bool { return c.ring("n1") != "" })
	if status, _, b := c.do("GET", c.url("n1")+"/v1/kv/b/k", ""); status != 503 || !strings.Contains(string(b), "casts no read votes") {
		t.Errorf("GET of what may have been lost: %d %s", status, b)
	}
	c.stop("n1")
	c.acceptLoss = true
	c.start("n1")
	c.awaitReady()
	c.await(10*time.Second, "answering for what is left", func() bool {
		status, _, _ := c.do("GET", c.url("n1")+"/v1/kv/b/k", "")
		return status == 404
	})
}

// Damage that a part of the node meets while it starts, here membership, does not end the node: it opens once more, which salvages.
func TestDamageMetWhileStarting(t *testing.T) {
	c := newCluster(t, "alone", 1)
	c.start("n1")
	c.awaitReady()
	pad := make([]byte, 64<<10)
	for i := range pad {
		pad[i] = byte(rand.Uint32()) // so that what lies between two of them has blocks of its own
	}
	for _, name := range []string{"0", "a", "zz"} {
		if err := c.nodes["n1"].current().store.PutMeta(name, pad); err != nil {
			t.Fatal(err)
		}
	}
	c.stop("n1")
	c.start("n1") // the journal becomes a table
	c.stop("n1")
	tables, err := filepath.Glob(filepath.Join(c.dir, "n1", "db", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table to damage: %v", err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := len(b) * 4 / 10; at < len(b)*9/10; at += 100 { // all that the store itself does not read when it opens
			b[at] ^= 1
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n1")
	if got := c.nodes["n1"].current().reopened[storage.Damage]; got != 1 {
		t.Errorf("opened again %d times, want once", got)
	}
}
