package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// Workload is a way of using keys. Each has keys of its own.
type Workload string

// The workloads.
const (
	SetAdd    Workload = "set"       // read, merge all versions, add an element, write with the read's context
	Registers Workload = "registers" // overwrite hot keys with the context of the last read or write, now and then with none
	Deletes   Workload = "deletes"   // put, delete and put again, with contexts and without, on keys that rest in between
	Sessions  Workload = "sessions"  // one context carried from node to node, read at r=1
	Expiring  Workload = "expiring"  // values that expire after Config.TTL, between values that do not
)

// Workloads lists the workloads that a configuration means which names none: all but Expiring, which rests on clocks.
func Workloads() []Workload { return []Workload{SetAdd, Registers, Deletes, Sessions} }

// Limits of a verification.
const (
	// MaxOps is how many operations a history takes; load stops there. One takes about 500 bytes, and as much again while it is
	// judged. Twelve clients at the default pace make at most 1,200 in a second, so an hour takes some 2 GB.
	MaxOps = 4_500_000
	// MaxClients, MaxKeys bound the configuration.
	MaxClients = 1000
	MaxKeys    = 1000

	defaultTTL  = 3 * time.Second
	leastTTL    = time.Second // the API takes no less
	defaultSkew = time.Second

	leastPause = 10 * time.Millisecond // after an operation that no node took, so that nobody spins
)

// Config says what to load and how. The zero value of a field means its default.
type Config struct {
	Nodes []string // base URLs of the API, at least one
	Names []string // of the nodes, for histories; nil = host:port
	// Dial replaces TCP, for clusters that are not on a network. nil = TCP.
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	Bucket    string         // "" = "verify"; one that resolves to siblings
	Run       string         // prefix of this run's keys, so that runs never meet; "" = random
	Clients   int            // goroutines, each with one request at a time; 0 = 12
	Keys      int            // in use at one time, per workload; 0 = 20
	Pace      time.Duration  // mean pause of a client between two operations, exponential; 0 = 10 ms, negative = none
	Timeout   time.Duration  // of one request; 0 = 2 s
	Options   client.Options // R, W, DW, Consistency and Sloppy of all requests but weak reads, which use r=1
	Workloads []Workload     // nil = Workloads(), and Expiring where TTL is set
	// SloppyPercent of all operations but weak reads allow stand-ins, where Options.Sloppy leaves it to the bucket. Those that stand-ins took
	// part in are held to less; the others are judged as ever.
	SloppyPercent int
	TTL           time.Duration // of the values of Expiring, 1 s at least; 0 = 3 s where it is among Workloads
	Skew          time.Duration // how far the clocks of any two nodes may be apart, for Expiring; 0 = 1 s
	// Quiet has Finish read nothing until the replicas of every key agree: it looks at them with explain only, which repairs nothing. So it
	// is up to hints and anti-entropy to bring that about within Settle.
	Quiet  bool
	Seed   uint64        // of all choices but Run
	Settle time.Duration // how long Finish waits for the replicas to agree; 0 = 60 s
	Stick  bool          // each client stays at one node and moves on only when that fails; else any node that answers
	// Progress is called about once a second while Load and Finish work, never twice at a time. It may call Note
	// and History only. nil = none.
	Progress func(Progress)
}

// Check says what is wrong with a configuration, nodes included, as New would.
func (c Config) Check() error { return c.validate() }

// validate fills in defaults and rejects what cannot be meant so.
func (c *Config) validate() error {
	if len(c.Nodes) == 0 {
		return errors.New("no nodes")
	}
	if c.Names == nil {
		for _, n := range c.Nodes {
			c.Names = append(c.Names, hostPort(n))
		}
	}
	if len(c.Names) != len(c.Nodes) {
		return fmt.Errorf("%d names for %d nodes", len(c.Names), len(c.Nodes))
	}
	if c.Bucket == "" {
		c.Bucket = "verify"
	}
	if c.Run == "" {
		c.Run = strings.ToLower(rand.Text()[:6])
	}
	if c.Clients == 0 {
		c.Clients = 12
	}
	if c.Clients < 1 || c.Clients > MaxClients {
		return fmt.Errorf("%d clients: use 1 to %d", c.Clients, MaxClients)
	}
	if c.Keys == 0 {
		c.Keys = 20
	}
	if c.Keys < 1 || c.Keys > MaxKeys {
		return fmt.Errorf("%d keys: use 1 to %d", c.Keys, MaxKeys)
	}
	if c.Pace == 0 {
		c.Pace = 10 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = time.Minute
	}
	if c.Timeout < time.Millisecond || c.Settle < 0 {
		return fmt.Errorf("timeout %v, settle %v: must be more than 0", c.Timeout, c.Settle)
	}
	if len(c.Workloads) == 0 {
		c.Workloads = Workloads()
		if c.TTL > 0 {
			c.Workloads = append(c.Workloads, Expiring)
		}
	}
	for i, w := range c.Workloads {
		if !slices.Contains(append(Workloads(), Expiring), w) || slices.Contains(c.Workloads[:i], w) {
			return fmt.Errorf("workload %q: use set, registers, deletes, sessions or expiring, each once", w)
		}
	}
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.Skew == 0 {
		c.Skew = defaultSkew
	}
	if c.TTL < leastTTL || c.Skew < 0 {
		return fmt.Errorf("ttl %v, skew %v: a ttl is at least %v, a skew not negative", c.TTL, c.Skew, leastTTL)
	}
	if c.SloppyPercent < 0 || c.SloppyPercent > 100 {
		return fmt.Errorf("%d %% sloppy: use 0 to 100", c.SloppyPercent)
	}
	c.Options.Context, c.Options.ContentType, c.Options.TTL, c.Options.ReturnValue, c.Options.FullReceipt = "", "", "", false, false
	return nil
}

// hostPort is the short name of a node.
func hostPort(node string) string {
	if u, err := url.Parse(node); err == nil && u.Host != "" {
		return u.Host
	}
	return node
}
