package e2e

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// SIGTERM under load: what was acknowledged is there, requests that the node took are finished, it exits 0 within 10 s, and
// the others go on without an error.
func TestDrain(t *testing.T) {
	nodes := startCluster(t, 3)
	stop := make(chan struct{})
	var acked sync.Map
	var others, failedOthers, written atomic.Int64
	var group sync.WaitGroup
	for client := range 12 {
		group.Go(func() {
			p := nodes[client%3]
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := "c" + strconv.Itoa(client) + "-" + strconv.Itoa(i)
				status, answer, err := put(context.Background(), p.url, "drain", key, key, "")
				if p != nodes[2] {
					others.Add(1)
					if err != nil || status != http.StatusOK {
						failedOthers.Add(1)
						t.Errorf("PUT through %s while another node drains: %d %s %v", p.Name, status, answer, err)
					}
				}
				switch {
				case err == nil && status == http.StatusOK:
					acked.Store(key, true)
					written.Add(1)
				case p == nodes[2]:
					return // it is going
				}
			}
		})
	}
	waitFor(t, 10*time.Second, func() bool { return written.Load() > 500 })
	began := time.Now()
	nodes[2].drain()
	took := time.Since(began)
	before := others.Load()
	waitFor(t, 10*time.Second, func() bool { return others.Load() > before+200 })
	close(stop)
	group.Wait()
	lost := 0
	acked.Range(func(key, _ any) bool {
		status, body, err := request(context.Background(), "GET", nodes[0].url+"/v1/kv/drain/"+key.(string)+"?raw=true", nil, nil)
		if err != nil || status != http.StatusOK || string(body) != key.(string) {
			lost++
			t.Errorf("acknowledged %s: %d %q %v", key, status, body, err)
		}
		return lost < 10
	})
	t.Logf("drained in %v under load; %d writes acknowledged, %d through the others, %d of those failed", took.Round(time.Millisecond), written.Load(), others.Load(), failedOthers.Load())
}

// waitFor polls a condition, and fails the test where it does not come true in time.
func waitFor(t *testing.T, limit time.Duration, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v", limit)
		}
	}
}

// A request that never ends, and a peer that never answers, hold a node up for less than ten seconds.
func TestDrainCutsOffTheStuck(t *testing.T) {
	nodes := startCluster(t, 3)
	c, err := net.Dial("tcp", strings.TrimPrefix(nodes[2].url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("PUT /v1/kv/b/k?timeout=60s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")); err != nil {
		t.Fatal(err)
	}
	nodes[1].signal(syscall.SIGSTOP)
	defer nodes[1].signal(syscall.SIGCONT)
	for i := range 5 { // each leaves a late acknowledgement behind
		if status, answer, err := put(context.Background(), nodes[2].url, "b", strconv.Itoa(i), "v", ""); err != nil || status != http.StatusOK {
			t.Errorf("PUT with one of three nodes stopped: %d %s %v", status, answer, err)
		}
	}
	began := time.Now()
	nodes[2].drain()
	t.Logf("drained in %v with a stuck request and a stopped peer", time.Since(began).Round(time.Millisecond))
}
