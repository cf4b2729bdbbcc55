package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/client"
)

// fake is a node with one replica that answers as the API says, with times and versions that are the same in every run.
type fake struct {
	url string

	mu      sync.Mutex
	keys    map[string]map[string]*stored // by bucket and key
	buckets map[string]json.RawMessage
	pages   map[string]string // other paths and their answers
	counter int
	puts    int
	refuse  func(r *http.Request) (status int, code string) // 0: go on
}

type stored struct {
	versions []version // newest first
	written  bool
}

type version struct {
	id          int
	contentType string
	data        []byte
	expires     string // its member in answers
}

func newFake(t *testing.T) *fake {
	f := &fake{keys: map[string]map[string]*stored{}, buckets: map[string]json.RawMessage{}, pages: map[string]string{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == "PUT" {
		f.puts++
	}
	if f.refuse != nil {
		if status, code := f.refuse(r); status != 0 {
			problem(w, status, code, "the test says so", `"outcome":"not_applied"`)
			return
		}
	}
	path := r.URL.EscapedPath()
	switch {
	case strings.HasPrefix(path, "/v1/kv/"):
		bucket, key, one := strings.Cut(path[len("/v1/kv/"):], "/")
		key, err := url.PathUnescape(key)
		switch {
		case err != nil:
			problem(w, 400, "invalid_argument", err.Error(), "")
		case !one:
			f.list(w, r, bucket)
		default:
			f.key(w, r, bucket, key, body)
		}
	case path == "/v1/buckets":
		b, _ := json.Marshal(map[string]any{"buckets": f.buckets})
		w.Write(b)
	case strings.HasPrefix(path, "/v1/buckets/"):
		f.bucket(w, r, path[len("/v1/buckets/"):], body)
	case f.pages[r.Method+" "+r.URL.RequestURI()] != "":
		io.WriteString(w, f.pages[r.Method+" "+r.URL.RequestURI()])
	case f.pages[path] != "":
		io.WriteString(w, f.pages[path])
	default:
		problem(w, 404, "", "no such page", "")
	}
}

func problem(w http.ResponseWriter, status int, code, detail, more string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if more != "" {
		more = "," + more
	}
	fmt.Fprintf(w, `{"type":"/problems/%[1]s","title":"%[1]s","status":%[2]d,"code":"%[1]s","detail":%[3]q%[4]s}`, code, status, detail, more)
}

// token is a context: the key, and the versions that it covers.
func token(bucket, key string, covers []int) string {
	b, _ := json.Marshal([]any{bucket, base64.StdEncoding.EncodeToString([]byte(key)), covers})
	return base64.RawURLEncoding.EncodeToString(b)
}

// covers opens a context.
func covers(bucket, key, token string) ([]int, bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	var parts []json.RawMessage
	if err != nil || json.Unmarshal(b, &parts) != nil || len(parts) != 3 {
		return nil, false
	}
	var ids []int
	json.Unmarshal(parts[2], &ids)
	return ids, string(parts[0]) == strconv.Quote(bucket) && string(parts[1]) == strconv.Quote(base64.StdEncoding.EncodeToString([]byte(key)))
}

func (f *fake) key(w http.ResponseWriter, r *http.Request, bucket, key string, body []byte) {
	if level := r.URL.Query().Get("w"); level == "4" {
		problem(w, 400, "invalid_argument", "w=4 is more than n=3", "")
		return
	}
	sent := r.Header.Get("Rondo-Context")
	var seen []int
	if sent != "" && sent != "none" {
		var ok bool
		if seen, ok = covers(bucket, key, sent); !ok {
			problem(w, 400, "invalid_argument", "the context is not one of this key", "")
			return
		}
	}
	o := f.keys[bucket][key]
	if o == nil {
		o = &stored{}
	}
	if r.URL.Query().Get("ttl") == "1ms" {
		problem(w, 400, "invalid_argument", "ttl is too short", "")
		return
	}
	if r.Method == "GET" {
		f.get(w, r, bucket, key, o)
		return
	}
	about := ""
	switch {
	case sent == "":
		o.versions = nil
	case sent != "none":
		o.versions = slices.DeleteFunc(o.versions, func(v version) bool { return slices.Contains(seen, v.id) })
	}
	f.counter++
	o.written = true
	if r.Method == "PUT" {
		kind := r.Header.Get("Content-Type")
		switch {
		case kind != "":
		case json.Valid(body):
			kind = "application/json"
		case utf8.Valid(body):
			kind = "text/plain; charset=utf-8"
		default:
			kind = "application/octet-stream"
		}
		expires := ""
		if r.URL.Query().Get("ttl") == "24h" {
			expires = `,"expires":"2226-11-22T10:00:00.000000001Z"`
		}
		o.versions = slices.Insert(o.versions, 0, version{f.counter, kind, body, expires})
		about = expires
	}
	if f.keys[bucket] == nil {
		f.keys[bucket] = map[string]*stored{}
	}
	f.keys[bucket][key] = o
	standins := 0
	if r.URL.Query().Get("sloppy") == "true" {
		standins = 1
	}
	fmt.Fprintf(w, `{"bucket":%q,"key":%s,"context":%q,"version":"v%d"%s,"receipt":{"n":3,"required":2,"acked":2,"durable":2,"standins":%d,"ring":1,"coordinator":"n1"}}`,
		bucket, client.AppendKey(nil, key), token(bucket, key, append(seen, f.counter)), f.counter, about, standins)
}

func (f *fake) get(w http.ResponseWriter, r *http.Request, bucket, key string, o *stored) {
	if len(o.versions) == 0 {
		reason := "never_written"
		if o.written {
			reason = "deleted"
			w.Header().Set("Rondo-Context", token(bucket, key, []int{f.counter}))
		}
		problem(w, 404, "key_not_found", "no such key", `"reason":"`+reason+`"`)
		return
	}
	more := ""
	if r.URL.Query().Get("receipt") == "full" {
		more = `,"replicas":[{"node":"n1","zone":"a","role":"owner","ok":true,"ms":0.21},{"node":"n2","zone":"","role":"owner","ok":false,"ms":3,"error":"timeout"}]`
	}
	w.Write(append(appendObject(nil, bucket, key, o), `,"receipt":{"n":3,"required":2,"replied":2,"agreed":true,"repaired":0,"standins":0,"ring":1,"coordinator":"n1"`+more+`}}`...))
}

// appendObject appends an object without its receipt and last brace.
func appendObject(b []byte, bucket, key string, o *stored) []byte {
	var ids []int
	for _, v := range o.versions {
		ids = append(ids, v.id)
	}
	b = fmt.Appendf(b, `{"bucket":%q,"key":%s,"context":%q,"values":[`, bucket, client.AppendKey(nil, key), token(bucket, key, ids))
	for i, v := range o.versions {
		if i > 0 {
			b = append(b, ',')
		}
		switch {
		case client.IsJSON(v.contentType):
			b = append(append(b, `{"value":`...), v.data...)
		case utf8.Valid(v.data):
			b = client.AppendString(append(b, `{"value":`...), string(v.data))
		default:
			b = fmt.Appendf(b, `{"base64":"%s"`, base64.StdEncoding.EncodeToString(v.data))
		}
		at := time.Date(2026, 11, 21, 10, 0, v.id, 0, time.UTC)
		b = fmt.Appendf(b, `,"content_type":%q,"modified":"%s"%s,"version":"v%d"}`, v.contentType, at.Format(time.RFC3339Nano), v.expires, v.id)
	}
	return append(b, ']')
}

func (f *fake) list(w http.ResponseWriter, r *http.Request, bucket string) {
	q := r.URL.Query()
	limit := 100
	if l := q.Get("limit"); l != "" {
		limit, _ = strconv.Atoi(l)
	}
	if limit > 1000 {
		problem(w, 400, "invalid_argument", "limit is at most 1000", "")
		return
	}
	var keys []string
	for key, o := range f.keys[bucket] {
		if after, _ := base64.RawURLEncoding.DecodeString(q.Get("cursor")); len(o.versions) > 0 && strings.HasPrefix(key, q.Get("prefix")) && key > string(after) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	cursor := ""
	if len(keys) > limit {
		keys = keys[:limit]
		cursor = base64.RawURLEncoding.EncodeToString([]byte(keys[limit-1]))
	}
	b := []byte(`{"keys":[`)
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if q.Get("values") == "true" {
			b = append(appendObject(b, bucket, key, f.keys[bucket][key]), '}')
		} else {
			b = client.AppendKey(b, key)
		}
	}
	b = append(b, ']')
	if cursor != "" {
		b = fmt.Appendf(b, `,"cursor":%q`, cursor)
	}
	w.Write(append(b, '}'))
}

func (f *fake) bucket(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	switch r.Method {
	case "PUT":
		settings := client.DefaultBucket
		json.Unmarshal(body, &settings)
		if !bytes.Contains(body, []byte(`"dw"`)) && settings.W == "one" {
			settings.DW = "one"
		}
		f.buckets[name], _ = json.Marshal(settings)
	case "DELETE":
		delete(f.buckets, name)
	}
	settings, ok := f.buckets[name]
	if !ok {
		settings = []byte(`{"n":3,"r":"quorum","w":"quorum","dw":"quorum","sloppy":false,"resolve":"siblings","ttl":"0s"}`)
	}
	w.Write(settings)
}

// value is the only version of a key.
func (f *fake) value(t *testing.T, bucket, key string) []byte {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.keys[bucket][key]
	if o == nil || len(o.versions) != 1 {
		t.Fatalf("%s/%s: got %+v, want one version", bucket, key, o)
	}
	return o.versions[0].data
}
