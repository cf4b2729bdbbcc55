package apitest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

type page struct {
	Keys   []json.RawMessage
	Cursor string
}

// walk lists all keys of a bucket with a prefix, and counts how often each came. Pages come from the nodes in turn.
func (c *client) walk(bucket, prefix string, limit int) map[string]int {
	c.t.Helper()
	out := map[string]int{}
	cursor := ""
	for range 10_000 {
		a := c.want(200, get(fmt.Sprintf("/v1/kv/%s?prefix=%s&limit=%d&cursor=%s&values=false", bucket, url.QueryEscape(prefix), limit, url.QueryEscape(cursor))))
		var p page
		if err := json.Unmarshal(a.Body, &p); err != nil || p.Keys == nil || len(p.Keys) > limit {
			c.t.Fatalf("page of %s: %v: %s", bucket, err, short(string(a.Body)))
		}
		for _, raw := range p.Keys {
			var k key
			if err := json.Unmarshal(raw, &k); err != nil {
				c.t.Fatal(err)
			}
			out[string(k)]++
		}
		if cursor = p.Cursor; cursor == "" {
			return out
		}
	}
	c.t.Fatal("the walk does not end")
	return nil
}

func testListing(c *client) {
	bucket := fresh("list-")
	if got := c.walk(bucket, "", 100); len(got) != 0 {
		c.t.Errorf("an empty bucket lists %v", got)
	}
	const keys = 57
	for i := range keys {
		c.want(200, put(fmt.Sprintf("/v1/kv/%s/k%%2F%03d", bucket, i), fmt.Sprint(i)))
	}
	c.want(200, put("/v1/kv/"+bucket+"/%ff%00", "x"))
	c.want(200, put("/v1/kv/"+bucket+"/gone", "x"))
	c.want(200, del("/v1/kv/"+bucket+"/gone"))
	for _, limit := range []int{1, 10, 58, 1000} {
		got := c.walk(bucket, "", limit)
		if len(got) != keys+1 || got["\xff\x00"] != 1 {
			c.t.Errorf("limit=%d: %d keys, want %d", limit, len(got), keys+1)
		}
		for k, n := range got {
			if n != 1 {
				c.t.Errorf("limit=%d: %q came %d times", limit, k, n)
			}
		}
	}
	for prefix, want := range map[string]int{"k/00": 10, "k/": keys, "k/056": 1, "\xff": 1, "x": 0, "gone": 0} {
		if got := c.walk(bucket, prefix, 7); len(got) != want {
			c.t.Errorf("prefix %q: %d keys, want %d", prefix, len(got), want)
		}
	}
	a := c.want(200, get("/v1/kv/"+bucket+"?prefix=k%2F00&values=true&limit=3"))
	var p page
	if err := json.Unmarshal(a.Body, &p); err != nil || len(p.Keys) == 0 {
		c.t.Fatalf("with values: %v: %s", err, a.Body)
	}
	for _, raw := range p.Keys {
		var o answer
		if err := json.Unmarshal(raw, &o); err != nil || len(o.Values) != 1 || o.Context == "" || !strings.HasPrefix(string(o.Key), "k/00") {
			c.t.Errorf("with values: %v: %s", err, raw)
			continue
		}
		c.want(200, put("/v1/kv/"+bucket+"/"+escape(string(o.Key)), "new", "Rondo-Context", o.Context))
	}
	for _, query := range []string{"", "prefix=&limit=&cursor=&values=false", "limit=1000", "r=1", "r=all", "consistency=one", "sloppy=false", "timeout=10s", "values=true"} {
		c.want(200, get("/v1/kv/"+bucket+"?"+query))
	}
	for query, detail := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=010": "limit", "cursor=x": "cursor", "cursor=AAAA!": "cursor", "values=1": "values", "values": "values",
		"w=1": "unknown", "dw=1": "unknown", "x=": "unknown", "r=0": "r=", "r=4": "4 > n=3", "limit=1&limit=2": "twice", "raw=true": "unknown", "context=none": "unknown", "prefix=" + strings.Repeat("p", 1025): "prefix", "sloppy=true": "owners only", "ttl=1h": "unknown",
	} {
		c.refused(get("/v1/kv/"+bucket+"?"+query), detail)
	}
}

func testSettings(c *client) {
	bucket := fresh("settings-")
	path := "/v1/buckets/" + bucket
	const defaults = `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"0s"}`
	same := func(a Answer, want string) {
		c.t.Helper()
		if got := strings.TrimSpace(string(a.Body)); got != want {
			c.t.Errorf("got %s, want %s", got, want)
		}
	}
	same(c.want(200, get(path)), defaults)
	for body, want := range map[string]string{
		`{}`:                  defaults,
		defaults:              defaults,
		`{"resolve":"lww"}`:   `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"lww","ttl":"0s"}`,
		`{"w":"one"}`:         `{"n":3,"r":"quorum","w":1,"dw":1,"sloppy":false,"resolve":"siblings","ttl":"0s"}`,
		`{"r":1,"w":"3"}`:     `{"n":3,"r":1,"w":3,"dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"0s"}`,
		` {"dw" : 0 } `:       `{"n":3,"r":"quorum","w":"quorum","dw":0,"sloppy":false,"resolve":"siblings","ttl":"0s"}`,
		`{"r":"all","w":all}`: "",
		`{"n":1}`:             `{"n":1,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"0s"}`,
		`{"sloppy":true}`:     `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":true,"resolve":"siblings","ttl":"0s"}`,
		`{"ttl":"24h"}`:       `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"24h"}`,
		`{"ttl":"5400s"}`:     `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"1h30m"}`,
		`{"ttl":"1500ms"}`:    `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"1.5s"}`,
		`{"ttl":"87600h"}`:    `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"87600h"}`,
		`{"ttl":""}`:          defaults,
		`{"ttl":"0"}`:         defaults,
		`{"ttl":"0s"}`:        defaults,
		`{"n":7,"w":7}`:       `{"n":7,"r":"quorum","w":7,"dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"0s"}`,
	} {
		r := put(path, body, "Content-Type", "application/json")
		if want == "" {
			c.refused(r, "JSON")
			continue
		}
		same(c.at(0, r), want)
		same(c.at(0, get(path)), want)
	}
	if a := c.at(0, get("/v1/buckets")); !strings.Contains(string(a.Body), `"`+bucket+`":{"n"`) {
		c.t.Errorf("the bucket is not listed: %s", a.Body)
	}
	for _, body := range []string{
		"", "x", "[]", "null", "3", `{"n":0}`, `{"n":8}`, `{"n":-1}`, `{"n":"3"}`, `{"n":3.0}`, `{"n":3e0}`, `{"n":null}`, `{"n":[3]}`, `{"n":{}}`, `{"n":99999999999999999999}`,
		`{"r":4}`, `{"n":2,"r":3}`, `{"w":4}`, `{"n":1,"w":2}`, `{"r":0}`, `{"w":0}`, `{"r":"0"}`, `{"r":true}`, `{"r":"two"}`, `{"dw":4}`, `{"w":1,"dw":2}`, `{"dw":"all"}`, `{"r":1.5}`,
		`{"ttl":"x"}`, `{"ttl":24}`, `{"ttl":null}`, `{"ttl":"999ms"}`, `{"ttl":"87600h0m1s"}`, `{"ttl":"-1h"}`, `{"ttl":"1d"}`, `{"ttl":" 1h"}`, `{"ttl":"1h","ttl":"1h"}`,
		`{"sloppy":"true"}`, `{"sloppy":"false"}`, `{"sloppy":0}`, `{"resolve":"x"}`, `{"resolve":null}`, `{"resolve":1}`, `{"N":3}`, `{"x":1}`, `{"n":3,"n":3}`, `{"n":3} {}`, `{"n":3,}`, "{\"\xff\":1}",
	} {
		c.refused(put(path, body, "Content-Type", "application/json"), "")
	}
	c.want(413, put(path, strings.Repeat(" ", 70_000)))
	c.refused(put(path+"?x=1", "{}"), "unknown")
	c.refused(put("/v1/buckets/_system", "{}"), "system")
	c.want(405, Request{Method: "POST", Target: path})
	same(c.at(0, del(path)), defaults)
	same(c.at(0, get(path)), defaults)
	// n is fixed once there is a key.
	c.at(0, put("/v1/kv/"+bucket+"/k", "1"))
	if a := c.at(0, put(path, `{"n":1}`)); a.Status != 409 {
		c.t.Errorf("n of a bucket that holds a key: got %d %s, want 409", a.Status, a.Body)
	}
	if a := c.at(0, put(path, `{"r":"one"}`)); a.Status != 200 {
		c.t.Errorf("r of a bucket that holds a key: got %d %s", a.Status, a.Body)
	}
}

func testLastWriter(c *client) {
	bucket := fresh("lww-")
	if a := c.at(0, put("/v1/buckets/"+bucket, `{"resolve":"lww"}`)); a.Status != 200 {
		c.t.Fatalf("set the bucket: %d %s", a.Status, a.Body)
	}
	path := "/v1/kv/" + bucket + "/k"
	for i := range 5 {
		if a := c.at(0, put(path, fmt.Sprint(i), "Rondo-Context", "none")); a.Status != 200 {
			c.t.Fatalf("write: %d %s", a.Status, a.Body)
		}
	}
	c.siblings(path, "4")
}
