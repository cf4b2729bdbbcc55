package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/rondodb/rondo/ring"
)

// MetaStore keeps small records for good. Safe for concurrent use.
type MetaStore interface {
	// GetMeta is nil without an error where there is nothing.
	GetMeta(name string) ([]byte, error)
	// PutMeta returns when the record is on disk.
	PutMeta(name string, value []byte) error
}

// FormPeers carries this package's own messages to other nodes. Call blocks until there is an answer or ctx ends; kind is
// "form" (answered by Membership.HandleForm) or "layout" (answered by Membership.HandleLayout).
type FormPeers interface {
	Call(ctx context.Context, to ring.NodeID, kind string, payload []byte) ([]byte, error)
}

// The kinds of FormPeers.Call.
const (
	callForm   = "form"
	callLayout = "layout"
)

// Config is how a Membership runs.
type Config struct {
	Self     ring.NodeID
	Name     string // 1 to 64 bytes, for people
	Zone     string // at most 64 bytes
	Cluster  string // 1 to 64 bytes; nodes of another cluster name are never heard
	Version  string // of the build; cut to 32 bytes
	HTTPAddr string // host:port that clients dial
	PeerAddr string // host:port that other nodes dial

	Bind      string   // host:port to listen on, TCP and UDP; port 0 picks one. Not used with Transport
	Advertise string   // host that others dial; "" = the bind address, or one of this host's where that is unspecified
	Join      []string // host:port of nodes to meet; a name stands for all its addresses

	Expect     int // fresh nodes that form the first ring together; 0 = 1
	Partitions int // of the first ring, a power of two; 0 = 256
	Weight     int // share in the first ring, 1 to ring.MaxWeight; 0 = 1

	Meta      MetaStore
	Peers     FormPeers
	Transport memberlist.Transport // nil = sockets at Bind
	// Resolve finds the addresses of a host name; nil = the system's resolver.
	Resolve func(ctx context.Context, host string) ([]net.IP, error)
	Logger  *slog.Logger // nil = no logs
	Rand    *rand.Rand   // for choices; nil = randomly seeded. The Membership is its only user from New on

	Timing Timing
}

// Timing is how fast membership reacts; each zero field means its default.
type Timing struct {
	ProbeInterval  time.Duration // one member is probed per interval; default 500 ms
	ProbeTimeout   time.Duration // of the direct probe, before others are asked to probe; default 250 ms
	GossipInterval time.Duration // default 200 ms
	PushPull       time.Duration // full exchange with a random member; default 15 s
	Stream         time.Duration // of one full exchange or dial; default 3 s
	RejoinInterval time.Duration // seeds are looked up again and missing members dialed this often; default 10 s
	RejoinFast     time.Duration // the same while alone, or shortly after a member was lost; default 1 s
	Reclaim        time.Duration // after death, before an id may come back at another address; default 1 s
	Settle         time.Duration // all fresh nodes must have seen the same set for this long before one proposes; default 500 ms
	FormTick       time.Duration // between two looks at how forming stands; default 250 ms
	FormAway       time.Duration // silence of a proposer, before the members of its attempt ask each other; default 5 s
	Call           time.Duration // of one message to another node; default 2 s
}

func (t *Timing) fill() {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.ProbeInterval, 500 * time.Millisecond},
		{&t.ProbeTimeout, 250 * time.Millisecond},
		{&t.GossipInterval, 200 * time.Millisecond},
		{&t.PushPull, 15 * time.Second},
		{&t.Stream, 3 * time.Second},
		{&t.RejoinInterval, 10 * time.Second},
		{&t.RejoinFast, time.Second},
		{&t.Reclaim, time.Second},
		{&t.Settle, 500 * time.Millisecond},
		{&t.FormTick, 250 * time.Millisecond},
		{&t.FormAway, 5 * time.Second},
		{&t.Call, 2 * time.Second},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
}

// Limits of the configuration.
const (
	maxVersion = 32 // bytes of a build's version that travel
	maxJoin    = 256
)

// validate fills defaults and rejects what cannot work.
func (c *Config) validate() error {
	if !validID(string(c.Self)) {
		return fmt.Errorf("node id %q: want 32 lower-case hexadecimal digits", c.Self)
	}
	for _, f := range []struct {
		what, value string
		least       int
	}{{"name", c.Name, 1}, {"zone", c.Zone, 0}, {"cluster name", c.Cluster, 1}} {
		if len(f.value) < f.least || len(f.value) > ring.MaxName || !utf8.ValidString(f.value) {
			return fmt.Errorf("%s %q: want %d to %d bytes of UTF-8", f.what, f.value, f.least, ring.MaxName)
		}
	}
	for _, f := range []struct{ what, value string }{{"HTTP address", c.HTTPAddr}, {"peer address", c.PeerAddr}} {
		if err := checkAddr(f.value); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	if c.Transport == nil {
		if err := checkAddr(c.Bind); err != nil {
			return fmt.Errorf("gossip address: %w", err)
		}
	}
	if len(c.Join) > maxJoin {
		return fmt.Errorf("%d addresses to join: want at most %d", len(c.Join), maxJoin)
	}
	for _, seed := range c.Join {
		if err := checkAddr(seed); err != nil {
			return fmt.Errorf("address to join: %w", err)
		}
	}
	if c.Meta == nil || c.Peers == nil {
		return errors.New("membership needs a place to keep records and a way to call peers")
	}
	return c.validateNumbers()
}

func (c *Config) validateNumbers() error {
	fill := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	fill(&c.Expect, 1)
	fill(&c.Partitions, 256)
	fill(&c.Weight, 1)
	if c.Expect < 1 || c.Expect > ring.MaxMembers {
		return fmt.Errorf("%d nodes expected: want 1 to %d", c.Expect, ring.MaxMembers)
	}
	if c.Partitions < 1 || c.Partitions > ring.MaxPartitions || bits.OnesCount(uint(c.Partitions)) != 1 {
		return fmt.Errorf("%d partitions: want a power of two from 1 to %d", c.Partitions, ring.MaxPartitions)
	}
	if c.Weight < 1 || c.Weight > ring.MaxWeight {
		return fmt.Errorf("weight %d: want 1 to %d", c.Weight, ring.MaxWeight)
	}
	if len(c.Version) > maxVersion {
		c.Version = c.Version[:maxVersion]
	}
	widest := meta{Name: c.Name, Zone: c.Zone, HTTPAddr: c.HTTPAddr, PeerAddr: c.PeerAddr, Version: c.Version}
	if n := len(widest.append(nil, maxPad)) + ring.MaxName; n > memberlist.MetaMaxSize {
		return fmt.Errorf("name (%d bytes), zone (%d), HTTP address (%d) and peer address (%d) are %d bytes too long together to be gossiped",
			len(c.Name), len(c.Zone), len(c.HTTPAddr), len(c.PeerAddr), n-memberlist.MetaMaxSize)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]net.IP, error) {
			return net.DefaultResolver.LookupIP(ctx, "ip", host)
		}
	}
	c.Timing.fill()
	return nil
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT: %w", addr, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is not a number from 0 to 65535", addr, port)
	}
	return nil
}

func validID(id string) bool {
	if len(id) != idBytes {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const idBytes = 32

// listConfig is memberlist's configuration. Its reasons:
//
//   - members are named by id, so that a name or an address may change hands without confusion;
//   - the label keeps other clusters out before anything of theirs is read;
//   - Reclaim lets an id come back at another address soon after it was seen dead there;
//   - the dead are remembered for ten minutes, so that they can refute by themselves; what lies longer apart is healed by
//     the rejoin loop;
//   - 1200 bytes a packet pass through overlays and VPNs; the messages are small, so compressing them only costs time.
func (m *Membership) listConfig(transport memberlist.Transport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	t := m.config.Timing
	d := (*delegate)(m)
	c.Name = string(m.config.Self)
	c.Label = "rondo/" + m.config.Cluster
	c.Transport = transport
	c.ProbeInterval, c.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	c.SuspicionMult = suspicionMult
	c.GossipInterval = t.GossipInterval
	c.GossipToTheDeadTime = rememberDead
	c.PushPullInterval = t.PushPull
	c.TCPTimeout = t.Stream
	c.DeadNodeReclaimTime = t.Reclaim
	c.UDPBufferSize = 1200
	c.EnableCompression = false
	c.Delegate, c.Events, c.Alive, c.Merge, c.Conflict, c.Ping = d, d, d, d, d, d
	c.Logger = newLogBridge(m.log, m.notePacketOfOthers)
	return c
}

const suspicionMult = 4 // probe intervals, at least, from suspicion to death

// hearsay is how old a node's last answer to this node's own probe is at least when the node is really found dead, by whomever.
func (c *Config) hearsay() time.Duration { return suspicionMult * c.Timing.ProbeInterval }

// rememberDead is how long the dead are kept and told about, here and in memberlist.
const rememberDead = 10 * time.Minute
