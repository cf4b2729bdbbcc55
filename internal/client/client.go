// Package client speaks Rondo's HTTP API: keys and values, listing, buckets and the operator pages, as typed calls. It uses the
// standard library only.
//
// Keys and values are bytes: no path is cleaned, no redirect is followed, and the bytes of a value are never changed on the
// way. A call that no node has been sent is moved on to the next node by itself; a write that may have arrived never is,
// for whether to repeat it is the caller's decision.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Limits of a client.
const (
	DefaultNode = "http://127.0.0.1:7070" // the node that is asked where none is named

	defaultWait        = 15 * time.Second // of a call where Config.Timeout is not set
	grace              = 2 * time.Second  // for the node's own answer after its deadline
	maxDial            = 3 * time.Second  // of one attempt to connect
	maxAnswer          = 1 << 30          // bytes of one answer
	defaultConnections = 64
	minServerTimeout   = time.Millisecond
	maxServerTimeout   = time.Minute
)

// Config says which cluster to talk to. The zero value means one node on DefaultNode.
type Config struct {
	Nodes       []string      // base URLs ("http://host:port"; a bare "host:port" is http); any node serves any request
	Timeout     time.Duration // deadline of one call, which nodes are told too; 0 = the node's own
	Connections int           // idle connections kept per node; 0 = 64
	UserAgent   string        // "" = "rondo-client"
	// Dial replaces TCP, for clusters that are not on a network. nil = TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client makes calls to a cluster. Safe for concurrent use. Close it to drop its connections.
type Client struct {
	nodes   []*url.URL
	timeout time.Duration
	agent   string
	http    *http.Client
	first   *atomic.Uint32 // index of the node that is tried first: the last one that could be reached
}

// New checks the configuration. It connects to nothing yet.
func New(config Config) (*Client, error) {
	if len(config.Nodes) == 0 {
		config.Nodes = []string{DefaultNode}
	}
	if config.Connections <= 0 {
		config.Connections = defaultConnections
	}
	if config.UserAgent == "" {
		config.UserAgent = "rondo-client"
	}
	if config.Timeout < 0 {
		return nil, fmt.Errorf("timeout %v: must not be negative", config.Timeout)
	}
	c := &Client{timeout: config.Timeout, agent: config.UserAgent, first: new(atomic.Uint32)}
	for _, n := range config.Nodes {
		u, err := parseNode(n)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, u)
	}
	dial := maxDial
	if config.Timeout > 0 && len(c.nodes) > 1 {
		dial = min(dial, max(config.Timeout/time.Duration(len(c.nodes)), 50*time.Millisecond))
	}
	connect := config.Dial
	if connect == nil {
		connect = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, dial)
				defer cancel()
				return connect(ctx, network, addr)
			},
			TLSHandshakeTimeout: maxDial,
			MaxIdleConnsPerHost: config.Connections,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// parseNode reads a base URL. A bare host:port means http.
func parseNode(s string) (*url.URL, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("parse node address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("node address %q: use http://host:port", s)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// Close drops idle connections. Calls that are under way end by themselves.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Nodes lists the base URLs in the order they were given.
func (c *Client) Nodes() []string {
	out := make([]string, len(c.nodes))
	for i, u := range c.nodes {
		out[i] = u.String()
	}
	return out
}

// Prefer returns a client that shares the connections and tries node i (modulo their number) first: to spread load.
func (c *Client) Prefer(i int) *Client {
	other := *c
	other.first = new(atomic.Uint32)
	other.first.Store(uint32(i % len(c.nodes)))
	return &other
}

// call is one request, whichever node takes it.
type call struct {
	method string
	path   string // escaped, from "/v1/…"
	query  url.Values
	header http.Header
	body   []byte // nil = none
}

// answer is a whole response below 400.
type answer struct {
	status int
	header http.Header
	body   []byte
	node   string
}

// do sends a call to the preferred node, and to the next ones where no connection came about. A GET or HEAD goes on after a
// broken connection too, and a write after the answer that nothing was written because disks are full. Errors: *Error (the node answered
// with a problem), *Unreachable, or the context's.
func (c *Client) do(ctx context.Context, request call) (*answer, error) {
	wait := defaultWait
	if c.timeout > 0 {
		wait = c.timeout + grace
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	first := c.first.Load()
	var (
		failures []error
		full     *Error
	)
	for i := range c.nodes {
		n := (first + uint32(i)) % uint32(len(c.nodes))
		a, err := c.send(ctx, c.nodes[n], request)
		var lost *Unreachable
		if e := (*Error)(nil); errors.As(err, &e) && e.Code == CodeInsufficientStorage && e.Outcome == "not_applied" {
			full = e // the next node may coordinate with other replicas
			continue
		}
		if !errors.As(err, &lost) {
			c.first.Store(n)
			return a, err
		}
		failures = append(failures, err)
		if ctx.Err() != nil || lost.Sent && request.method != http.MethodGet && request.method != http.MethodHead {
			return nil, errors.Join(failures...)
		}
	}
	if full != nil {
		return nil, full
	}
	return nil, errors.Join(failures...)
}

// send makes one request to one node and reads the whole answer.
func (c *Client) send(ctx context.Context, node *url.URL, request call) (*answer, error) {
	resp, err := c.open(ctx, node, request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := readAll(resp)
	if err != nil {
		return nil, &Unreachable{Node: node.String(), Sent: true, Err: fmt.Errorf("read answer: %w", err)}
	}
	if resp.StatusCode >= 400 {
		return nil, decodeProblem(node.String(), resp, b)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: b, node: node.String()}, nil
}

// open makes one request to one node. The caller closes the body of the answer.
func (c *Client) open(ctx context.Context, node *url.URL, request call) (*http.Response, error) {
	path, err := url.PathUnescape(request.path)
	if err != nil {
		return nil, fmt.Errorf("build path: %w", err)
	}
	u := *node
	// RawPath goes out as it is; net/http cleans nothing as long as it decodes to Path.
	u.Path, u.RawPath = node.Path+path, node.EscapedPath()+request.path
	u.RawQuery = request.query.Encode()
	header := request.header
	if header == nil {
		header = http.Header{}
	}
	header.Set("User-Agent", c.agent)
	r := (&http.Request{Method: request.method, URL: &u, Host: u.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if request.body != nil {
		body := request.body
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
		r.ContentLength = int64(len(body))
		if len(body) == 0 {
			r.Body = http.NoBody
		}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, &Unreachable{Node: node.String(), Sent: !dialFailed(err), Err: withoutURL(err)}
	}
	return resp, nil
}

// readAll reads a body of at most maxAnswer bytes, in one allocation where its length is known.
func readAll(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n > maxAnswer {
		return nil, fmt.Errorf("answer of %d bytes is more than %d: ask for a smaller page", n, maxAnswer)
	} else if n > 0 && resp.Request.Method != http.MethodHead {
		b := make([]byte, n)
		_, err := io.ReadFull(resp.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("answer is more than %d bytes: ask for a smaller page", maxAnswer)
	}
	return b, err
}

// dialFailed tells whether err comes from connecting, so that nothing can have been sent.
func dialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// withoutURL drops the method and URL that net/http puts before an error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
