package gossip

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets is memberlist's own transport, with an advertised address that may be given as a name, and whose dials and
// exchanges under way end with Shutdown instead of with their timeouts.
type sockets struct {
	*memberlist.NetTransport
	advertise net.IP
	ctx       context.Context // ends at Shutdown
	cancel    context.CancelFunc

	mu    sync.Mutex
	conns map[*dialed]struct{}
}

// openSockets listens on TCP and UDP at the configured address.
func (m *Membership) openSockets(ctx context.Context) (*sockets, error) {
	host, p, err := net.SplitHostPort(m.config.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind gossip: %w", err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		return nil, fmt.Errorf("bind gossip: port of %q: %w", m.config.Bind, err)
	}
	bind := net.IPv4zero
	if host != "" {
		if bind, err = m.lookUp(ctx, host); err != nil {
			return nil, fmt.Errorf("bind gossip: %w", err)
		}
	}
	advertise := bind
	switch {
	case m.config.Advertise != "":
		advertise, err = m.lookUp(ctx, m.config.Advertise)
	case bind.IsUnspecified():
		advertise, err = m.ownAddress(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("find the address to advertise: %w", err)
	}
	if advertise.IsUnspecified() {
		return nil, fmt.Errorf("nobody can dial the advertised address %s: set --advertise to one of this host's addresses", advertise)
	}
	config := &memberlist.NetTransportConfig{BindAddrs: []string{bind.String()}, BindPort: port, Logger: newLogBridge(m.log, func() {})}
	t, err := memberlist.NewNetTransport(config)
	for range 10 { // the free TCP port that was picked may be taken for UDP
		if err == nil || port != 0 || !strings.Contains(err.Error(), "address already in use") {
			break
		}
		t, err = memberlist.NewNetTransport(config)
	}
	if err != nil {
		return nil, fmt.Errorf("bind gossip at %s: %w", m.config.Bind, err)
	}
	s := &sockets{NetTransport: t, advertise: advertise, conns: map[*dialed]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// lookUp is the first address of a host, IPv4 before IPv6.
func (m *Membership) lookUp(ctx context.Context, host string) (net.IP, error) {
	if ip := net.ParseIP(host); ip != nil {
		return ip, nil
	}
	ips, err := m.config.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	for _, ip := range ips {
		if ip.To4() != nil {
			return ip, nil
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("look up %q: no address", host)
	}
	return ips[0], nil
}

// ownAddress is what a node on every interface advertises: the address of its host's name, else the first of its
// interfaces that others could reach, IPv4 before IPv6.
func (m *Membership) ownAddress(ctx context.Context) (net.IP, error) {
	var ips []net.IP
	if host, err := os.Hostname(); err == nil {
		if found, err := m.config.Resolve(ctx, host); err == nil {
			ips = found
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ips = append(ips, n.IP)
		}
	}
	for _, wanted := range []func(net.IP) bool{
		func(ip net.IP) bool { return ip.To4() != nil && ip.IsGlobalUnicast() },
		net.IP.IsGlobalUnicast,
	} {
		for _, ip := range ips {
			if wanted(ip) {
				return ip, nil
			}
		}
	}
	return nil, fmt.Errorf("this host has no address that others could dial: set --advertise")
}

// FinalAdvertiseAddr is the address that was settled when the sockets opened.
func (s *sockets) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	ip := s.advertise
	if ip4 := ip.To4(); ip4 != nil {
		ip = ip4
	}
	return ip, s.GetAutoBindPort(), nil
}

func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	c, err := dialer.DialContext(s.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d := &dialed{Conn: c, sockets: s}
	s.mu.Lock()
	s.conns[d] = struct{}{}
	s.mu.Unlock()
	if s.ctx.Err() != nil { // Shutdown may have missed it
		_ = d.Close()
		return nil, net.ErrClosed
	}
	return d, nil
}

func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(a.Addr, timeout)
}

// Shutdown closes the listeners and every connection that was dialed.
func (s *sockets) Shutdown() error {
	s.cancel()
	s.mu.Lock()
	var open []*dialed
	for d := range s.conns {
		open = append(open, d)
	}
	s.mu.Unlock()
	for _, d := range open {
		_ = d.Conn.Close() // it is given up; its user closes it again and hears of any failure
	}
	return s.NetTransport.Shutdown()
}

type dialed struct {
	net.Conn
	sockets *sockets
}

func (d *dialed) Close() error {
	d.sockets.mu.Lock()
	delete(d.sockets.conns, d)
	d.sockets.mu.Unlock()
	return d.Conn.Close()
}
