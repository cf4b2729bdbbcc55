package node

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Three fresh nodes form exactly one ring, whatever order they start in, and keep it through restarts in any order.
func TestFirstRingAndRestarts(t *testing.T) {
	for _, order := range [][]string{{"n1", "n2", "n3"}, {"n3", "n1", "n2"}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			c := newCluster(t, "test", 3)
			for _, name := range order {
				c.start(name)
			}
			c.awaitReady()
			ring := c.ring("n1")
			for _, name := range order {
				if got := c.ring(name); got != ring {
					t.Fatalf("%s has ring %s, n1 has %s", name, got, ring)
				}
			}
			for _, name := range []string{"n2", "n3", "n1"} {
				c.stop(name)
			}
			for _, name := range []string{"n3", "n1", "n2"} {
				c.start(name)
			}
			c.awaitReady()
			for _, name := range order {
				if got := c.ring(name); got != ring {
					t.Errorf("after a restart of all, %s has ring %s, want %s", name, got, ring)
				}
			}
		})
	}
}

// A node that comes after the ring formed serves requests, owns nothing, and says so.
func TestLateNode(t *testing.T) {
	c := three(t)
	late := c.start("n4")
	c.await(10*time.Second, "knows the ring", func() bool { return c.ring("n4") == c.ring("n1") })
	if status, _, b := c.do("PUT", c.url("n4")+"/v1/kv/b/k", `{"a":1}`); status != 200 {
		t.Fatalf("PUT through the late node: %d %s", status, b)
	}
	if status, _, b := c.do("GET", c.url("n4")+"/v1/kv/b/k?raw=true", ""); status != 200 || string(b) != `{"a":1}` {
		t.Errorf("GET through the late node: %d %s", status, b)
	}
	ok, why := late.Ready()
	if ok || !strings.Contains(why, "not a member") {
		t.Errorf("the late node says ready %v, %q", ok, why)
	}
	if status, _, b := c.do("GET", c.url("n4")+"/readyz", ""); status != 503 {
		t.Errorf("/readyz of the late node: %d %s", status, b)
	}
}

// With one of three nodes stopped, quorums go on; with two, the answer is an honest and quick 503.
func TestNodesStop(t *testing.T) {
	c := three(t)
	c.stop("n3")
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k", "1"); status != 200 {
		t.Fatalf("PUT with two of three: %d %s", status, b)
	}
	if status, _, b := c.do("GET", c.url("n2")+"/v1/kv/b/k?raw=true", ""); status != 200 || string(b) != "1" {
		t.Errorf("GET with two of three: %d %s", status, b)
	}
	c.stop("n2")
	c.await(10*time.Second, "refused at once", func() bool {
		began := time.Now()
		status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k", "2")
		return status == 503 && strings.Contains(string(b), `"not_applied"`) && strings.Contains(string(b), "quorum_unavailable") && time.Since(began) < time.Second
	})
	if status, _, b := c.do("GET", c.url("n1")+"/v1/kv/b/k?r=1&raw=true", ""); status != 200 {
		t.Errorf("GET r=1 of the last node: %d %s", status, b)
	}
	c.start("n3")
	c.await(10*time.Second, "writable again", func() bool {
		status, _, _ := c.do("PUT", c.url("n1")+"/v1/kv/b/k", "3")
		return status == 200
	})
}

// Bucket settings are on every node within 2 s, survive restarts, and reach a node that was away.
func TestBucketSettings(t *testing.T) {
	c := three(t)
	c.stop("n3")
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/buckets/logs", `{"n":2,"w":"one","resolve":"lww"}`); status != 503 && status != 200 {
		t.Fatalf("PUT bucket: %d %s", status, b)
	}
	c.start("n3")
	c.awaitReady()
	c.await(10*time.Second, "settable with all members up", func() bool {
		status, _, _ := c.do("PUT", c.url("n1")+"/v1/buckets/logs", `{"n":2,"w":"one","resolve":"lww"}`)
		return status == 200
	})
	c.await(2*time.Second, "on every node", func() bool { return c.settled("logs") })
	c.stop("n2")
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/buckets/logs", `{"n":2,"w":"one","resolve":"siblings"}`); status != 200 {
		t.Fatalf("PUT bucket with one node away: %d %s", status, b)
	}
	c.start("n2")
	c.awaitReady()
	c.await(5*time.Second, "on the node that was away", func() bool { return c.settled("logs") && strings.Contains(c.bucket("n2", "logs"), "siblings") })
}

func (c *cluster) bucket(node, bucket string) string {
	_, _, b := c.do("GET", c.url(node)+"/v1/buckets/"+bucket, "")
	return string(b)
}

func (c *cluster) settled(bucket string) bool {
	first := ""
	for name := range c.nodes {
		got := c.bucket(name, bucket)
		if first == "" {
			first = got
		}
		if got != first || !strings.Contains(got, `"n":2`) {
			return false
		}
	}
	return true
}

// Siblings are kept, shown, and merged with the context.
func TestFirstConflict(t *testing.T) {
	c := three(t)
	for i, name := range []string{"n1", "n3"} {
		if status, _, b := c.do("PUT", c.url(name)+"/v1/kv/carts/bob", fmt.Sprintf(`["%d"]`, i), "Rondo-Context", "none"); status != 200 {
			t.Fatalf("PUT: %d %s", status, b)
		}
	}
	_, header, b := c.do("GET", c.url("n2")+"/v1/kv/carts/bob", "")
	if header.Get("Rondo-Siblings") != "2" {
		t.Fatalf("want two siblings: %s", b)
	}
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/carts/bob", `["0","1"]`, "Rondo-Context", header.Get("Rondo-Context")); status != 200 {
		t.Fatalf("PUT the merge: %d %s", status, b)
	}
	if _, header, b := c.do("GET", c.url("n3")+"/v1/kv/carts/bob", ""); header.Get("Rondo-Siblings") != "1" {
		t.Errorf("want one value after the merge: %s", b)
	}
}

// A start that fails because an address is taken leaves no ring behind, so that the next one, with other flags, may join.
func TestFailedStartFormsNothing(t *testing.T) {
	c := newCluster(t, "test", 1)
	first := c.start("n1")
	dir := filepath.Join(c.dir, "n2")
	n, err := New(Config{Data: dir, Name: "n2", Cluster: "other", HTTP: "127.0.0.1:0", Peer: "127.0.0.1:0", Gossip: first.GossipAddr()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("open with a taken gossip address: %v", err)
	}
	late := c.start("n2") // the same data directory, in the cluster of n1
	c.await(10*time.Second, "in the ring of n1", func() bool { return c.ring("n2") == c.ring("n1") })
	if ok, _ := late.Ready(); ok {
		t.Error("the second node says that it is a member of a ring")
	}
}
