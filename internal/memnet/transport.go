package memnet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

var errInUse = errors.New("address already in use")

// Transport is a memberlist transport on the network.
type Transport struct {
	network *Network
	addr    string
	ip      net.IP
	port    int
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}

	mu     sync.Mutex
	closed bool
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// Transport opens a transport at IP:port. The address must be free; it is free again after Shutdown.
func (n *Network) Transport(addr string) (*Transport, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	ip := net.ParseIP(host)
	port, err := strconv.ParseUint(p, 10, 16)
	if ip == nil || err != nil {
		return nil, fmt.Errorf("open transport: %q is not IP:port", addr)
	}
	if ip4 := ip.To4(); ip4 != nil {
		ip = ip4
	}
	t := &Transport{
		network: n, addr: addr, ip: ip, port: int(port), packets: make(chan *memberlist.Packet, 1024),
		streams: make(chan net.Conn, backlog), done: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transports[addr] != nil || n.listeners[addr] != nil {
		return nil, fmt.Errorf("open transport at %s: %w", addr, errInUse)
	}
	n.transports[addr] = t
	return t, nil
}

// FinalAdvertiseAddr is the address that the transport was opened at.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return t.ip, t.port, nil }

// WriteTo sends a packet, which may be lost.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	t.network.send(t.addr, addr, b)
	return time.Now(), nil
}

// WriteToAddress sends a packet, which may be lost.
func (t *Transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh yields the packets that arrive.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout opens a stream.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.network.dial(hostOf(t.addr), addr, timeout, t.done)
}

// DialAddressTimeout opens a stream.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// StreamCh yields the streams that others open.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown frees the address, ends waiting dials, and hangs up on streams that nobody has accepted.
func (t *Transport) Shutdown() error {
	t.network.mu.Lock()
	if t.network.transports[t.addr] == t {
		delete(t.network.transports, t.addr)
	}
	t.network.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	close(t.done)
	hangUp(t.streams)
	return nil
}

func (t *Transport) receive(from string, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: address(from), Timestamp: time.Now()}:
	default: // full: lost
	}
}

func (t *Transport) accept(s *stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	select {
	case t.streams <- s:
		return true
	default:
		return false
	}
}
