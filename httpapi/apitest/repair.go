package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

func post(target, body string, header ...string) Request {
	return Request{Method: http.MethodPost, Target: target, Body: []byte(body), Header: header}
}

// partitions is how many the ring has.
func (c *client) partitions() int {
	c.t.Helper()
	var ring struct{ Partitions []json.RawMessage }
	if err := json.Unmarshal(c.want(200, get("/v1/cluster/ring")).Body, &ring); err != nil || len(ring.Partitions) == 0 {
		c.t.Fatalf("no partitions: %v", err)
	}
	return len(ring.Partitions)
}

// testRepair asks every node to compare what it owns: nothing is broken, so all of it ends well.
func testRepair(c *client) {
	bucket := fresh("repair-")
	for i := range 20 {
		c.want(200, put(fmt.Sprintf("/v1/kv/%s/%d?w=all", bucket, i), "1"))
	}
	count := c.partitions()
	for node := range c.nodes {
		for _, target := range []string{"/v1/repair", "/v1/repair?partition=0", fmt.Sprintf("/v1/repair?partition=%d", count-1)} {
			a := c.at(node, post(target, ""))
			if a.Status != 200 || a.Header.Get("Content-Type") != typeLines {
				c.t.Fatalf("%s: %d %v %s", target, a.Status, a.Header, short(string(a.Body)))
			}
			c.checkProgress(target, a.Body)
		}
	}
	for target, detail := range map[string]string{
		"/v1/repair?partition=-1": "partition=", "/v1/repair?partition=x": "partition=", "/v1/repair?partition=": "partition=", "/v1/repair?partition=01": "partition=",
		"/v1/repair?partition=1.0": "partition=", "/v1/repair?partition": "partition=", "/v1/repair?partition=99999999999999999999": "partition=",
		fmt.Sprintf("/v1/repair?partition=%d", count): fmt.Sprintf("0 to %d", count-1), "/v1/repair?partition=1&partition=1": "twice", "/v1/repair?x=1": "unknown",
	} {
		c.refused(post(target, ""), detail)
	}
	c.refused(post("/v1/repair", `{"partition":3}`), "no body")
	a := c.at(0, Request{Method: "POST", Target: "/v1/repair?partition=0", NoBody: true})
	if a.Status != 200 {
		c.t.Errorf("without a body: %d %s", a.Status, a.Body)
	}
}

// checkProgress checks what an answer tells about a repair of an undamaged cluster.
func (c *client) checkProgress(what string, body []byte) {
	c.t.Helper()
	type step struct {
		Partitions, Total int
		Seconds           float64
		Error             string
		Done, OK          bool
	}
	var last step
	for line := range bytes.Lines(body) {
		if last.Done {
			c.t.Errorf("%s: a line after the last: %s", what, line)
		}
		var s step
		if err := json.Unmarshal(line, &s); err != nil {
			c.t.Fatalf("%s: %v: %s", what, err, line)
		}
		if s.Error != "" || s.Seconds < last.Seconds || s.Partitions < 0 || s.Partitions > s.Total {
			c.t.Errorf("%s: %s", what, line)
		}
		last = s
	}
	if !last.Done || !last.OK {
		c.t.Errorf("%s did not end well: %s", what, short(string(body)))
	}
}

func testHints(c *client) {
	read := func(a Answer) (v struct {
		Paused, Known *bool
		Targets       []struct {
			Target, ID string
			Count      int
		}
	},
	) {
		c.t.Helper()
		if err := json.Unmarshal(a.Body, &v); err != nil || v.Paused == nil || v.Known == nil || v.Targets == nil {
			c.t.Fatalf("/v1/hints: %v: %s", err, short(string(a.Body)))
		}
		return v
	}
	for node := range c.nodes {
		for _, want := range []bool{true, true, false, false} {
			a := c.at(node, post("/v1/hints", fmt.Sprintf(`{"paused": %t}`, want)))
			if a.Status != 200 || *read(a).Paused != want {
				c.t.Fatalf("paused=%t: %d %s", want, a.Status, a.Body)
			}
			if got := read(c.at(node, get("/v1/hints"))); *got.Paused != want {
				c.t.Errorf("GET after paused=%t: %t", want, *got.Paused)
			}
		}
	}
	for _, body := range []string{
		"", "{}", "null", "true", `"paused"`, "[]", `{"paused":1}`, `{"paused":"true"}`, `{"paused":null}`, `{"paused":{}}`, `{"Paused":true}`, `{"paused":true,"x":1}`,
		`{"paused":true,"paused":true}`, `{"paused":true}{}`, `{"paused":true`, `{"pause":true}`,
	} {
		c.refused(post("/v1/hints", body), "paused")
	}
	c.refused(get("/v1/hints?x=1"), "unknown")
	c.refused(post("/v1/hints?paused=true", `{"paused":true}`), "unknown")
}

func testTombstones(c *client) {
	bucket := fresh("tombstones-")
	c.want(200, put("/v1/kv/"+bucket+"/k?w=all", "1"))
	c.want(200, del("/v1/kv/"+bucket+"/k?w=all"))
	for node := range c.nodes {
		var v struct {
			Waiting    *int64
			Blocker    *string
			Partitions []struct{ Partition, N, Waiting int }
		}
		a := c.at(node, get("/v1/tombstones"))
		if err := json.Unmarshal(a.Body, &v); err != nil || a.Status != 200 || v.Waiting == nil || v.Blocker == nil || v.Partitions == nil {
			c.t.Fatalf("/v1/tombstones: %v: %s", err, short(string(a.Body)))
		}
		var sum int64
		for _, p := range v.Partitions {
			sum += int64(p.Waiting)
		}
		if sum > *v.Waiting {
			c.t.Errorf("%d wait, and %d in the partitions: %s", *v.Waiting, sum, short(string(a.Body)))
		}
	}
	c.refused(get("/v1/tombstones?partition=1"), "unknown")
}

// testDebt reads what a node says about its repair, disk and partitions.
func testDebt(c *client) {
	bucket := fresh("debt-")
	for i := range 20 {
		c.want(200, put(fmt.Sprintf("/v1/kv/%s/%d?w=all", bucket, i), "1"))
	}
	count := c.partitions()
	type state struct {
		Partition, N int
		Root         string
		EqualS       *float64 `json:"equal_s"`
		Peers        []struct{ Node, Error string }
		Synced       *bool
	}
	type node struct {
		Repair, Disk, Tombstones map[string]any
		Merkle                   *[]state
	}
	for i := range c.nodes {
		var v node
		a := c.at(i, get("/v1/node"))
		if err := json.Unmarshal(a.Body, &v); err != nil || v.Repair == nil || v.Disk == nil || v.Tombstones == nil || v.Merkle != nil {
			c.t.Errorf("/v1/node: %v: %s", err, short(string(a.Body)))
		}
		for _, target := range []string{"/v1/node?merkle=true", "/v1/node?merkle=false"} {
			v = node{}
			if err := json.Unmarshal(c.at(i, get(target)).Body, &v); err != nil || (v.Merkle != nil) != strings.HasSuffix(target, "true") {
				c.t.Fatalf("%s: %v: %+v", target, err, v)
			}
			if v.Merkle == nil {
				continue
			}
			if len(*v.Merkle) == 0 {
				c.t.Errorf("%s lists no partition, though the node holds keys", target)
			}
			for _, p := range *v.Merkle {
				if p.Partition < 0 || p.Partition >= count || p.N < 1 || len(p.Root) != 16 || p.Synced == nil {
					c.t.Errorf("%s: %+v", target, p)
				}
			}
		}
	}
	for _, query := range []string{"merkle=1", "merkle", "merkle=", "merkle=true&merkle=true", "partitions=true"} {
		c.refused(get("/v1/node?"+query), "")
	}
}
