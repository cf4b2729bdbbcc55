// Package load puts load on a cluster over its HTTP API and measures it: throughput, latency and, where asked, the CPU time of the
// processes under test per operation.
//
// Closed loop: each connection sends its next request when the answer to the last one is in. Open loop: requests have a fixed
// schedule, and latency counts from the instant at which a request was due, so a server that stalls is charged for every
// request that had to wait for it (no "coordinated omission"). The generator writes HTTP/1.1 by hand over persistent plain
// TCP connections, because it shares the machine with what it measures.
package load

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Distributions of keys.
const (
	Uniform = "uniform" // every key alike
	Zipf    = "zipf"    // few keys are hot (theta 0.99, as YCSB)
	Latest  = "latest"  // writes add keys, reads prefer the newest ones
)

// Kinds of values.
const (
	JSON  = "json"  // a JSON document of Config.ValueSize bytes
	Bytes = "bytes" // random bytes
)

// Config says what load to make. The zero value of a field means its default.
type Config struct {
	Nodes        []string       // base URLs, plain http; connections are spread over them in turn; default http://127.0.0.1:7070
	Bucket       string         // default "bench"
	Prefix       string         // of each key; default "key"
	Connections  int            // persistent connections; default 64
	Rate         float64        // operations per second over all connections; 0 = closed loop
	ReadPercent  int            // share of reads, 0 to 100; the rest are writes
	Keys         int            // number of keys; default 100,000
	Distribution string         // Uniform (default), Zipf or Latest
	ValueSize    int            // bytes; default 1,024
	Content      string         // JSON (default) or Bytes
	Query        string         // query string of every request, for instance "r=2&w=2&dw=0"
	Duration     time.Duration  // that is measured; default 10 s
	Warmup       time.Duration  // before it, not measured; default 1 s, negative = none
	Load         bool           // write every key once before
	PIDs         []int          // processes whose CPU time is measured
	Timeout      time.Duration  // after which an operation counts as failed; default 10 s
	Seed         uint64         // of all choices; default 1
	Progress     func(Progress) // called about twice a second from Run's own goroutine; may be nil
}

// Progress is how far a run is.
type Progress struct {
	Phase  string        // "load", "warmup" or "measure"
	Done   uint64        // operations that succeeded in this phase
	Total  uint64        // of the load phase; else 0
	Errors uint64        // in this phase
	Past   time.Duration // time in this phase
	Of     time.Duration // its length; 0 = unknown
}

// Limits of a run.
const (
	maxConnections = 65536
	maxKeys        = 1 << 30
	maxValue       = 32 << 20
	maxPrefix      = 900
)

// Check says what is wrong with a configuration, without running it.
func (c Config) Check() error {
	if err := c.validate(); err != nil {
		return err
	}
	_, err := targets(c.Nodes)
	return err
}

// validate fills defaults and rejects what cannot be run.
func (c *Config) validate() error {
	fill := func(p *string, value string) {
		if *p == "" {
			*p = value
		}
	}
	fill(&c.Bucket, "bench")
	fill(&c.Prefix, "key")
	fill(&c.Distribution, Uniform)
	fill(&c.Content, JSON)
	if len(c.Nodes) == 0 {
		c.Nodes = []string{"http://127.0.0.1:7070"}
	}
	if c.Connections == 0 {
		c.Connections = 64
	}
	if c.Keys == 0 {
		c.Keys = 100_000
	}
	if c.ValueSize == 0 {
		c.ValueSize = 1024
	}
	if c.Duration == 0 {
		c.Duration = 10 * time.Second
	}
	if c.Warmup == 0 {
		c.Warmup = time.Second
	}
	c.Warmup = max(c.Warmup, 0)
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	switch {
	case c.Connections < 0 || c.Connections > maxConnections:
		return fmt.Errorf("connections %d: use 1 to %d", c.Connections, maxConnections)
	case c.Keys < 0 || c.Keys > maxKeys:
		return fmt.Errorf("keys %d: use 1 to %d", c.Keys, maxKeys)
	case c.ValueSize < minJSON || c.ValueSize > maxValue:
		return fmt.Errorf("value size %d: use %d to %d bytes", c.ValueSize, minJSON, maxValue)
	case c.ReadPercent < 0 || c.ReadPercent > 100:
		return fmt.Errorf("mix %d: reads are 0 to 100 percent", c.ReadPercent)
	case c.Rate < 0 || c.Rate > 1e7:
		return fmt.Errorf("rate %g: use 0 (closed loop) to 10,000,000 per second", c.Rate)
	case c.Duration < 0 || c.Timeout < 0:
		return errors.New("durations must not be negative")
	case len(c.Prefix) > maxPrefix || strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~") != "":
		return fmt.Errorf("key prefix %q: use up to %d letters, digits and -_.~", c.Prefix, maxPrefix)
	case c.Distribution != Uniform && c.Distribution != Zipf && c.Distribution != Latest:
		return fmt.Errorf("distribution %q: use uniform, zipf or latest", c.Distribution)
	case c.Content != JSON && c.Content != Bytes:
		return fmt.Errorf("content %q: use json or bytes", c.Content)
	}
	return nil
}

// target is one node to dial.
type target struct {
	addr string // host:port to dial
	host string // of the Host header
	base string // path before /v1
}

// targets reads the node addresses.
func targets(nodes []string) ([]target, error) {
	out := make([]target, len(nodes))
	for i, n := range nodes {
		if !strings.Contains(n, "://") {
			n = "http://" + n
		}
		u, err := url.Parse(n)
		if err != nil {
			return nil, fmt.Errorf("parse node address: %w", err)
		}
		if u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("node address %q: the load generator speaks plain http://host:port", n)
		}
		out[i] = target{addr: u.Host, host: u.Host, base: strings.TrimRight(u.EscapedPath(), "/")}
		if u.Port() == "" {
			out[i].addr += ":80"
		}
	}
	return out, nil
}
