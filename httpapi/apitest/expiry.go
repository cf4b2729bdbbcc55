package apitest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// expires is when an answer says that what it tells of ends; the zero time where it says nothing. Every version of it must agree.
func (c *client) expires(a Answer) time.Time {
	c.t.Helper()
	var v struct {
		Expires  string
		Modified time.Time
		Values   []struct{ Expires string }
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		c.t.Fatalf("%v: %s", err, short(string(a.Body)))
	}
	for _, s := range v.Values {
		if v.Expires == "" {
			v.Expires = s.Expires
		}
		if s.Expires != v.Expires {
			c.t.Errorf("got %q and %q in %s", v.Expires, s.Expires, short(string(a.Body)))
		}
	}
	if v.Expires == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, v.Expires)
	if err != nil {
		c.t.Error(err)
	}
	return at
}

// about tells whether a time is as long from now as wanted; slow machines may take a minute.
func about(at time.Time, want time.Duration) bool {
	left := time.Until(at)
	return left <= want+time.Minute && left > want-time.Minute
}

// testExpiry writes values that end: with the time that their write gives them, else with the bucket's.
func testExpiry(c *client) {
	bucket := fresh("expiry-")
	path := "/v1/kv/" + bucket + "/k"
	for query, want := range map[string]time.Duration{"": 0, "?ttl=0": 0, "?ttl=0s": 0, "?ttl=1h": time.Hour, "?ttl=90m": 90 * time.Minute, "?ttl=87600h": 87600 * time.Hour, "?ttl=1h&return=value": time.Hour} {
		for _, a := range []Answer{c.want(200, put(path+query, "1")), c.want(200, get(path)), c.want(200, get(path+"?r=all"))} {
			if got := c.expires(a); got.IsZero() != (want == 0) || want != 0 && !about(got, want) {
				c.t.Errorf("PUT %s: it expires at %v: %s", query, got, short(string(a.Body)))
			}
		}
	}
	// The answers agree to the nanosecond, and a listing with values says it too.
	wrote, read := c.expires(c.want(200, put(path+"?ttl=2h", "1"))), c.expires(c.want(200, get(path+"?r=all")))
	if !wrote.Equal(read) {
		c.t.Errorf("PUT says %v, GET %v", wrote, read)
	}
	if a := c.want(200, get("/v1/kv/"+bucket+"?values=true")); !strings.Contains(string(a.Body), `"expires":"`+read.Format("2006-01-02T15:04:05.000000000Z")) {
		c.t.Errorf("the listing does not say %v: %s", read, short(string(a.Body)))
	}
	if a := c.want(200, get("/v1/explain/"+bucket+"/k")); !strings.Contains(string(a.Body), `"expires":"`) {
		c.t.Errorf("explain says nothing of expiry: %s", short(string(a.Body)))
	}
	// A delete has no end, whatever its parameters.
	if a := c.want(200, del(path+"?ttl=1h")); !c.expires(a).IsZero() {
		c.t.Errorf("a delete expires: %s", a.Body)
	}
	c.want(404, get(path))

	// The bucket's time to live is for writes that do not say theirs.
	if a := c.at(0, put("/v1/buckets/"+bucket, `{"ttl":"3h"}`)); a.Status != 200 {
		c.t.Fatalf("set ttl: %d %s", a.Status, a.Body)
	}
	for query, want := range map[string]time.Duration{"": 3 * time.Hour, "?ttl=0": 0, "?ttl=1h": time.Hour} {
		if a := c.at(0, put(path+query, "1")); c.expires(a).IsZero() != (want == 0) || want != 0 && !about(c.expires(a), want) {
			c.t.Errorf("in a bucket with ttl=3h, PUT %s: %s", query, a.Body)
		}
	}
	c.testEnd()
}

// testEnd lets values end: alone, and beside one that stays.
func (c *client) testEnd() {
	bucket := fresh("end-")
	alone, beside := "/v1/kv/"+bucket+"/alone", "/v1/kv/"+bucket+"/beside"
	c.want(200, put(beside+"?w=all", "stays", "Rondo-Context", "none"))
	c.want(200, put(beside+"?w=all&ttl=1s", "goes", "Rondo-Context", "none"))
	a := c.want(200, put(alone+"?w=all&ttl=1s", "goes"))
	end := c.expires(a)
	before := c.do(get(beside))
	for {
		asked := time.Now()
		a = c.do(Request{Method: http.MethodGet, Target: alone})
		if a.Status == 404 {
			break
		}
		if a.Status != 200 || asked.After(end.Add(10*time.Second)) {
			c.t.Fatalf("it ends at %v; read at %v: %d %s", end, asked, a.Status, a.Body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	var p Problem
	if json.Unmarshal(a.Body, &p); p.Reason != "deleted" || a.Header.Get("Rondo-Context") == "" {
		c.t.Errorf("an expired key: %v %s", a.Header, a.Body)
	}
	c.want(404, Request{Method: "HEAD", Target: alone})
	c.want(404, get(alone+"?raw=true"))
	c.siblings(beside, "stays")
	if after := c.do(get(beside, "If-None-Match", before.Header.Get("ETag"))); before.Header.Get("Rondo-Siblings") == "2" && after.Status != 200 {
		c.t.Errorf("the tag is the same after a version has ended: %d", after.Status)
	}
	// Writing it again builds on what ended.
	c.want(200, put(alone, "again", "Rondo-Context", a.Header.Get("Rondo-Context")))
	c.siblings(alone, "again")
	if a := c.do(get(alone)); !c.expires(a).IsZero() {
		c.t.Errorf("a write without ttl expires: %s", a.Body)
	}
}

// testStandins asks for stand-ins where every owner is up: none is needed.
func testStandins(c *client) {
	bucket := fresh("standins-")
	path := "/v1/kv/" + bucket + "/k"
	if a := c.at(0, put("/v1/buckets/"+bucket, `{"sloppy":true}`)); a.Status != 200 {
		c.t.Fatalf("set sloppy: %d %s", a.Status, a.Body)
	}
	for _, query := range []string{"?receipt=full", "?receipt=full&sloppy=true", "?receipt=full&sloppy=false", "?receipt=full&sloppy=true&consistency=all"} {
		for _, a := range []Answer{c.want(200, put(path+query, "1")), c.want(200, get(path+query)), c.want(200, del(path+query))} {
			r := c.decode(a).Receipt
			if r.Standins != 0 || r.Replied+r.Acked < r.Required {
				c.t.Errorf("%s: %+v", query, r)
			}
			for _, replica := range r.Replicas {
				if replica.Role != "owner" {
					c.t.Errorf("%s: %+v", query, replica)
				}
			}
		}
	}
}
