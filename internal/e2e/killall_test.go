package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// kill -9 of all nodes at once under load, restarted in another order: the ring is the same, and every acknowledged write is
// there through every node.
func TestKillAll(t *testing.T) {
	nodes := startCluster(t, 3)
	ring := ringOf(t, nodes[0])
	var acked sync.Map
	var written atomic.Int64
	var group sync.WaitGroup
	for client := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprint("c", client, "-", i)
				status, _, err := put(context.Background(), nodes[client%3].url, "all", key, key, "")
				if err != nil {
					return
				}
				if status == http.StatusOK {
					acked.Store(key, true)
					written.Add(1)
				}
			}
		})
	}
	waitFor(t, 20*time.Second, func() bool { return written.Load() > 1000 })
	for _, p := range nodes {
		p.kill()
	}
	group.Wait()
	began := time.Now()
	for _, i := range []int{2, 0, 1} {
		nodes[i].start()
	}
	for _, p := range nodes {
		p.waitReady(30 * time.Second)
		if got := ringOf(t, p); got != ring {
			t.Errorf("%s has ring %s after the restart, before it was %s", p.Name, got, ring)
		}
	}
	t.Logf("all three are ready %v after a restart from kill -9, %d writes acknowledged before", time.Since(began).Round(time.Millisecond), written.Load())
	n := 0
	acked.Range(func(key, _ any) bool {
		n++
		p := nodes[n%3]
		status, body, err := request(context.Background(), "GET", p.url+"/v1/kv/all/"+key.(string)+"?raw=true", nil, nil)
		if err != nil || status != http.StatusOK || string(body) != key.(string) {
			t.Errorf("acknowledged %s through %s: %d %q %v", key, p.Name, status, body, err)
		}
		return !t.Failed()
	})
}

// ringOf is the version and the hash of the ring that a node knows.
func ringOf(t *testing.T, p *process) string {
	t.Helper()
	status, body, err := request(context.Background(), "GET", p.url+"/v1/cluster/ring", nil, nil)
	var v struct {
		Ring uint64
		Hash string
	}
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &v) != nil || v.Hash == "" {
		t.Fatalf("ring of %s: %d %.200s %v", p.Name, status, body, err)
	}
	return strconv.FormatUint(v.Ring, 10) + " " + v.Hash
}
