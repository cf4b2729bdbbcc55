package httpapi

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rondodb/rondo/ring"
)

// maxPeers bounds how many nodes have figures of their own. Those met later count together.
const maxPeers = 1000

// Classes and outcomes of calls to other nodes; the last of each stands for any other.
var (
	callClasses  = [...]string{"read", "write", "coordinate", "list", "standin", "other"}
	callOutcomes = [...]string{"ok", "timeout", "error", "unreachable", "overloaded", "stale", "full", "other"}
)

func indexOf(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return len(names) - 1
}

// peerMetrics are the children of the peer vectors for one node.
type peerMetrics struct {
	name    string
	calls   [len(callClasses)][len(callOutcomes)]counter
	seconds [len(callClasses)]prometheus.Observer
}

// PeerCall counts one call to another node.
func (m *Metrics) PeerCall(peer ring.NodeID, class, outcome string, took time.Duration) {
	p := m.peer(peer)
	c, o := indexOf(callClasses[:], class), indexOf(callOutcomes[:], outcome)
	p.calls[c][o].of(m.peerCalls, p.name, callClasses[c], callOutcomes[o]).Inc()
	p.seconds[c].Observe(took.Seconds())
}

// peer finds a node's figures without a lock. New nodes are added to a copy of the map.
func (m *Metrics) peer(id ring.NodeID) *peerMetrics {
	if p := (*m.peers.Load())[id]; p != nil {
		return p
	}
	m.peersMu.Lock()
	defer m.peersMu.Unlock()
	old := *m.peers.Load()
	if len(old) >= maxPeers {
		id = "other"
	}
	if p := old[id]; p != nil {
		return p
	}
	p := &peerMetrics{name: string(id)}
	for i, class := range callClasses {
		p.seconds[i] = m.peerSeconds.WithLabelValues(p.name, class)
	}
	next := maps.Clone(old)
	next[id] = p
	m.peers.Store(&next)
	return p
}
