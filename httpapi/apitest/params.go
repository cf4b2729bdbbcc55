package apitest

import (
	"encoding/json"
	"strings"
)

func testParameters(c *client) {
	bucket := fresh("params-")
	path := "/v1/kv/" + bucket + "/k"
	methods := []string{"PUT", "GET", "HEAD", "DELETE"}
	request := func(method, query string) Request {
		r := Request{Method: method, Target: path + "?" + query}
		if method == "PUT" {
			r.Body = []byte("1")
		}
		return r
	}
	for _, query := range []string{
		"", "&", "r=1", "r=2", "r=3", "r=one", "r=quorum", "r=all", "w=1", "w=2", "w=3", "w=one", "w=quorum", "w=all", "dw=0", "dw=1", "dw=one", "dw=quorum",
		"w=all&dw=all", "w=3&dw=3", "w=1&dw=0", "w=1&dw=1", "sloppy=false", "sloppy=true", "ttl=1h", "ttl=0", "ttl=0s", "ttl=87600h", "ttl=1h30m", "ttl=60s", "ttl=0h0m", "ttl=%31h", "consistency=one", "consistency=quorum", "consistency=all", "consistency=one&w=all&dw=all", "timeout=1s", "timeout=5000ms", "timeout=60s",
		"timeout=1m", "timeout=1.5s", "raw=false", "raw=true", "receipt=full", "return=value", "%72=1", "r=%31", "r=1&w=2&dw=1&sloppy=false&consistency=quorum&timeout=2s&raw=false&receipt=full&return=value",
	} {
		c.want(200, put(path, "1"))
		for _, method := range methods {
			c.want(200, request(method, query))
		}
	}
	// The shortest timeout is a parameter like any other; what comes of it depends on the replicas.
	c.want(200, put(path, "1"))
	if a := c.do(request("GET", "timeout=1ms")); a.Status != 200 && a.Status != 504 {
		c.t.Errorf("timeout=1ms: got %d %s", a.Status, a.Body)
	}
	for query, detail := range map[string]string{
		"r=0": "r=", "r=4": "4 > n=3", "r=7": "7 > n=3", "r=8": "r=", "r=-1": "r=", "r=two": "r=", "r=": "r=", "r": "r=", "r=01": "r=", "r=%2B1": "r=", "r=1.0": "r=", "r=ALL": "r=",
		"w=0": "w=", "w=4": "4 > n=3", "w=5": "5 > n=3", "w=none": "w=", "w=99999999999999999999": "w=",
		"dw=4": "4 > n=3", "dw=-0": "dw=", "dw=3": "3 > 2", "dw=all": "3 > 2", "w=1&dw=2": "2 > 1", "w=2&dw=all": "3 > 2", "consistency=one&dw=quorum": "2 > 1",
		"sloppy=1": "sloppy", "sloppy=TRUE": "sloppy", "sloppy": "sloppy", "consistency=two": "consistency", "consistency=2": "consistency", "consistency=": "consistency",
		"timeout=0": "timeout", "timeout=0s": "timeout", "timeout=-1s": "timeout", "timeout=999us": "timeout", "timeout=61s": "timeout", "timeout=5": "timeout", "timeout=1h": "timeout", "timeout=": "timeout", "timeout=abc": "timeout",
		"timeout=1e9s": "timeout", "raw=1": "raw", "raw": "raw", "raw=yes": "raw", "receipt=short": "receipt", "receipt": "receipt", "return=all": "return", "return=": "return",
		"r=1&r=1": "twice", "r=1&%72=2": "twice", "timeout=1s&timeout=2s": "twice", "x=1": "unknown", "R=1": "unknown", "n=3": "unknown", "limit=1": "unknown", "=1": "unknown", "r=1&": "", "pr=1": "unknown", "r=%zz": "percent", "%=1": "percent",
		"ttl=1": "ttl", "ttl=": "ttl", "ttl": "ttl", "ttl=1d": "ttl", "ttl=-1h": "ttl", "ttl=999ms": "ttl", "ttl=87600h0m1s": "ttl", "ttl=1e3s": "ttl", "ttl=never": "ttl", "ttl=1h&ttl=1h": "twice",
		"ttl=99999999999h": "ttl", "partition=1": "unknown", "values=true": "unknown", "prefix=a": "unknown", "r=1;w=1": "r=",
	} {
		if query == "r=1&" {
			continue
		}
		for _, method := range methods {
			c.refused(request(method, query), detail)
		}
	}
	// A preset gives way to what is explicit.
	if r := c.decode(c.want(200, put(path+"?consistency=all&w=1", "2"))).Receipt; r.Required != 1 {
		c.t.Errorf("consistency=all&w=1 requires %d", r.Required)
	}
	if r := c.decode(c.want(200, get(path+"?consistency=all&r=2"))).Receipt; r.Required != 2 && len(c.nodes) > 1 {
		c.t.Errorf("consistency=all&r=2 requires %d", r.Required)
	}
}

func testReceipts(c *client) {
	path := "/v1/kv/" + fresh("receipts-") + "/k"
	w := c.decode(c.want(200, put(path+"?receipt=full", "1"))).Receipt
	if w.N != 3 || w.Required != 2 || w.Acked < 2 || w.Durable < 2 || w.Standins != 0 || w.Ring == 0 || w.Coordinator == "" || len(w.Replicas) < 2 {
		c.t.Errorf("receipt of a write: %+v", w)
	}
	r := c.decode(c.want(200, get(path+"?receipt=full"))).Receipt
	if r.N != 3 || r.Required != 2 || r.Replied < 2 || r.Ring == 0 || r.Coordinator == "" || len(r.Replicas) < 2 {
		c.t.Errorf("receipt of a read: %+v", r)
	}
	for _, replica := range r.Replicas {
		if replica.Node == "" || replica.Role != "owner" || replica.OK == (replica.Error != "") {
			c.t.Errorf("replica in a receipt: %+v", replica)
		}
	}
	if r := c.decode(c.want(200, get(path))).Receipt; r.Replicas != nil {
		c.t.Error("replicas are listed without receipt=full")
	}
}

func testConditions(c *client) {
	path := "/v1/kv/" + fresh("conditions-") + "/k"
	for _, header := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		c.refused(put(path, "1", header, "*"), "Rondo-Context")
		c.refused(del(path, header, `"x"`), "Rondo-Context")
	}
	c.want(404, get(path, "If-None-Match", "*"))
	c.want(200, put(path, "1"))
	a := c.want(200, get(path))
	tag := a.Header.Get("ETag")
	if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' || a.Header.Get("Last-Modified") == "" {
		c.t.Errorf("ETag %q, Last-Modified %q", tag, a.Header.Get("Last-Modified"))
	}
	for _, header := range []string{tag, "*", "W/" + tag, `"x", ` + tag, `"x",W/"y" , W/` + tag} {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.want(304, Request{Method: method, Target: path, Header: []string{"If-None-Match", header}})
			if len(a.Body) != 0 || a.Header.Get("ETag") != tag || a.Header.Get("Rondo-Context") == "" {
				c.t.Errorf("304 to %s: %v %s", header, a.Header, a.Body)
			}
		}
		c.want(304, get(path+"?raw=true", "If-None-Match", header))
	}
	for _, header := range []string{`"x"`, strings.Trim(tag, `"`), ""} {
		c.want(200, get(path, "If-None-Match", header))
	}
	c.want(200, put(path, "1"))
	if got := c.want(200, get(path, "If-None-Match", tag)).Header.Get("ETag"); got == tag {
		c.t.Error("the tag is the same after a write")
	}
}

func testDeletes(c *client) {
	path := "/v1/kv/" + fresh("deletes-") + "/k"
	a := c.want(404, get(path))
	var p Problem
	if json.Unmarshal(a.Body, &p); p.Reason != "never_written" || a.Header.Get("Rondo-Context") != "" {
		c.t.Errorf("a key that was never written: %v %s", a.Header, a.Body)
	}
	c.want(200, del(path))
	a = c.want(404, get(path))
	if json.Unmarshal(a.Body, &p); p.Reason != "deleted" || a.Header.Get("Rondo-Context") == "" || p.Context != a.Header.Get("Rondo-Context") {
		c.t.Errorf("a deleted key: %v %s", a.Header, a.Body)
	}
	c.want(200, put(path, "1", "Rondo-Context", a.Header.Get("Rondo-Context")))
	one := c.want(200, get(path)).Header.Get("Rondo-Context")
	c.want(200, put(path, "2", "Rondo-Context", "none"))
	// The delete takes what it covers; a live value beside its tombstone is one value.
	c.want(200, del(path, "Rondo-Context", one))
	c.siblings(path, "2")
	c.want(200, get(path+"?raw=true"))
	c.want(200, del(path+"?receipt=full&return=value"))
	for _, query := range []string{"", "?raw=true", "?receipt=full"} {
		c.want(404, get(path+query))
	}
	c.want(404, Request{Method: "HEAD", Target: path})
	c.want(200, del(path))
	c.want(200, Request{Method: "DELETE", Target: path, Body: []byte("bodies of DELETE are not read")})
	c.want(404, get(path))
}

func testHead(c *client) {
	path := "/v1/kv/" + fresh("head-") + "/k"
	for _, value := range []string{"", "1", strings.Repeat("x", 3000), strings.Repeat("\xff", 100_000)} {
		c.want(200, put(path, value))
		for _, query := range []string{"", "?raw=true", "?r=all"} {
			g, h := c.want(200, get(path+query)), c.want(200, Request{Method: "HEAD", Target: path + query})
			for _, name := range []string{"Content-Type", "Content-Length", "ETag", "Last-Modified", "Rondo-Context", "Rondo-Siblings"} {
				if g.Header.Get(name) != h.Header.Get(name) && (name != "Content-Length" || query == "?raw=true") {
					c.t.Errorf("%d bytes%s: %s is %q with GET and %q with HEAD", len(value), query, name, g.Header.Get(name), h.Header.Get(name))
				}
			}
			if h.Header.Get("Content-Length") == "" {
				c.t.Errorf("HEAD%s of %d bytes has no Content-Length", query, len(value))
			}
		}
	}
}
