package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

var (
	errInUse   = errors.New("address already in use")
	errDown    = errors.New("host is down")
	errRefused = fmt.Errorf("connect: %w", syscall.ECONNREFUSED)
)

// machine is what has a name and addresses, whatever runs on it.
type machine struct {
	name string
	addr string // the host part of the addresses of its outgoing streams
	host *Host  // its present life, or the last one
	off  bool   // it has no power
	port int    // the last that an outgoing stream or a listener at port 0 was given
}

// ephemeral is a port that nobody has had for long. The caller holds the network's mu.
func (m *machine) ephemeral() int {
	const first, last = 32768, 60999
	if m.port++; m.port < first || m.port > last {
		m.port = first
	}
	return m.port
}

// Host is one life of a machine, from its boot to Crash. Safe for concurrent use.
type Host struct {
	network *Network
	machine *machine
	dead    bool
	down    chan struct{} // closed when dead
	paused  bool
	held    []func() // what a paused host would have sent and been handed, for Resume; each is called with the network's mu held
}

// maxHeld is how many packets out and how many packets and streams in are kept of a paused host; more are lost.
const maxHeld = 1024

// Host is the host of this name. The first call boots it, and so does the first one after a Crash; any other call returns the same.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	name = n.name(name)
	m := n.machines[name]
	if m == nil || m.host.dead {
		return n.boot(name)
	}
	return m.host
}

// boot starts a machine's next life. The caller holds mu.
func (n *Network) boot(name string) *Host {
	m := n.machines[name]
	if m == nil {
		m = &machine{name: name, addr: name}
		n.machines[name] = m
	}
	m.host, m.off = &Host{network: n, machine: m, down: make(chan struct{})}, false
	n.refresh(func(c *conn) bool { return c.touches(m) })
	return m.host
}

// life is the present life of the host of that name, which boots with its first use. The caller holds mu.
func (n *Network) life(name string) *Host {
	name = n.name(name)
	if m := n.machines[name]; m != nil {
		return m.host
	}
	return n.boot(name)
}

// Name is the name that the host was asked for by.
func (h *Host) Name() string { return h.machine.name }

// Crash ends this life at once and for ever: listeners and transports vanish, what is under way from it is lost, its streams are
// broken, and every later call on it, or on what was opened through it, fails or does nothing. With silent false a process was
// killed: its peers' streams are reset, dials are refused. With silent true the power is gone: its peers notice nothing until
// their own deadlines or the UserTimeout of what they have sent, or, once Host has booted the machine again, until what they
// send comes back as a reset; dials hang. Crash of a dead host does nothing.
func (h *Host) Crash(silent bool) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.dead {
		return
	}
	h.dead, h.paused, h.held, h.machine.off = true, false, nil, silent
	close(h.down)
	now := time.Now()
	for c := range n.conns {
		for i := range c.ends {
			if s := &c.ends[i]; s.host == h {
				s.die(silent, now)
			}
		}
	}
	for _, s := range n.sockets {
		if s.owner() == h {
			s.close()
		}
	}
	n.wake()
}

// Pause freezes a host as SIGSTOP does, as others see it, until Resume or its Crash: nothing that it sends leaves, nothing that arrives
// is handed to it. What is sent to it is still acknowledged and waits: stream bytes in their window, up to 1024 packets, new
// streams in the backlog. The host's own goroutines run on: their deadlines pass, and what they send waits likewise. A host's
// streams and packets to itself are not affected. A crashed host cannot be paused.
func (n *Network) Pause(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.life(name)
	h.paused = !h.dead
}

// Resume ends a Pause: all that was held is let through, in order.
func (n *Network) Resume(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.life(name)
	if !h.paused {
		return
	}
	held := h.held
	h.paused, h.held = false, nil
	for _, f := range held {
		f()
	}
	n.refresh(func(c *conn) bool { return c.touches(h.machine) })
}

// hold keeps something for Resume. It is false if there are too many. The caller holds mu.
func (h *Host) hold(f func()) bool {
	if len(h.held) >= 2*maxHeld {
		return false
	}
	h.held = append(h.held, f)
	return true
}

// Listen opens a listener at host:port, which must be free; port 0 picks one. From then on the host part belongs to this host.
func (h *Host) Listen(addr string) (*Listener, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return h.listen(addr)
}

// Listen opens a listener at host:port, on the host that the address belongs to: one that has listened there, or else the one of
// that name.
func (n *Network) Listen(addr string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life(hostOf(addr)).listen(addr)
}

// Transport opens a memberlist transport at IP:port. The address must be free; it is free again after Shutdown.
func (h *Host) Transport(addr string) (*Transport, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	return h.transport(addr)
}

// Transport opens a memberlist transport at IP:port, on the host that the address belongs to, as with Listen.
func (n *Network) Transport(addr string) (*Transport, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life(hostOf(addr)).transport(addr)
}

// Dial opens a stream to host:port. It waits for ctx where nothing passes, fails at once with syscall.ECONNREFUSED where nobody
// listens, and when this host crashes.
func (h *Host) Dial(ctx context.Context, to string) (net.Conn, error) {
	return h.dial(ctx, to, nil)
}

// Dial opens a stream from a host to host:port, as Host.Dial.
func (n *Network) Dial(ctx context.Context, from, to string) (net.Conn, error) {
	n.mu.Lock()
	h := n.life(from)
	n.mu.Unlock()
	return h.dial(ctx, to, nil)
}

// socket is what takes streams at an address. The network's mu is held at every call.
type socket interface {
	owner() *Host
	accept(s *Stream) bool // false: the backlog is full
	close()
}

// bind takes an address for the host, with its port if it has none. The caller holds mu.
func (h *Host) bind(addr string) (string, error) {
	n := h.network
	if h.dead {
		return "", errDown
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if port == "0" {
		addr = net.JoinHostPort(host, strconv.Itoa(h.machine.ephemeral()))
	}
	if n.sockets[addr] != nil {
		return "", errInUse
	}
	if owner := n.owners[host]; owner != nil && owner != h.machine {
		return "", fmt.Errorf("%w: %s belongs to %s", errInUse, host, owner.name)
	}
	n.owners[host] = h.machine
	if h.machine.addr == h.machine.name {
		h.machine.addr = host
	}
	return addr, nil
}
