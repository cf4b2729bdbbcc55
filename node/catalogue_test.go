package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/storage"
)

// keyView is the answer of a GET.
type keyView struct {
	Context string
	Values  []struct{ Value json.RawMessage }
}

// F39: many clients write one key without reading it. Versions are capped, the refusal says what to do, every acknowledged one is
// there to be read, and a write that has read them all leaves one.
func TestHotKey(t *testing.T) {
	const writers, each = 12, 60
	c := three(t)
	var mu sync.Mutex
	acked := map[string]bool{}
	refused, lastRefusal := 0, ""
	var group sync.WaitGroup
	for w := range writers {
		url := c.url("n"+strconv.Itoa(1+w%3)) + "/v1/kv/hot/key"
		group.Go(func() {
			for i := range each {
				value := fmt.Sprint(w*each + i)
				req, err := http.NewRequest("PUT", url, strings.NewReader(value))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Rondo-Context", "none")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				mu.Lock()
				switch resp.StatusCode {
				case 200:
					acked[value] = true
				case 409:
					refused++
					lastRefusal = string(b)
				default:
					t.Errorf("got %d %s", resp.StatusCode, b)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if refused == 0 || !strings.Contains(lastRefusal, "too_many_siblings") || !strings.Contains(lastRefusal, `"not_applied"`) || !strings.Contains(lastRefusal, `"context":"`) {
		t.Errorf("%d refused, the last with %s", refused, lastRefusal)
	}
	t.Logf("%d versions were taken, %d refused", len(acked), refused)
	if len(acked) < 100 || len(acked) > 100+writers { // owners that coordinate at the same moment do not see each other's
		t.Errorf("%d versions were taken, the cap is 100", len(acked))
	}
	var got keyView
	if status := c.get(c.url("n2")+"/v1/kv/hot/key?r=all", &got); status != 200 {
		t.Fatalf("read: %d", status)
	}
	for _, v := range got.Values {
		if !acked[string(v.Value)] {
			t.Errorf("version %s was refused, or is there twice", v.Value)
		}
		delete(acked, string(v.Value))
	}
	for v := range acked {
		t.Errorf("version %s was acknowledged and is gone", v)
	}
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/hot/key", `"merged"`, "Rondo-Context", got.Context); status != 200 {
		t.Fatalf("merge: %d %s", status, b)
	}
	if c.get(c.url("n3")+"/v1/kv/hot/key?r=all", &got); len(got.Values) != 1 || string(got.Values[0].Value) != `"merged"` {
		t.Errorf("after the merge: %d versions", len(got.Values))
	}
}

// F43: a context from before a delete is sent once more, on another node. It brings nothing back, and takes nothing that it did not cover.
func TestContextFromBeforeADelete(t *testing.T) {
	c := three(t)
	path := "/v1/kv/b/replayed"
	_, header, _ := c.do("PUT", c.url("n1")+path, `"first"`)
	old := header.Get("Rondo-Context")
	if status, _, b := c.do("DELETE", c.url("n2")+path, "", "Rondo-Context", old); status != 200 {
		t.Fatalf("delete: %d %s", status, b)
	}
	for i, name := range []string{"n3", "n1"} { // the second finds the first one's value, which the context does not cover
		if status, _, b := c.do("PUT", c.url(name)+path, fmt.Sprintf(`"again %d"`, i), "Rondo-Context", old); status != 200 {
			t.Fatalf("put: %d %s", status, b)
		}
	}
	if status, _, b := c.do("DELETE", c.url("n3")+path, "", "Rondo-Context", old); status != 200 {
		t.Fatalf("second delete: %d %s", status, b)
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		_, header, b := c.do("GET", c.url(name)+path+"?r=all", "")
		if header.Get("Rondo-Siblings") != "2" || strings.Contains(string(b), "first") || !strings.Contains(string(b), "again 0") || !strings.Contains(string(b), "again 1") {
			t.Errorf("%s: got %s", name, b)
		}
	}
}

// F32: bits flip in the tables of one node. It never serves them as data or as absence: every key is read right through every node.
func TestDamagedTablesOfOneNode(t *testing.T) {
	c := three(t)
	const keys = 120
	fill := strings.Repeat("x", 2_000)
	for i := range keys {
		if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k"+strconv.Itoa(i)+"?w=all", strconv.Itoa(i)+" "+fill, "Content-Type", "text/plain"); status != 200 {
			t.Fatalf("PUT: %d %s", status, b)
		}
	}
	c.stop("n3")
	c.start("n3") // the journal becomes a table
	c.stop("n3")
	tables, err := filepath.Glob(filepath.Join(c.dir, "n3", "db", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table to damage: %v", err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1000; at < len(b)/2; at += 9_000 {
			b[at] ^= 1
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n3")
	c.await(30*time.Second, "in the ring", func() bool { return c.ring("n3") == c.ring("n1") })
	c.await(10*time.Second, "reachable", func() bool {
		status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/probe?w=all", "1")
		return status == 200 && strings.Contains(string(b), `"acked":3`)
	})
	for i := range keys { // n3 meets its damage on the way
		path := "/v1/kv/b/k" + strconv.Itoa(i)
		if status, _, b := c.do("GET", c.url("n2")+path+"?r=all", ""); status == 404 || status == 200 && !strings.Contains(string(b), fill) {
			t.Fatalf("GET k%d from all: %d %.60s", i, status, b)
		}
		for _, name := range []string{"n1", "n2"} {
			for _, query := range []string{"?raw=true", "?raw=true&r=1"} {
				status, _, b := c.do("GET", c.url(name)+path+query, "")
				if status != 200 || string(b) != strconv.Itoa(i)+" "+fill {
					t.Fatalf("GET k%d%s through %s: %d %.60s", i, query, name, status, b)
				}
			}
		}
	}
	c.await(30*time.Second, "opened again", func() bool { l := c.nodes["n3"].current(); return l != nil && l.reopened[storage.Damage] == 1 })
	c.awaitReady()
	c.equal("n3", keys)
	if _, _, metrics := c.do("GET", c.url("n3")+"/metrics", ""); !strings.Contains(string(metrics), `rondo_store_reopens_total{cause="damage"} 1`) {
		t.Error("the metrics do not tell")
	}
}

// F26, F36: a node whose database was removed while it was down, after a kill, is no fresh node and no healthy one: its emptiness counts for
// nothing, and it is filled again.
func TestRemovedDatabase(t *testing.T) {
	c := three(t)
	if status, _, b := c.do("PUT", c.url("n1")+"/v1/kv/b/k0?w=all", "1"); status != 200 {
		t.Fatalf("PUT: %d %s", status, b)
	}
	c.stop("n3")
	for _, name := range []string{"db", "clean.json"} {
		if err := os.RemoveAll(filepath.Join(c.dir, "n3", name)); err != nil {
			t.Fatal(err)
		}
	}
	c.start("n3")
	c.await(10*time.Second, "in the ring", func() bool { return c.ring("n3") == c.ring("n1") })
	for range 20 {
		if status, _, b := c.do("GET", c.url("n3")+"/v1/kv/b/k0?r=1&raw=true", ""); status != 200 || string(b) != "1" {
			t.Fatalf("GET through the empty node: %d %s", status, b)
		}
	}
	c.awaitReady()
	c.equal("n3", 1)
}
