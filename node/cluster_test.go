package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cluster is some nodes in this process, on loopback sockets.
type cluster struct {
	t      testing.TB
	dir    string
	name   string
	expect int
	nodes  map[string]*Node

	acceptLoss bool // of nodes started from now on
}

func newCluster(t testing.TB, name string, expect int) *cluster {
	t.Helper()
	return &cluster{t: t, dir: t.TempDir(), name: name, expect: expect, nodes: map[string]*Node{}}
}

// start opens a node by name; it joins all that run.
func (c *cluster) start(name string) *Node {
	c.t.Helper()
	var join []string
	for _, n := range c.nodes {
		join = append(join, n.GossipAddr())
	}
	n, err := New(Config{
		Data: filepath.Join(c.dir, name), Name: name, Cluster: c.name, HTTP: "127.0.0.1:0", Peer: "127.0.0.1:0", Gossip: "127.0.0.1:0",
		Join: join, Expect: c.expect, Cache: 32 << 20, AcceptLoss: c.acceptLoss,
	}, slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", name))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := n.Open(); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[name] = n
	c.t.Cleanup(func() {
		if c.nodes[name] == n {
			c.stop(name)
		}
	})
	return n
}

// stop drains a node.
func (c *cluster) stop(name string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n := c.nodes[name]
	delete(c.nodes, name)
	if err := n.Close(ctx); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

// three starts a formed cluster of n1, n2 and n3.
func three(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t, "test", 3)
	for i := range 3 {
		c.start("n" + strconv.Itoa(i+1))
	}
	c.awaitReady()
	return c
}

// await polls a condition, and fails the test where it does not come true in time.
func (c *cluster) await(limit time.Duration, what string, condition func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(limit); !condition(); {
		if time.Now().After(deadline) {
			c.t.Fatalf("after %v: not %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond) // a poll, bounded by the deadline
	}
}

func (c *cluster) awaitReady() {
	c.t.Helper()
	c.await(30*time.Second, "ready", func() bool {
		for _, n := range c.nodes {
			if ok, _ := n.Ready(); !ok {
				return false
			}
		}
		return true
	})
}

func (c *cluster) url(name string) string { return "http://" + c.nodes[name].HTTPAddr() }

// do makes a request and returns status, headers and body.
func (c *cluster) do(method, url string, body string, header ...string) (int, http.Header, []byte) {
	c.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

// get decodes the answer of a GET.
func (c *cluster) get(url string, into any) int {
	c.t.Helper()
	status, _, b := c.do("GET", url, "")
	if err := json.Unmarshal(b, into); err != nil {
		c.t.Fatalf("GET %s: %d %s: %v", url, status, b, err)
	}
	return status
}

type ringView struct {
	Ring uint64
	Hash string
}

// ring asks a node which ring it knows.
func (c *cluster) ring(name string) string {
	var v ringView
	if c.get(c.url(name)+"/v1/cluster/ring", &v) != 200 {
		return ""
	}
	return fmt.Sprint(v.Ring, " ", v.Hash)
}
