package apitest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Request is one HTTP request as it goes over the wire. Nothing in it is cleaned or completed but for Host, Connection
// and the length of the body.
type Request struct {
	Method, Target string
	Header         []string // name, value, name, value …
	Body           []byte
	Chunked        bool
	NoBody         bool // no Content-Length either
	Length         int  // declared in place of the body's own, where it is not 0
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is the problem document of an answer of 400 and above.
type Problem struct {
	Type, Title, Detail, Code, Outcome, Reason, Context string
	Status                                              int
	RequestID                                           string `json:"request_id"`
}

// client sends requests to the nodes in turn, and checks what holds for every answer.
type client struct {
	t         *testing.T
	options   Options
	nodes     []string // host:port
	next      int
	untouched bool // do not check the answer against the document
}

func newClient(t *testing.T, urls []string, options Options) *client {
	t.Helper()
	c := &client{t: t, options: options}
	for _, u := range urls {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, parsed.Host)
	}
	return c
}

// with is the same client in a subtest.
func (c *client) with(t *testing.T) *client {
	n := *c
	n.t = t
	return &n
}

// wire is the bytes of a request.
func (r *Request) wire(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, r.Target, host)
	for i := 0; i+1 < len(r.Header); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", r.Header[i], r.Header[i+1])
	}
	switch {
	case r.Chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for rest := r.Body; len(rest) > 0; {
			n := min(len(rest), 50_000)
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	case r.NoBody || r.Body == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		b.WriteString("\r\n")
	default:
		length := len(r.Body)
		if r.Length != 0 {
			length = r.Length
		}
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", length)
		b.Write(r.Body)
	}
	return b.Bytes()
}

// do sends a request to the next node.
func (c *client) do(r Request) Answer {
	c.t.Helper()
	c.next++
	return c.at(c.next%len(c.nodes), r)
}

// at sends a request to one node, over a connection of its own.
func (c *client) at(node int, r Request) Answer {
	c.t.Helper()
	conn, err := net.DialTimeout("tcp", c.nodes[node], 5*time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(70 * time.Second))
	sent := make(chan struct{})
	go func() { // the answer may come before the body is out
		defer close(sent)
		conn.Write(r.wire(c.nodes[node]))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.Method})
	if err != nil {
		c.t.Fatalf("%s %s: %v", r.Method, short(r.Target), err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: read answer: %v", r.Method, short(r.Target), err)
	}
	conn.Close()
	<-sent
	c.check(r, resp, body)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// check is what holds for every answer.
func (c *client) check(r Request, resp *http.Response, body []byte) {
	c.t.Helper()
	what := r.Method + " " + short(r.Target)
	switch resp.StatusCode {
	case 301, 302, 303, 307, 308:
		c.t.Errorf("%s is redirected to %s", what, resp.Header.Get("Location"))
	}
	if resp.Header.Get("Location") != "" {
		c.t.Errorf("%s: there is a Location", what)
	}
	kind := resp.Header.Get("Content-Type")
	if r.Method == http.MethodHead {
		if len(body) != 0 {
			c.t.Errorf("%s has a body", what)
		}
	} else if strings.HasSuffix(kind, "json") && !isLines(resp.Header) && !strings.Contains(r.Target, "raw=true") {
		if !json.Valid(body) {
			c.t.Errorf("%s: the answer is not valid JSON: %s", what, short(string(body)))
		}
		if !bytes.HasSuffix(body, []byte("\n")) {
			c.t.Errorf("%s: the answer does not end with a newline", what)
		}
	}
	if resp.StatusCode >= 400 && r.Method != http.MethodHead {
		c.checkProblem(what, r.Method, resp, body)
	}
	if c.options.Validator == nil || c.untouched {
		return
	}
	u, err := url.ParseRequestURI(r.Target)
	if err != nil {
		return
	}
	header := http.Header{}
	for i := 0; i+1 < len(r.Header); i += 2 {
		header.Add(r.Header[i], r.Header[i+1])
	}
	req := &http.Request{Method: r.Method, URL: u, Header: header, ContentLength: int64(len(r.Body))}
	if err := c.options.Validator.Check(req, r.Body, resp, body); err != nil {
		c.t.Errorf("not as the OpenAPI document says: %s", short(err.Error()))
	}
}

// codeStatus are the stable codes.
var codeStatus = map[string]int{
	"invalid_argument": 400, "key_not_found": 404, "not_found": 404, "method_not_allowed": 405, "too_many_siblings": 409,
	"conflict": 409, "too_large": 413, "quorum_unavailable": 503, "overloaded": 503, "not_ready": 503, "quorum_timeout": 504, "insufficient_storage": 507, "internal": 500,
}

func (c *client) checkProblem(what, method string, resp *http.Response, body []byte) {
	c.t.Helper()
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		c.t.Errorf("%s: %d is not a problem document: %s", what, resp.StatusCode, short(string(body)))
		return
	}
	if codeStatus[p.Code] != resp.StatusCode || p.Status != resp.StatusCode || p.Type != "/problems/"+p.Code || p.Detail == "" || p.Title == "" {
		c.t.Errorf("%s: %d does not fit its problem document: %s", what, resp.StatusCode, short(string(body)))
	}
	write, read := method == http.MethodPut || method == http.MethodDelete, method == http.MethodGet || method == http.MethodHead
	if write && p.Outcome == "" || read && p.Outcome != "" {
		c.t.Errorf("%s: the outcome is %q", what, p.Outcome)
	}
	if p.Code == "overloaded" && resp.Header.Get("Retry-After") == "" {
		c.t.Errorf("%s: overloaded without Retry-After", what)
	}
}

// want sends a request and fails the test where the status is another one.
func (c *client) want(status int, r Request) Answer {
	c.t.Helper()
	a := c.do(r)
	if a.Status != status {
		c.t.Fatalf("%s %s %q: got %d, want %d: %s", r.Method, short(r.Target), r.Header, a.Status, status, short(string(a.Body)))
	}
	return a
}

// refused sends a request that must be refused with 400 and a detail that contains a text.
func (c *client) refused(r Request, contains string) {
	c.t.Helper()
	a := c.want(400, r)
	if r.Method == http.MethodHead {
		return
	}
	var p Problem
	json.Unmarshal(a.Body, &p)
	if p.Code != "invalid_argument" || !strings.Contains(p.Detail, contains) {
		c.t.Errorf("%s %s: got %s %q, want a detail with %q", r.Method, short(r.Target), p.Code, p.Detail, contains)
	}
	if (r.Method == http.MethodPut || r.Method == http.MethodDelete) && p.Outcome != "not_applied" {
		c.t.Errorf("%s %s: outcome %q", r.Method, short(r.Target), p.Outcome)
	}
}

func get(target string, header ...string) Request {
	return Request{Method: http.MethodGet, Target: target, Header: header}
}

func put(target, body string, header ...string) Request {
	return Request{Method: http.MethodPut, Target: target, Body: []byte(body), Header: header}
}

func del(target string, header ...string) Request {
	return Request{Method: http.MethodDelete, Target: target, Header: header}
}

func short(s string) string {
	if len(s) > 400 {
		return s[:400] + "…"
	}
	return s
}

// fresh is a name that no other test uses.
func fresh(prefix string) string {
	var b [6]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

// escape percent-encodes every byte.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}
