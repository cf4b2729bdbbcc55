package apitest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

func testMethods(c *client) {
	key := "/v1/kv/" + fresh("methods-") + "/k"
	for _, r := range []struct{ path, allow string }{
		{key, "GET, HEAD, PUT, DELETE"},
		{"/v1/kv/b", "GET, HEAD"},
		{"/v1/buckets", "GET, HEAD"},
		{"/v1/buckets/b", "GET, HEAD, PUT, DELETE"},
		{"/v1/explain/b/k", "GET, HEAD"},
		{"/v1/cluster", "GET, HEAD"},
		{"/v1/node", "GET, HEAD"},
		{"/livez", "GET, HEAD"},
		{"/readyz", "GET, HEAD"},
		{"/metrics", "GET, HEAD"},
		{"/openapi.json", "GET, HEAD"},
		{"/", "GET, HEAD"},
		{"/problems/conflict", "GET, HEAD"},
		{"/v1/cluster/ring", "GET, HEAD, POST"},
		{"/v1/repair", "POST"},
		{"/v1/hints", "GET, HEAD, POST"},
		{"/v1/tombstones", "GET, HEAD"},
		{"/v1/cluster/ring/change", "DELETE"},
	} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "FOO"} {
			if strings.Contains(r.allow, method) {
				continue
			}
			a := c.want(405, Request{Method: method, Target: r.path})
			if got := a.Header.Get("Allow"); got != r.allow {
				c.t.Errorf("%s %s: Allow is %q, want %q", method, r.path, got, r.allow)
			}
		}
	}
	c.want(404, get(key))
}

func testPaths(c *client) {
	for _, path := range []string{"/v1", "/v1/", "/v2/kv/b/k", "/v1/kv", "/v1/KV/b/k", "/kv/b/k", "/v1/cluster/", "/v1/cluster/nodes", "/livez/", "//", "/v1//kv/b/k", "/v1/../v1/kv/b/k", "/v1/./node", "/favicon.ico", "/problems/x", "/problems/", "/debug/pprof/", "/v1%2Fkv/b/k", "/.%2e/livez"} {
		c.untouched = strings.HasPrefix(path, "/problems/")
		c.want(404, get(path))
		c.want(404, Request{Method: "HEAD", Target: path})
		c.untouched = false
	}
	for code, status := range codeStatus {
		a := c.want(200, get("/problems/"+code))
		if !strings.Contains(string(a.Body), code) || !strings.Contains(string(a.Body), fmt.Sprint(status)) {
			c.t.Errorf("/problems/%s: %s", code, a.Body)
		}
	}
}

func testNotYet(c *client) {
	for _, r := range []Request{
		{Method: "POST", Target: "/v1/cluster/ring", Body: []byte(`{"add":["n4"],"dry_run":true}`)},
		{Method: "DELETE", Target: "/v1/cluster/ring/change"},
		{Method: "GET", Target: "/v1/cluster/safe-to-stop?node=n1"},
		{Method: "PUT", Target: "/v1/kv/b/k", Body: []byte("1"), Header: []string{"If-Match", `"x"`}},
	} {
		c.refused(r, "not yet")
	}
}

func testOperators(c *client) {
	c.want(200, get("/livez"))
	c.want(200, get("/readyz"))
	c.want(200, Request{Method: "HEAD", Target: "/livez"})
	var cluster struct {
		Ring    uint64
		Members []struct{ Name, ID, State, Health string }
	}
	a := c.want(200, get("/v1/cluster"))
	if err := json.Unmarshal(a.Body, &cluster); err != nil || cluster.Ring == 0 || len(cluster.Members) < c.options.Members {
		c.t.Errorf("/v1/cluster: %v: %s", err, a.Body)
	}
	var ring struct {
		Ring       uint64
		Hash       string
		Partitions []struct {
			ID     int
			Owners []string
		}
	}
	a = c.want(200, get("/v1/cluster/ring"))
	if err := json.Unmarshal(a.Body, &ring); err != nil || ring.Ring != cluster.Ring || len(ring.Hash) != 16 || len(ring.Partitions) == 0 {
		c.t.Errorf("/v1/cluster/ring: %v: %s", err, short(string(a.Body)))
	}
	for i, p := range ring.Partitions {
		if p.ID != i || len(p.Owners) != min(3, c.options.Members) {
			c.t.Errorf("partition %d: %+v", i, p)
		}
	}
	var node struct{ Name, ID, HTTP, Peer, Gossip, Incarnation string }
	if a = c.want(200, get("/v1/node")); json.Unmarshal(a.Body, &node) != nil || node.Name == "" || node.ID == "" || node.HTTP == "" || node.Incarnation == "" {
		c.t.Errorf("/v1/node: %s", a.Body)
	}
	for _, path := range []string{"/v1/cluster?x=1", "/v1/cluster/ring?n=8", "/v1/node?x"} {
		c.refused(get(path), "")
	}
	if a = c.want(200, get("/")); strings.Count(string(a.Body), "\n") != 5 {
		c.t.Errorf("the hint has not five lines: %s", a.Body)
	}
	if a = c.want(200, get("/metrics")); !strings.Contains(string(a.Body), "rondo_http_requests_total{") || !strings.Contains(string(a.Body), "go_goroutines") {
		c.t.Error("/metrics lacks the most usual figures")
	}
	c.want(200, get("/openapi.json"))
	a = c.want(200, get("/livez", "X-Request-Id", "my-request.1"))
	if a.Header.Get("X-Request-Id") != "my-request.1" {
		c.t.Errorf("X-Request-Id is not echoed: %v", a.Header)
	}
	a = c.want(404, get("/v1/kv/b/"+fresh("k"), "X-Request-Id", "not valid"))
	if id := a.Header.Get("X-Request-Id"); id == "" || id == "not valid" {
		c.t.Errorf("X-Request-Id of an error is %q", id)
	}
	c.testExplain()
}

func (c *client) testExplain() {
	bucket := fresh("explain-")
	c.want(200, put("/v1/kv/"+bucket+"/a%2Fb?w=all", `{"a":1}`))
	var e struct {
		Key        key
		Partition  int
		Token      string
		Preference []string
		Replicas   []struct {
			Node, Role, Digest, Error string
			Found                     bool
			Values                    []version
			Tombstones                int
		}
	}
	a := c.want(200, get("/v1/explain/"+bucket+"/a/b"))
	if err := json.Unmarshal(a.Body, &e); err != nil || e.Key != "a/b" || len(e.Token) != 16 || len(e.Preference) < c.options.Members || len(e.Replicas) < 3 {
		c.t.Fatalf("explain: %v: %s", err, a.Body)
	}
	for _, r := range e.Replicas[:3] {
		if r.Role != "owner" || !r.Found || len(r.Values) != 1 || r.Digest != e.Replicas[0].Digest || len(r.Digest) != 16 || r.Node == "" {
			c.t.Errorf("replica %+v", r)
		}
	}
	a = c.want(200, get("/v1/explain/"+bucket+"/%ff"))
	if err := json.Unmarshal(a.Body, &e); err != nil || e.Key != "\xff" || e.Replicas[0].Found {
		c.t.Errorf("explain a key that is not there: %v: %s", err, a.Body)
	}
	c.want(404, get("/v1/explain/"+bucket))
	c.refused(get("/v1/explain/"+bucket+"/"), "key")
	c.refused(get("/v1/explain/"+bucket+"/k?r=1"), "unknown")
}

// testBrokenRequests sends what is not HTTP, or too much of it.
func testBrokenRequests(c *client) {
	for _, r := range []struct {
		wire   string
		status int
		code   string
	}{
		{"GET /v1/kv/b/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_argument"},
		{"GET /v1/kv/b/% HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_argument"},
		{"GET /v1/kv/b/k\r\n\r\n", 400, "invalid_argument"},
		{"GET /v1/kv/b/k HTTP/1.1\r\n\r\n", 400, "invalid_argument"},
		{"nonsense\r\n\r\n", 400, "invalid_argument"},
		{"GET /v1/kv/b/k HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 413, "too_large"},
		{"PUT /v1/kv/b/k HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "invalid_argument"},
		{"PUT /v1/kv/b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12", 400, "invalid_argument"},
		{"PUT /v1/kv/b/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n12", 400, "invalid_argument"},
	} {
		conn, err := net.DialTimeout("tcp", c.nodes[0], 5*time.Second)
		if err != nil {
			c.t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, r.wire)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			c.t.Errorf("%q: %v", short(r.wire), err)
			conn.Close()
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		conn.Close()
		if resp.StatusCode != r.status || problemCode(body) != r.code || resp.Header.Get("Content-Type") != "application/problem+json" {
			c.t.Errorf("%q: got %d %s", short(r.wire), resp.StatusCode, short(string(body)))
		}
	}
}
