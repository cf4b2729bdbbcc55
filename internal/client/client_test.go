package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and a client for it, with more nodes before it if given.
func serve(t *testing.T, handler http.HandlerFunc, before ...string) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := New(Config{Nodes: append(before, server.URL)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// refusing is the address of a port that nobody listens on.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return "http://" + addr
}

func TestKeysArriveAsTheyAre(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/kv/b/")
		if !ok || strings.Contains(rest, "/") {
			t.Errorf("path %q is not one segment after the bucket", r.URL.EscapedPath())
		}
		var err error
		if got, err = url.PathUnescape(rest); err != nil {
			t.Error(err)
		}
		io.WriteString(w, `{"context":"c","values":[]}`)
	})
	check := func(key string) {
		if _, err := c.Get(context.Background(), "b", key, Options{}); err != nil {
			t.Fatalf("get %q: %v", key, err)
		}
		if got != key {
			t.Fatalf("got key %q, want %q", got, key)
		}
	}
	for _, key := range []string{"a", "a/b", "..", ".", "...", "//", "/", "a/../b", "a/", "\x00", "%00", "%2F", "a b+c?d#e", "\xff\xfe", "é€", strings.Repeat("x", 1024)} {
		check(key)
	}
	rapid.Check(t, func(t *rapid.T) { check(string(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key"))) })
}

func TestValuesComeBackByteForByte(t *testing.T) {
	answer := `{"bucket":"b","key":"k","context":"C","values":[
 {"value": {"n":12345678901234567890,"n":1,"s":"a,}\"]"} ,"content_type":"application/json","modified":"2026-11-21T10:00:00.123456789Z","version":"v2"},
 {"value":"line\n\u00e9","content_type":"text/plain; charset=utf-8","version":"v1"},{"base64":"/wA=","content_type":"image/png","version":7}],
 "receipt":{"n":3,"required":2,"replied":2,"agreed":true,"repaired":1,"standins":0,"ring":4,"coordinator":"n1"}}`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, answer) })
	o, err := c.Get(context.Background(), "b", "k", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{" {\"n\":12345678901234567890,\"n\":1,\"s\":\"a,}\\\"]\"} ", "line\né", "\xff\x00"}
	var got []string
	for _, v := range o.Values {
		got = append(got, string(v.Data))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got values %q, want %q", got, want)
	}
	if got, want := o.Values[2].Version, "7"; got != want {
		t.Errorf("got version %q, want %q", got, want)
	}
	if got, want := o.Values[0].Modified, time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC); !got.Equal(want) {
		t.Errorf("got modified %v, want %v", got, want)
	}
	if o.Context != "C" || o.Receipt.Ring != 4 || !o.Receipt.Agreed || o.Receipt.Repaired != 1 {
		t.Errorf("got context %q, receipt %+v", o.Context, o.Receipt)
	}
}

func TestRequestCarriesWishes(t *testing.T) {
	var got *http.Request
	var body []byte
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		io.WriteString(w, `{"context":"new","version":"v","receipt":{"n":3,"acked":2}}`)
	})
	c.timeout = 3 * time.Second
	w, err := c.Put(context.Background(), "b", "k", []byte("\x00v"), Options{W: "all", DW: "0", Consistency: "one", Context: "tok", ContentType: "x/y", FullReceipt: true, ReturnValue: true, Sloppy: "true", TTL: "24h"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := got.URL.RawQuery, "consistency=one&dw=0&receipt=full&return=value&sloppy=true&timeout=3s&ttl=24h&w=all"; got != want {
		t.Errorf("got query %q, want %q", got, want)
	}
	if got.Header.Get("Rondo-Context") != "tok" || got.Header.Get("Content-Type") != "x/y" || string(body) != "\x00v" || got.Method != "PUT" {
		t.Errorf("got %s %v with body %q", got.Method, got.Header, body)
	}
	if w.Context != "new" || w.Version != "v" || w.Receipt.Acked != 2 {
		t.Errorf("got %+v", w)
	}
	if _, err := c.Put(context.Background(), "b", "k", nil, Options{}); err != nil || got.ContentLength != 0 || got.Header["Content-Type"] != nil {
		t.Errorf("empty value: got %v, length %d, type %q", err, got.ContentLength, got.Header["Content-Type"])
	}
}

func TestProblems(t *testing.T) {
	tests := []struct {
		status int
		header string
		body   string
		want   Error
		text   string
	}{
		{
			503, "2", `{"title":"Overloaded","status":503,"code":"overloaded","detail":"too much","outcome":"not_applied"}`,
			Error{Code: "overloaded", Outcome: "not_applied", RetryAfter: 2 * time.Second},
			"too much (503 overloaded; not applied: no replica has it)",
		},
		{504, "", `{"code":"quorum_timeout","title":"Timeout","outcome":"unknown"}`, Error{Code: "quorum_timeout", Outcome: "unknown"}, "Timeout (504 quorum_timeout; outcome unknown: some replica may have it)"},
		{404, "", `{"code":"key_not_found","detail":"gone","reason":"deleted"}`, Error{Code: "key_not_found", Reason: "deleted", Context: "T"}, "gone (404 key_not_found)"},
		{507, "", `{"code":"insufficient_storage","detail":"full","outcome":"not_applied"}`, Error{Code: "insufficient_storage", Outcome: "not_applied"}, ""},
		{502, "", "<html>bad gateway</html>", Error{}, ""},
		{302, "", "", Error{}, ""},
	}
	for _, test := range tests {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", test.header)
			w.Header().Set("Location", "/elsewhere")
			if test.status == 404 {
				w.Header().Set("Rondo-Context", "T")
			}
			w.WriteHeader(test.status)
			io.WriteString(w, test.body)
		})
		_, err := c.Get(context.Background(), "b", "k", Options{})
		var got *Error
		if test.status == 302 {
			if err == nil {
				t.Error("a redirect was followed or taken for an answer")
			}
			continue
		}
		if !errors.As(err, &got) {
			t.Fatalf("%d: got %v, want an *Error", test.status, err)
		}
		if got.Status != test.status || got.Code != test.want.Code || got.Outcome != test.want.Outcome || got.Reason != test.want.Reason || got.Context != test.want.Context || got.RetryAfter != test.want.RetryAfter {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
		if test.text != "" && got.Error() != test.text {
			t.Errorf("got %q, want %q", got.Error(), test.text)
		}
		if got, want := IsTemporary(err), test.status >= 500; got != want {
			t.Errorf("%d: got temporary %v, want %v", test.status, got, want)
		}
	}
}

func TestFailover(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		io.WriteString(w, `{"context":"c"}`)
	}, refusing(t), refusing(t))
	for range 2 {
		if _, err := c.Put(context.Background(), "b", "k", []byte("v"), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 2 {
		t.Errorf("got %d calls, want 2", calls)
	}
	if got, want := c.first.Load(), uint32(2); got != want {
		t.Errorf("got node %d first, want the one that could be reached, %d", got, want)
	}
}

// TestNoFailoverOnceSent cuts the connection under a request: a write must not be sent again, a read may.
func TestNoFailoverOnceSent(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	calls := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		io.WriteString(w, `{"values":[]}`)
	}, cut.URL)
	_, err := c.Put(context.Background(), "b", "k", []byte("v"), Options{})
	var lost *Unreachable
	if !errors.As(err, &lost) || !lost.Sent || calls != 0 {
		t.Errorf("put: got %v and %d calls of the next node, want an *Unreachable that was sent, and none", err, calls)
	}
	if _, err := c.Get(context.Background(), "b", "k", Options{}); err != nil || calls != 1 {
		t.Errorf("get: got %v and %d calls of the next node, want nil and 1", err, calls)
	}
}

func TestDeadline(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "b", "k", Options{})
	if !errors.Is(err, context.DeadlineExceeded) || !IsTemporary(err) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestNodeAddresses(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"127.0.0.1:7070", "http://127.0.0.1:7070"},
		{" http://n1/ ", "http://n1"},
		{"https://h/base/", "https://h/base"},
		{"ftp://h", ""},
		{"http://", ""},
		{"http://h?x=1", ""},
		{"http://u:p@h", ""},
		{"http://h:port", ""},
	} {
		u, err := parseNode(test.in)
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%q: got %v, want an error", test.in, u)
		case test.want != "" && (err != nil || u.String() != test.want):
			t.Errorf("%q: got %v %v, want %s", test.in, u, err, test.want)
		}
	}
}

func TestList(t *testing.T) {
	var query string
	answers := []string{
		`{"keys":["a",{"base64":"/w=="},"\u00e9"],"cursor":"next"}`, `{"keys":[]}`,
		`{"keys":[{"key":"a","context":"t","values":[{"value": 1,"content_type":"application/json"}]},{"key":{"base64":"/w=="},"values":[{"value":"x","content_type":"text/plain"}]}]}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		io.WriteString(w, answers[0])
		answers = answers[1:]
	})
	page, err := c.List(context.Background(), "b", ListOptions{Prefix: "p\xff", Limit: 3, Cursor: "cur", R: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "\xff", "é"}; !slices.Equal(page.Keys, want) || page.Cursor != "next" {
		t.Errorf("got %q cursor %q, want %q", page.Keys, page.Cursor, want)
	}
	if want := "cursor=cur&limit=3&prefix=p%FF&r=one"; query != want {
		t.Errorf("got query %q, want %q", query, want)
	}
	if page, err := c.List(context.Background(), "b", ListOptions{}); err != nil || len(page.Keys) != 0 || page.Cursor != "" {
		t.Errorf("got %+v, %v, want an empty page", page, err)
	}
	page, err = c.List(context.Background(), "b", ListOptions{Values: true})
	if err != nil {
		t.Fatal(err)
	}
	if page.Keys[1] != "\xff" || string(page.Objects[0].Values[0].Data) != " 1" || string(page.Objects[1].Values[0].Data) != "x" || page.Objects[0].Context != "t" {
		t.Errorf("got %+v", page)
	}
}
