package apitest

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// key is a key in a JSON answer.
type key string

func (k *key) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*k = key(s)
		return nil
	}
	var doc struct{ Base64 []byte }
	err := json.Unmarshal(b, &doc)
	*k = key(doc.Base64)
	return err
}

type version struct {
	Value       json.RawMessage
	Base64      *string
	ContentType string `json:"content_type"`
	Modified    string
	Version     string
}

// bytes are the value as it was sent.
func (v version) bytes() (string, bool) {
	if v.Base64 != nil {
		b, err := base64.StdEncoding.DecodeString(*v.Base64)
		return string(b), err == nil
	}
	if media, _, _ := strings.Cut(v.ContentType, ";"); strings.EqualFold(media, "application/json") {
		return string(v.Value), true
	}
	var s string
	err := json.Unmarshal(v.Value, &s)
	return s, err == nil
}

type answer struct {
	Bucket  string
	Key     key
	Context string
	Version string
	Values  []version
	Receipt receipt
}

type receipt struct {
	N, Required, Acked, Durable, Replied, Repaired, Standins int
	Agreed                                                   bool
	Ring                                                     uint64
	Coordinator                                              string
	Replicas                                                 []struct {
		Node, Zone, Role, Error string
		OK, Durable             bool
		MS                      float64
	}
}

func (c *client) decode(a Answer) answer {
	c.t.Helper()
	var out answer
	if err := json.Unmarshal(a.Body, &out); err != nil {
		c.t.Fatalf("decode %s: %v", short(string(a.Body)), err)
	}
	if out.Context != "" && out.Context != a.Header.Get("Rondo-Context") {
		c.t.Errorf("the context in the body, %q, is not that in the header, %q", out.Context, a.Header.Get("Rondo-Context"))
	}
	return out
}

// roundTrip writes and reads one key, through other nodes.
func (c *client) roundTrip(path, name, value string) {
	c.t.Helper()
	c.want(200, put(path, value, "Content-Type", "application/octet-stream"))
	a := c.want(200, get(path+"?raw=true"))
	if string(a.Body) != value {
		c.t.Errorf("%s: got %q, want %q", short(path), short(string(a.Body)), value)
	}
	got := c.decode(c.want(200, get(path)))
	if string(got.Key) != name {
		c.t.Errorf("%s: the key is %q, want %q", short(path), got.Key, name)
	}
}

func testKeys(c *client) {
	bucket := fresh("keys-")
	base := "/v1/kv/" + bucket + "/"
	names := map[string]string{} // path → key
	for path, name := range map[string]string{
		"alice": "alice", "a/b": "a/b", "a%2Fb%2fc": "a/b/c", "..": "..", ".": ".", "a/../b": "a/../b", "a/./b": "a/./b", "../../etc/passwd": "../../etc/passwd",
		"%2e%2e": "..", "/": "/", "//": "//", "a//b": "a//b", "a/": "a/", "%00": "\x00", "a%00b": "a\x00b", "%ff%fe": "\xff\xfe", "a%80": "a\x80", "%25": "%",
		"%252F": "%2F", "a+b": "a+b", "a%20b": "a b", "%3Fr=1": "?r=1", "%23": "#", "h%C3%A9": "hé", "he%CC%81": "he\u0301", "%0d%0a": "\r\n", "a;b=c": "a;b=c",
		"~": "~", "%22%5C": "\"\\", "*": "*", "%7Bx%7D": "{x}", ":": ":", "@": "@", "livez": "livez", "a&b=c": "a&b=c", "%E2%80%A8": "\u2028", "index.html": "index.html",
	} {
		c.roundTrip(base+path, name, "value of "+path)
		if utf8.ValidString(name) {
			// another spelling of the same key
			a := c.want(200, get(base+escape(name)+"?raw=true"))
			if string(a.Body) != "value of "+path && names[name] == "" {
				c.t.Errorf("%s fully escaped: got %q", path, a.Body)
			}
		}
		names[name] = path
	}
	// None of them was taken for another: the last value of each is still there.
	for name, path := range names {
		if a := c.want(200, get(base+escape(name)+"?raw=true")); string(a.Body) != "value of "+path {
			c.t.Errorf("key %q: got %q, want the value of %q", name, a.Body, path)
		}
	}
	if got := c.walk(bucket, "", 7); len(got) != len(names) {
		c.t.Errorf("%d keys are listed, want %d", len(got), len(names))
	} else {
		for name := range names {
			if got[name] != 1 {
				c.t.Errorf("key %q is listed %d times", name, got[name])
			}
		}
	}
}

func testKeyLimits(c *client) {
	base := "/v1/kv/" + fresh("limits-") + "/"
	longest := strings.Repeat("k", 1024)
	c.roundTrip(base+longest, longest, "1024")
	c.roundTrip(base+escape(strings.Repeat("\xf0", 1024)), strings.Repeat("\xf0", 1024), "1024 bytes that are not UTF-8")
	c.roundTrip(base+"k", "k", "1")
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		c.refused(Request{Method: method, Target: base + longest + "k", NoBody: true}, "1025")
		c.refused(Request{Method: method, Target: base + escape(longest+"k"), NoBody: true}, "1025")
		c.refused(Request{Method: method, Target: base, NoBody: true}, "1 to 1024")
	}
}

func testBucketNames(c *client) {
	for _, name := range []string{"a", "A-z_0.9", strings.Repeat("b", 128), "%61b"} {
		c.want(404, get("/v1/kv/"+name+"/"+fresh("k")))
	}
	for _, name := range []string{"", strings.Repeat("b", 129), ".", "..", ".a", "_a", "_system", "a%2Fb", "a%20b", "%00", "a%00", "h%C3%A9", "a:b", "%ff", "%2e%2e", "a@b", "a+b"} {
		for _, path := range []string{"/v1/kv/" + name + "/k", "/v1/kv/" + name, "/v1/explain/" + name + "/k", "/v1/buckets/" + name} {
			if path == "/v1/buckets/" || path == "/v1/kv/" {
				continue // empty
			}
			c.refused(get(path), "")
		}
		c.refused(put("/v1/kv/"+name+"/k", "1"), "")
		c.refused(del("/v1/kv/"+name+"/k"), "")
	}
}
