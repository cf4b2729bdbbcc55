package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/vclock"
)

// A path decodes to the same bytes as net/url's own decoding, split at the first slash that is not encoded.
func FuzzKeyPath(f *testing.F) {
	for _, s := range []string{"b/k", "b/a/b", "b/a%2Fb", "b/..", "b//", "b/%00", "b/%ff", "b/", "b", "", "%61b/k", "a%2Fb/k", "b/%", "b/ä", "b/%2e%2e", "b/?", "b/+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		u, err := url.ParseRequestURI(kvPrefix + rest)
		if err != nil || !strings.HasPrefix(rawPath(u), kvPrefix) {
			return
		}
		bucket, key, hasKey, e := splitKey(u, kvPrefix)
		if e != nil {
			if e.Code != quorum.CodeInvalid || e.Outcome != quorum.NotApplied || !utf8.ValidString(e.Detail) {
				t.Fatalf("%q: %v", rest, e)
			}
			return
		}
		want := kvPrefix + bucket
		if hasKey {
			want += "/" + key
		}
		if u.Path != want {
			t.Errorf("%q: got bucket %q and key %q, want what makes %q", rest, bucket, key, u.Path)
		}
		if checkBucket(bucket) != nil {
			t.Errorf("%q: bucket %q is let through", rest, bucket)
		}
	})
}

// A query that is let through means what net/url says, and everything in it is within its limits.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "r=1", "r=all&w=2&dw=0", "timeout=5s", "sloppy=false", "sloppy=true&ttl=90m", "ttl=0", "partition=7", "merkle=true", "consistency=one", "context=abc", "raw=true&receipt=full&return=value", "limit=10&cursor=&prefix=%ff+a", "r=1&r=2", "&&", "%72=1", "x", "=", "timeout=1e3s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, allowed := range []param{keyParams, listParams, explainParams, bucketParams, ringParams, nodeParams, repairParams, 0} {
			var p params
			if e := p.parse(query, allowed); e != nil {
				if e.Code != quorum.CodeInvalid || e.Detail == "" || e.Outcome != quorum.NotApplied {
					t.Fatalf("%q: %v", query, e)
				}
				continue
			}
			if p.seen&^allowed != 0 || p.timeout < time.Millisecond || p.timeout > time.Minute || p.limit < 1 || p.limit > 1000 || p.n < 1 || p.n > 7 ||
				p.partition < -1 || p.ttl < -1 || p.ttl > quorum.MaxTTL || p.ttl > 0 && p.ttl < quorum.MinTTL {
				t.Fatalf("%q: %+v", query, p)
			}
			values, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
			if err != nil {
				t.Fatalf("%q is let through, and net/url says %v", query, err)
			}
			for name, all := range values {
				if len(all) != 1 || paramOf(name)&p.seen == 0 {
					t.Errorf("%q: parameter %q is let through as %q", query, name, all)
				}
			}
			if p.prefix != values.Get("prefix") || p.cursor != values.Get("cursor") || p.context != values.Get("context") {
				t.Errorf("%q: %+v", query, p)
			}
		}
	})
}

// Settings that are let through can be met, and come back as they were after a second round.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"{}", `{"n":3}`, `{"n":1,"r":"one","w":1,"dw":0,"sloppy":false,"resolve":"lww"}`, `{"n":3,"n":3}`, `{"sloppy":true,"ttl":"24h"}`, `{"w":"1"}`, `{"dw":"all"}`, "[]", "", `{"n":3}x`, `{"\u006e":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, e := parseSettings(body)
		if e != nil {
			if e.Code != quorum.CodeInvalid || e.Detail == "" {
				t.Fatalf("%q: %v", body, e)
			}
			return
		}
		if b.N < 1 || b.N > quorum.MaxN || b.TTL != 0 && (b.TTL < quorum.MinTTL || b.TTL > quorum.MaxTTL) || b.R.Count(b.N) < 1 || b.R.Count(b.N) > b.N || b.W.Count(b.N) < 1 || b.W.Count(b.N) > b.N || b.DW.Count(b.N) > b.W.Count(b.N) {
			t.Fatalf("%q: %+v", body, b)
		}
		again, e := parseSettings(appendSettings(nil, b))
		if e != nil || again != b {
			t.Errorf("%q: %+v, and a second time %+v %v", body, b, again, e)
		}
	})
}

// checkJSON agrees with encoding/json, and beyond it with UTF-8.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{"", "{}", "[]", "[1,2]", `{"a":[{}],"b":null}`, `"\u00e9"`, "1e5", "-0.1E-2", "01", "tru", "[1,]", "{\"a\":1,}", "\"\xff\"", " [ ] ", "[[[[", "{\"a\"}", "]", "\"a", "-", "1.", "1e", "{1:2}", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := checkJSON(b)
		if want := json.Valid(b) && utf8.Valid(b); got != jsonDepth && want != (got == jsonGood) {
			t.Errorf("%q: got %v, want valid %v", b, got, want)
		}
	})
}

// Whatever the bytes and the type, a value comes out of its JSON form as it went in, and its size is foretold.
func FuzzValueForm(f *testing.F) {
	for _, s := range []string{"", "a", "\x00\"\\\n\u2028é", "\xff", "{}", "\x7f\x1f"} {
		for _, kind := range []string{vclock.TypeText, vclock.TypeBytes, "text/plain; charset=latin1", "image/svg+xml", ""} {
			f.Add([]byte(s), kind)
		}
	}
	f.Fuzz(func(t *testing.T, value []byte, kind string) {
		if isJSON(kind) {
			return
		}
		s := &vclock.Sibling{Value: value, ContentType: kind}
		form := formOf(s)
		inner := form.append(nil, value)
		if len(inner) != form.size(value) {
			t.Errorf("%q takes %d bytes, %d were foretold", value, len(inner), form.size(value))
		}
		b := appendAbout(append([]byte(form.opening()), inner...), form, s)
		var doc struct {
			Value  *string
			Base64 *string
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		got := doc.Value
		if doc.Base64 != nil {
			raw, err := base64.StdEncoding.DecodeString(*doc.Base64)
			if err != nil {
				t.Fatal(err)
			}
			text := string(raw)
			got = &text
		}
		if got == nil || *got != string(value) {
			t.Errorf("%q as %q: got %s", value, kind, b)
		}
		var name string
		if utf8.Valid(value) {
			if err := json.Unmarshal(appendKey(nil, string(value)), &name); err != nil || name != string(value) {
				t.Errorf("key %q: got %q, %v", value, name, err)
			}
		}
	})
}
