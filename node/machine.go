package node

import (
	"fmt"
	"net"
	"time"

	"github.com/rondodb/rondo/antientropy"
	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/peer"
	"github.com/rondodb/rondo/storage"
)

// machine is what a node takes from the machine it runs on: network, disk and clock. Each part left nil is the real one; a
// simulation puts others in their place.
type machine struct {
	listen      func(addr string) (net.Listener, error)
	withStorage func(*storage.Config)
	withPeer    func(*peer.Config)
	withGossip  func(*gossip.Config)
	withRepair  func(*antientropy.Config)
	now         func() time.Time // the wall clock, which stamps writes
}

// clock is the wall clock.
func (m *machine) clock() time.Time {
	if m.now != nil {
		return m.now()
	}
	return time.Now()
}

func (m *machine) bind(addr, flag string) (l net.Listener, err error) {
	if m.listen != nil {
		l, err = m.listen(addr)
	} else {
		l, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for --%s: %w", flag, err)
	}
	return l, nil
}

func (m *machine) storage(c storage.Config) storage.Config { return adjusted(c, m.withStorage) }
func (m *machine) peer(c peer.Config) peer.Config          { return adjusted(c, m.withPeer) }
func (m *machine) gossip(c gossip.Config) gossip.Config    { return adjusted(c, m.withGossip) }

func (m *machine) repair(c antientropy.Config) antientropy.Config { return adjusted(c, m.withRepair) }

func adjusted[C any](c C, adjust func(*C)) C {
	if adjust != nil {
		adjust(&c)
	}
	return c
}
