package httpapi

import (
	"net/http"
	"strings"
	"testing"
)

// The validator finds what is wrong: an answer that says less, more or something else than the document, and a request that
// should not have been accepted.
func TestValidatorCatches(t *testing.T) {
	v := validator(t)
	const read = `{"bucket":"b","key":"k","context":"AAAA","values":[{"value":1,"content_type":"application/json","modified":"2026-11-21T10:00:00.123456789Z","version":"00000000000000a1-1"}],"receipt":{"n":3,"required":2,"replied":2,"agreed":true,"repaired":0,"standins":0,"ring":1,"coordinator":"n1"}}`
	const problem = `{"type":"/problems/key_not_found","title":"t","status":404,"detail":"d","code":"key_not_found"}`
	headers := http.Header{"Content-Type": {"application/json"}, "Rondo-Context": {"AAAA"}, "Rondo-Siblings": {"1"}, "Etag": {`"0123456789abcdef"`}, "Last-Modified": {"x"}, "X-Request-Id": {"x"}}
	without := func(name string) http.Header {
		h := headers.Clone()
		h.Del(name)
		return h
	}
	problems := headers.Clone()
	problems.Set("Content-Type", "application/problem+json")
	for _, c := range []struct {
		name, method, target, requestBody string
		status                            int
		header                            http.Header
		body                              string
		good                              bool
	}{
		{"as it is", "GET", "/v1/kv/b/a/b%2Fc", "", 200, headers, read, true},
		{"not there", "GET", "/v1/kv/b/k", "", 404, problems, problem, true},
		{"raw", "GET", "/v1/kv/b/k?raw=true", "", 200, headers, `1`, true},
		{"another status", "GET", "/v1/kv/b/k", "", 201, headers, read, false},
		{"a redirect", "GET", "/v1/kv/b/k", "", 302, headers, read, false},
		{"no header", "GET", "/v1/kv/b/k", "", 200, without("Rondo-Context"), read, false},
		{"no header to HEAD", "HEAD", "/v1/kv/b/k", "", 200, without("Etag"), "", false},
		{"a new member", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `"bucket"`, `"new":1,"bucket"`, 1), false},
		{"a member less", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `"ring":1,`, "", 1), false},
		{"another type", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `"n":3`, `"n":"3"`, 1), false},
		{"both forms", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `"value":1`, `"value":1,"base64":""`, 1), false},
		{"no value", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `"value":1,`, "", 1), false},
		{"another version", "GET", "/v1/kv/b/k", "", 200, headers, strings.Replace(read, `a1-1`, "a1", 1), false},
		{"another code", "GET", "/v1/kv/b/k", "", 404, problems, strings.Replace(problem, `"code":"key_not_found"`, `"code":"internal"`, 1), false},
		{"accepted by mistake", "GET", "/v1/kv/b/k?r=9", "", 200, headers, read, false},
		{"unknown parameter", "GET", "/v1/kv/b/k?x=1", "", 200, headers, read, false},
		{"unknown path", "GET", "/v1/nodes", "", 200, headers, read, false},
		{"unknown method", "POST", "/v1/kv/b/k", "", 200, headers, read, false},
		{"settings", "PUT", "/v1/buckets/b", `{"n":9}`, 200, headers, `{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"lww"}`, false},
	} {
		req, err := http.NewRequest(c.method, c.target, strings.NewReader(c.requestBody))
		if err != nil {
			t.Fatal(err)
		}
		err = v.Check(req, []byte(c.requestBody), &http.Response{StatusCode: c.status, Header: c.header}, []byte(c.body))
		if (err == nil) != c.good {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}
