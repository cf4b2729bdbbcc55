package apitest

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rondodb/rondo/vclock"
)

func testContexts(c *client) {
	path := "/v1/kv/" + fresh("contexts-") + "/k"
	first := c.decode(c.want(200, put(path, "1"))).Context
	// A write with the context replaces; without one it replaces too; with none it does not.
	second := c.decode(c.want(200, put(path, "2", "Rondo-Context", first))).Context
	third := c.decode(c.want(200, put(path+"?context="+second, "3"))).Context
	c.want(200, put(path+"?context="+third, "4", "Rondo-Context", third))
	c.siblings(path, "4")
	c.want(200, put(path, "5", "Rondo-Context", "none"))
	c.want(200, put(path+"?context=none", "6"))
	c.siblings(path, "4", "5", "6")
	// A context from before covers only what it was given for.
	c.want(200, put(path, "7", "Rondo-Context", third))
	c.siblings(path, "4", "5", "6", "7")
	now := c.want(200, get(path)).Header.Get("Rondo-Context")
	c.want(200, put(path, "8", "Rondo-Context", now))
	c.siblings(path, "8")
	c.want(200, put(path, "9", "Rondo-Context", now))
	c.siblings(path, "8", "9")
	c.want(200, put(path, "10"))
	c.siblings(path, "10")
}

// siblings checks which values a key has, in any order.
func (c *client) siblings(path string, want ...string) []version {
	c.t.Helper()
	a := c.want(200, get(path+"?r=all"))
	values := c.decode(a).Values
	left := map[string]int{}
	for _, w := range want {
		left[w]++
	}
	for _, v := range values {
		s, _ := v.bytes()
		left[s]--
	}
	for s, n := range left {
		if n != 0 {
			c.t.Errorf("%s: value %s is there %d times too few: %s", path, short(s), n, short(string(a.Body)))
		}
	}
	if got := a.Header.Get("Rondo-Siblings"); got != string(itoa(len(want))) {
		c.t.Errorf("%s: Rondo-Siblings is %s, want %d", path, got, len(want))
	}
	return values
}

func itoa(n int) []byte {
	b, _ := json.Marshal(n)
	return b
}

func testBadContexts(c *client) {
	bucket, name := fresh("bad-"), "k"
	path := "/v1/kv/" + bucket + "/" + name
	good := c.decode(c.want(200, put(path, "1"))).Context
	other := c.decode(c.want(200, put("/v1/kv/"+bucket+"/other", "1"))).Context
	elsewhere := c.decode(c.want(200, put("/v1/kv/"+fresh("bad-")+"/"+name, "1"))).Context
	foreign := vclock.NewSealer("another cluster").Seal(bucket, name, vclock.Context{Time: 1})
	bad := []string{
		"", "x", "None", "NONE", "null", good[:len(good)-1], good[1:], good + "A", good + "=", "=" + good, good + "," + good, other, elsewhere, foreign,
		strings.Repeat("A", 4096), strings.Repeat("A", 4097), strings.Repeat("A", 20_000), good + " " + good, "*", "%", "\"" + good + "\"",
	}
	for i := range good {
		if i%7 == 0 {
			flipped := byte('A')
			if good[i] == 'A' {
				flipped = 'B'
			}
			bad = append(bad, good[:i]+string(flipped)+good[i+1:])
		}
	}
	for _, token := range bad {
		for _, method := range []string{"PUT", "DELETE", "GET", "HEAD"} {
			r := Request{Method: method, Target: path, Header: []string{"Rondo-Context", token}}
			if method == "PUT" {
				r.Body = []byte("2")
			}
			c.refused(r, "context")
			if !strings.ContainsAny(token, " %\"") {
				c.refused(Request{Method: method, Target: path + "?context=" + token, Body: r.Body}, "context")
			}
		}
	}
	c.refused(put(path+"?context="+good, "2", "Rondo-Context", other), "different")
	c.refused(put(path+"?context=none", "2", "Rondo-Context", good), "different")
	c.refused(put(path, "2", "Rondo-Context", good, "Rondo-Context", good), "Rondo-Context")
	c.refused(put(path+"?context="+good+"&context="+good, "2"), "twice")
	c.refused(del(path, "Rondo-Context", "none"), "none")
	c.refused(get(path, "Rondo-Context", "none"), "none")
	if values := c.siblings(path, "1"); len(values) == 1 && values[0].Version == "" {
		c.t.Error("a version without a name")
	}
}

func testSiblings(c *client) {
	path := "/v1/kv/" + fresh("siblings-") + "/k"
	// Written to all replicas: return=value shows what the coordinating one holds.
	c.want(200, put(path+"?w=all", `{"a":1}`, "Rondo-Context", "none"))
	c.want(200, put(path+"?w=all", "text\n", "Rondo-Context", "none", "Content-Type", "text/plain"))
	a := c.want(200, put(path+"?return=value", "\xff\x00", "Rondo-Context", "none"))
	if got := c.decode(a); len(got.Values) != 3 {
		c.t.Errorf("?return=value: got %s, want three values", a.Body)
	}
	values := c.siblings(path, `{"a":1}`, "text\n", "\xff\x00")
	for i := 1; i < len(values); i++ {
		if values[i-1].Modified < values[i].Modified {
			c.t.Errorf("values are not newest first: %s, then %s", values[i-1].Modified, values[i].Modified)
		}
	}
	// The same on every node, and the same tag.
	var first Answer
	for node := range c.nodes {
		a := c.at(node, get(path+"?r=all"))
		if node == 0 {
			first = a
			continue
		}
		if x, y := c.decode(a), c.decode(first); len(x.Values) != len(y.Values) || x.Values[0].Version != y.Values[0].Version || a.Header.Get("ETag") != first.Header.Get("ETag") {
			c.t.Errorf("two nodes show siblings differently: %s and %s", a.Body, first.Body)
		}
	}
	a = c.want(300, get(path+"?raw=true"))
	if a.Header.Get("Content-Type") != "application/json" || len(c.decode(a).Values) != 3 {
		c.t.Errorf("raw siblings: got %s %s", a.Header.Get("Content-Type"), a.Body)
	}
	// The token of a PUT covers the context that was sent and its own version, nothing else.
	own := c.decode(c.want(200, put(path, "4", "Rondo-Context", "none"))).Context
	c.want(200, put(path, "5", "Rondo-Context", own))
	c.siblings(path, `{"a":1}`, "text\n", "\xff\x00", "5")
	merged := c.want(200, get(path)).Header.Get("Rondo-Context")
	c.want(200, put(path, "merged", "Rondo-Context", merged))
	c.siblings(path, "merged")
	// Large siblings come in pieces.
	for _, fill := range []string{"\"", "é", "\xff", "[1]"} {
		c.want(200, put(path, strings.Repeat(fill, 30_000), "Rondo-Context", "none"))
	}
	c.siblings(path, "merged", strings.Repeat("\"", 30_000), strings.Repeat("é", 30_000), strings.Repeat("\xff", 30_000), strings.Repeat("[1]", 30_000))
	for _, method := range []string{"GET", "HEAD"} {
		a := c.want(200, Request{Method: method, Target: path})
		if a.Header.Get("Content-Length") == "" {
			c.t.Errorf("%s of large siblings has no Content-Length", method)
		}
	}
}

func testSessions(c *client) {
	path := "/v1/kv/" + fresh("sessions-") + "/k"
	for i := range 10 {
		token := c.decode(c.want(200, put(path+"?w=1", string(itoa(i))))).Context
		a := c.want(200, get(path+"?r=1", "Rondo-Context", token))
		if values := c.decode(a).Values; len(values) == 0 {
			c.t.Errorf("read %d with the context of its write: %s", i, a.Body)
		} else {
			found := false
			for _, v := range values {
				s, _ := v.bytes()
				found = found || s == string(itoa(i))
			}
			if !found {
				c.t.Errorf("read %d with the context of its write does not show it: %s", i, a.Body)
			}
		}
		c.want(200, Request{Method: http.MethodHead, Target: path + "?context=" + token})
	}
}
