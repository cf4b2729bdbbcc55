package memnet

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// Transport is a memberlist transport on the network. Safe for concurrent use.
type Transport struct {
	host    *Host
	addr    string
	ip      net.IP
	port    int
	packets chan *memberlist.Packet
	queue   queue
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// transport opens a transport. The caller holds the network's mu.
func (h *Host) transport(addr string) (*Transport, error) {
	ip := net.ParseIP(hostOf(addr))
	if ip == nil {
		return nil, fmt.Errorf("open transport: %q is not IP:port", addr)
	}
	bound, err := h.bind(addr)
	if err != nil {
		return nil, fmt.Errorf("open transport at %s: %w", addr, err)
	}
	_, p, err := net.SplitHostPort(bound)
	if err != nil {
		return nil, fmt.Errorf("open transport at %s: %w", addr, err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("open transport at %s: %w", addr, err)
	}
	if ip4 := ip.To4(); ip4 != nil {
		ip = ip4
	}
	t := &Transport{
		host: h, addr: bound, ip: ip, port: int(port), packets: make(chan *memberlist.Packet, maxHeld), queue: newQueue(),
	}
	h.network.sockets[bound] = t
	return t, nil
}

// FinalAdvertiseAddr is the address that the transport was opened at.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return t.ip, t.port, nil }

// WriteTo sends a copy of a packet, which may be lost. It fails only after the host's Crash.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	n := t.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.host.dead {
		return time.Time{}, &net.OpError{Op: "write", Net: "memnet", Addr: address(addr), Err: errDown}
	}
	packet := slices.Clone(b)
	if t.host.paused && n.name(hostOf(addr)) != t.host.machine.name {
		t.host.hold(func() { t.send(addr, packet) })
	} else {
		t.send(addr, packet)
	}
	return time.Now(), nil
}

// send puts a packet on its way, once, twice or not at all. The caller holds the network's mu.
func (t *Transport) send(addr string, packet []byte) {
	n := t.host.network
	from, to := t.host.machine.name, n.name(hostOf(addr))
	p := n.path(from, to)
	r := p.rule
	if r.Cut || r.Drop > 0 && n.rand.Float64() < r.Drop {
		return
	}
	copies := 1
	if r.Duplicate > 0 && n.rand.Float64() < r.Duplicate {
		copies = 2
	}
	for range copies {
		own := packet
		if copies > 1 {
			own = slices.Clone(packet) // the receiver owns it
		}
		if d := n.extra(r); d > 0 {
			time.AfterFunc(d, func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				if !p.rule.Cut && !t.host.dead {
					n.deliver(t.addr, addr, own)
				}
			})
		} else {
			n.deliver(t.addr, addr, own)
		}
	}
}

// deliver hands a packet to whoever is there. The caller holds mu.
func (n *Network) deliver(from, to string, packet []byte) {
	t, ok := n.sockets[to].(*Transport)
	if !ok {
		return
	}
	if t.host.paused && n.name(hostOf(from)) != t.host.machine.name {
		t.host.hold(func() { t.receive(from, packet) })
		return
	}
	t.receive(from, packet)
}

func (t *Transport) receive(from string, packet []byte) {
	if t.queue.closed {
		return
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: packet, From: address(from), Timestamp: time.Now()}:
	default: // full: lost
	}
}

// WriteToAddress sends a packet, as WriteTo.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh yields the packets that arrive, up to 1024 at a time; more are lost.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout opens a stream. It ends early with net.ErrClosed at Shutdown.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.host.dial(ctx, addr, t.queue.done)
}

// DialAddressTimeout opens a stream, as DialTimeout.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// StreamCh yields the streams that others open.
func (t *Transport) StreamCh() <-chan net.Conn { return t.queue.streams }

// Shutdown frees the address, ends waiting dials, and resets the streams that nobody has accepted.
func (t *Transport) Shutdown() error {
	t.host.network.mu.Lock()
	defer t.host.network.mu.Unlock()
	t.close()
	return nil
}

func (t *Transport) owner() *Host { return t.host }

func (t *Transport) accept(s *Stream) bool { return t.queue.put(t.host, s) }

func (t *Transport) close() {
	if t.queue.close() {
		delete(t.host.network.sockets, t.addr)
	}
}
