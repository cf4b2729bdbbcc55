package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A node whose journal went missing while it was down casts no read votes, says so, and serves again once the operator accepts the
// loss; reads with r=all then bring back what it lost.
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
	lost := c.start("n3")
	c.await(10*time.Second, "told why it is not ready", func() bool {
		ok, why := lost.Ready()
		return !ok && strings.Contains(why, "less than it held")
	})
	c.await(10*time.Second, "seen by the others", func() bool {
		status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/new?w=all", "1")
		return status == 200 && strings.Contains(string(b), `"acked":3`)
	})
	for i := range keys { // quorums without its vote
		if status, _, b := c.do("GET", c.url("n"+strconv.Itoa(1+i%3))+"/v1/kv/b/k"+strconv.Itoa(i), ""); status != 200 {
			t.Fatalf("GET k%d with a damaged replica: %d %s", i, status, b)
		}
	}
	if status, _, b := c.do("GET", c.url("n1")+"/v1/kv/b/k1?r=all", ""); status == 200 {
		t.Errorf("r=all with a replica that casts no votes: %d %s", status, b)
	}

	c.stop("n3")
	c.acceptLoss = true
	c.start("n3")
	c.awaitReady()
	for _, name := range []string{"n1", "n2", "n3"} {
		c.await(10*time.Second, "voting again for "+name, func() bool {
			status, _, _ := c.do("GET", c.url(name)+"/v1/kv/b/k0?r=all", "")
			return status == 200
		})
	}
	for i := range keys {
		if status, _, b := c.do("GET", c.url("n2")+"/v1/kv/b/k"+strconv.Itoa(i)+"?r=all", ""); status != 200 {
			t.Fatalf("GET k%d from all: %d %s", i, status, b)
		}
	}
	for i := range keys {
		if _, _, b := c.do("GET", c.url("n3")+"/v1/kv/b/k"+strconv.Itoa(i)+"?r=all", ""); !strings.Contains(string(b), `"agreed":true`) {
			t.Fatalf("k%d was not brought back: %s", i, b)
		}
	}
}
