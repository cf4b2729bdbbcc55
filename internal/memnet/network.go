// Package memnet is a network in memory for tests of whole nodes: machines that exchange packets and streams, with the faults
// of a real network. It opens no socket and runs inside a testing/synctest bubble, where all waits are in virtual time.
//
// A Host is one life of a machine: Crash ends it for ever, and the next Host of that name is the reboot. Whoever still uses
// the old one reaches nobody. Pause freezes a host as others see it.
//
// A Rule says what a link does in one direction; links join hosts, not ports, and a host's traffic with itself follows none.
// Packets are lost, doubled and delayed, so that they overtake each other; one that cannot be queued is dropped, as UDP does.
// Stream bytes are delayed in order, and each direction holds 256 KiB. Over a cut they wait and arrive after the heal. The end
// that sent them breaks when they stay unacknowledged for UserTimeout; the other end then is half-open: it learns of that when
// it sends. Bytes that reach an end which is gone come back as a reset. A dial over a cut hangs.
//
// Losses and jitter are drawn from a seeded source, in the order in which the goroutines happen to send.
package memnet

import (
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Network connects hosts. All methods are safe for concurrent use, and none waits but Dial.
type Network struct {
	// UserTimeout is how long what a stream has sent may stay unacknowledged because of a cut or of a machine without power until
	// that end breaks with syscall.ETIMEDOUT; 0 = for ever. A peer that does not read is not a reason. Set it before use. New
	// sets 10 s.
	UserTimeout time.Duration

	mu       sync.Mutex // held for instants only
	rand     *rand.Rand
	machines map[string]*machine // by name
	owners   map[string]*machine // by the host part of the addresses that they listened at
	paths    map[link]*path
	sockets  map[string]socket // by host:port
	conns    map[*conn]struct{}
	changed  chan struct{} // closed and replaced when a dial that hangs may have a chance
}

// Rule is what happens in one direction of a link. The zero value is a perfect link.
type Rule struct {
	Cut       bool          // nothing passes
	Drop      float64       // share of the packets that are lost, 0 to 1
	Duplicate float64       // share of the packets that arrive twice, 0 to 1
	Delay     time.Duration // of packets, stream bytes and dials
	Jitter    time.Duration // more delay, drawn evenly from 0 to this; packets overtake each other, stream bytes do not
	Rate      int           // stream bytes per second, for all streams together; 0 = no limit
}

type link struct{ from, to string }

// path is one direction between two machines.
type path struct {
	rule Rule
	busy time.Time // until then the bytes sent so far occupy the link, if it has a rate
}

// New makes a network whose losses and jitter follow the seed.
func New(seed uint64) *Network {
	return &Network{
		UserTimeout: 10 * time.Second, rand: rand.New(rand.NewPCG(seed, seed)), machines: map[string]*machine{}, owners: map[string]*machine{},
		paths: map[link]*path{}, sockets: map[string]socket{}, conns: map[*conn]struct{}{}, changed: make(chan struct{}),
	}
}

// SetLink replaces the rule from one host to another; the other direction keeps its own. What is under way keeps its time of
// arrival, unless the link is cut now: then it waits (bytes) or is lost (packets). A host is named by its name or by the host
// part of an address that it has listened at.
func (n *Network) SetLink(from, to string, r Rule) {
	n.EditLink(from, to, func(old *Rule) { *old = r })
}

// EditLink changes the rule from one host to another, as SetLink does. change must not call the network.
func (n *Network) EditLink(from, to string, change func(*Rule)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	from, to = n.name(from), n.name(to)
	change(&n.path(from, to).rule)
	n.refresh(func(c *conn) bool { return c.joins(from, to) })
}

// Link is the rule from one host to another at present.
func (n *Network) Link(from, to string) Rule {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.path(n.name(from), n.name(to)).rule
}

// Cut stops everything between two hosts, in both directions.
func (n *Network) Cut(a, b string) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay stops what goes from one host to another. What goes the other way arrives, but what acknowledges it does not.
func (n *Network) CutOneWay(from, to string) {
	n.EditLink(from, to, func(r *Rule) { r.Cut = true })
}

// Split cuts every link between hosts of different groups.
func (n *Network) Split(groups ...[]string) {
	for i, group := range groups {
		for _, other := range groups[i+1:] {
			for _, a := range group {
				for _, b := range other {
					n.Cut(a, b)
				}
			}
		}
	}
}

// Heal ends the cuts between two hosts, in both directions.
func (n *Network) Heal(a, b string) {
	n.EditLink(a, b, func(r *Rule) { r.Cut = false })
	n.EditLink(b, a, func(r *Rule) { r.Cut = false })
}

// HealAll makes every link perfect again. Hosts that are paused or down remain so.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.paths {
		*p = path{}
	}
	n.refresh(func(*conn) bool { return true })
}

// Drop loses this share of the packets from one host to another, 0 to 1.
func (n *Network) Drop(from, to string, share float64) {
	n.EditLink(from, to, func(r *Rule) { r.Drop = share })
}

// Delay holds up whatever goes from one host to another.
func (n *Network) Delay(from, to string, d time.Duration) {
	n.EditLink(from, to, func(r *Rule) { r.Delay = d })
}

// Reset breaks all streams between two hosts at once, at both ends. What has arrived can still be read.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b = n.name(a), n.name(b)
	for c := range n.conns {
		if c.joins(a, b) {
			c.ends[0].fail(errReset)
			c.ends[1].fail(errReset)
		}
	}
}

// Reaches tells whether a round trip between two hosts is possible at present: no cut, and neither paused nor down.
func (n *Network) Reaches(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, b = n.name(a), n.name(b)
	for _, name := range []string{a, b} {
		if m := n.machines[name]; m != nil && (m.host.dead || m.host.paused) {
			return false
		}
	}
	return a == b || !n.path(a, b).rule.Cut && !n.path(b, a).rule.Cut
}

// Hosts names the hosts that listen at present, sorted.
func (n *Network) Hosts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := map[string]struct{}{}
	for _, s := range n.sockets {
		names[s.owner().machine.name] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}

// name is the name of the host that owns an address, or else what was given. The caller holds mu.
func (n *Network) name(host string) string {
	if m := n.owners[host]; m != nil {
		return m.name
	}
	return host
}

// path is one direction between two hosts, by name. The caller holds mu.
func (n *Network) path(from, to string) *path {
	l := link{from, to}
	p := n.paths[l]
	if p == nil {
		p = &path{}
		if from != to { // a host's way to itself follows no rule, so nobody may find it
			n.paths[l] = p
		}
	}
	return p
}

// refresh makes the streams feel what has changed, and gives the dials that hang a try. The caller holds mu.
func (n *Network) refresh(which func(*conn) bool) {
	now := time.Now()
	for c := range n.conns {
		if which(c) {
			c.ends[0].out.refresh(now)
			c.ends[1].out.refresh(now)
		}
	}
	n.wake()
}

// wake gives the dials that hang a try. The caller holds mu.
func (n *Network) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// extra is the delay and jitter of one thing on the path. The caller holds mu.
func (n *Network) extra(r Rule) time.Duration {
	d := max(r.Delay, 0)
	if r.Jitter > 0 {
		d += time.Duration(n.rand.Int64N(int64(r.Jitter)))
	}
	return d
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// address is a host:port of the network.
type address string

func (address) Network() string  { return "memnet" }
func (a address) String() string { return string(a) }
