// Package memnet is a network in memory for tests: hosts that exchange packets and streams over links that can be cut in
// one or both directions, delayed, or made to lose packets. It runs inside a testing/synctest bubble: nothing in it touches
// a socket, and delays use the bubble's clock. Losses are drawn from a seeded source.
//
// Links are between hosts, not ports. A packet that cannot be queued is dropped, as UDP does; a cut breaks the open streams
// of that link, and dialing over it hangs until the caller's timeout, as TCP over a dead cable does.
package memnet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Network connects hosts. All methods are safe for concurrent use.
type Network struct {
	mu         sync.Mutex
	rand       *rand.Rand
	links      map[link]rule
	transports map[string]*Transport // by host:port
	listeners  map[string]*Listener  // by host:port
	streams    map[*stream]struct{}
	changed    chan struct{} // closed and replaced when a link changes
}

// link is one direction between two hosts.
type link struct{ from, to string }

// rule is what happens on a link; the zero value is a perfect one.
type rule struct {
	cut   bool
	drop  float64
	delay time.Duration
}

// New makes a network whose losses follow the seed.
func New(seed uint64) *Network {
	return &Network{
		rand: rand.New(rand.NewPCG(seed, seed)), links: map[link]rule{}, transports: map[string]*Transport{},
		listeners: map[string]*Listener{}, streams: map[*stream]struct{}{}, changed: make(chan struct{}),
	}
}

// Cut stops everything from one host to another, in both directions.
func (n *Network) Cut(a, b string) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay stops what goes from one host to another; packets the other way still arrive. Streams need both directions.
func (n *Network) CutOneWay(from, to string) {
	n.edit(from, to, func(r *rule) { r.cut = true })
	n.mu.Lock()
	var broken []*stream
	for s := range n.streams {
		if s.joins(from, to) {
			broken = append(broken, s)
		}
	}
	n.mu.Unlock()
	for _, s := range broken {
		s.abort()
	}
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
	n.edit(a, b, func(r *rule) { r.cut = false })
	n.edit(b, a, func(r *rule) { r.cut = false })
}

// HealAll makes every link perfect again.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = map[link]rule{}
	n.wake()
}

// Drop loses this share of the packets from one host to another, 0 to 1.
func (n *Network) Drop(from, to string, share float64) {
	n.edit(from, to, func(r *rule) { r.drop = share })
}

// Delay holds up whatever goes from one host to another.
func (n *Network) Delay(from, to string, d time.Duration) {
	n.edit(from, to, func(r *rule) { r.delay = d })
}

func (n *Network) edit(from, to string, change func(*rule)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.links[link{from, to}]
	change(&r)
	n.links[link{from, to}] = r
	n.wake()
}

// wake tells those that wait for a link. The caller holds mu.
func (n *Network) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Hosts lists the hosts that listen at present, sorted.
func (n *Network) Hosts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	hosts := map[string]struct{}{}
	for addr := range n.transports {
		hosts[hostOf(addr)] = struct{}{}
	}
	for addr := range n.listeners {
		hosts[hostOf(addr)] = struct{}{}
	}
	return slices.Sorted(maps.Keys(hosts))
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// send delivers one packet, or loses it.
func (n *Network) send(from, to string, b []byte) {
	n.mu.Lock()
	r := n.links[link{hostOf(from), hostOf(to)}]
	lost := r.cut || r.drop > 0 && n.rand.Float64() < r.drop
	n.mu.Unlock()
	if lost {
		return
	}
	packet := slices.Clone(b)
	if r.delay > 0 {
		time.AfterFunc(r.delay, func() { n.deliver(from, to, packet) })
		return
	}
	n.deliver(from, to, packet)
}

func (n *Network) deliver(from, to string, packet []byte) {
	n.mu.Lock()
	t := n.transports[to]
	n.mu.Unlock()
	if t != nil {
		t.receive(from, packet)
	}
}

// dial opens a stream from a host to an address; done ends the wait early.
func (n *Network) dial(from, to string, timeout time.Duration, done <-chan struct{}) (net.Conn, error) {
	refuse := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: address(to), Err: err}
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		n.mu.Lock()
		there, back := n.links[link{from, hostOf(to)}], n.links[link{hostOf(to), from}]
		changed := n.changed
		n.mu.Unlock()
		if !there.cut && !back.cut {
			if d := there.delay + back.delay; d > 0 {
				time.Sleep(d)
			}
			return n.connect(from, to, there.delay, back.delay, refuse)
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, refuse(errTimeout{})
		case <-done:
			return nil, refuse(net.ErrClosed)
		}
	}
}

func (n *Network) connect(from, to string, there, back time.Duration, refuse func(error) error) (net.Conn, error) {
	n.mu.Lock()
	t, l := n.transports[to], n.listeners[to]
	n.mu.Unlock()
	near, far := n.pipe(from, to, there, back)
	var taken bool
	switch {
	case l != nil:
		taken = l.accept(far)
	case t != nil:
		taken = t.accept(far)
	}
	if !taken {
		near.abort()
		return nil, refuse(fmt.Errorf("connection refused"))
	}
	return near, nil
}

type errTimeout struct{}

func (errTimeout) Error() string   { return "i/o timeout" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

// address is a host:port of the network.
type address string

func (address) Network() string  { return "memnet" }
func (a address) String() string { return string(a) }

// Reaches tells whether a round trip between two hosts is possible at present.
func (n *Network) Reaches(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.links[link{a, b}].cut && !n.links[link{b, a}].cut
}
