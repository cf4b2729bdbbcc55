package gossip

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Health of a node.
const (
	Alive   = "alive"
	Suspect = "suspect" // alive as far as the cluster agrees, but it has not answered this node's own probes for a while
	Dead    = "dead"
)

// Node is what is known of a node.
type Node struct {
	ID                                      ring.NodeID
	Name, Zone                              string
	HTTPAddr                                string // host:port, the last that is known; "" where none is
	PeerAddr                                string
	GossipAddr                              string
	Version                                 string // of the build
	Weight                                  int
	Health                                  string // Alive, Suspect or Dead
	Draining                                bool   // about to stop, or stopped in order
	Member                                  bool   // of the layout in force
	LayoutVersion, LayoutHash, SettingsHash uint64
}

// entry is a node other than this one, as gossip and disk tell of it.
type entry struct {
	meta   meta
	gossip string // address
	up     bool
	since  time.Time // when up changed; zero for what comes from disk
	seen   time.Time // when it was last known to be up
	pong   *atomic.Int64
}

// view is an immutable picture of the cluster.
type view struct {
	nodes  map[ring.NodeID]*viewed // this node and all that were ever heard of, except those of other rings
	ids    []ring.NodeID           // sorted
	others int                     // alive, without this one
}

type viewed struct {
	Node
	meta   meta
	up     bool
	recent bool // up, or down for less than rememberDead
	pong   *atomic.Int64
}

// refresh makes the view anew after a change, works out what follows for this node's own description, and tells all who
// wait for changes. The caller holds mu.
func (m *Membership) refresh() {
	l := m.layout.Load()
	m.own.LayoutVersion, m.own.LayoutHash, m.own.ClusterID = 0, 0, ""
	if l != nil {
		m.own.LayoutVersion, m.own.LayoutHash, m.own.ClusterID = l.Version(), l.Hash(), l.Cluster()
	}
	m.own.set(flagLocked, l == nil && m.form.locked.Load())

	v := &view{nodes: make(map[ring.NodeID]*viewed, len(m.table)+1)}
	for id, e := range m.table {
		if m.isForeign(id, &e.meta) {
			continue
		}
		n := e.view(id)
		v.nodes[id] = n
		if n.up {
			v.others++
		}
	}
	self := entry{meta: m.own, gossip: m.ownAddr, up: true}
	v.nodes[m.config.Self] = self.view(m.config.Self)
	if l != nil {
		for _, member := range l.Members() {
			n := v.nodes[member.ID]
			if n == nil { // never heard of
				n = &viewed{Node: Node{ID: member.ID, Name: member.Name, Zone: member.Zone, Weight: member.Weight, Health: Dead}}
				v.nodes[member.ID] = n
			}
			n.Member = true
		}
	}
	v.ids = slices.Sorted(maps.Keys(v.nodes))

	fresh := uint64(0)
	if l == nil {
		fresh = hashIDs(v.fresh(m.config.Self))
	}
	if fresh != m.own.FreshSet {
		m.own.FreshSet = fresh
		signal(m.announce)
	}
	v.nodes[m.config.Self].meta = m.own
	m.unsaved = true
	m.view.Store(v)
	signal(m.wakeForm)
	signal(m.changes)
}

func (e *entry) view(id ring.NodeID) *viewed {
	n := &viewed{
		Node: Node{
			ID: id, Name: e.meta.Name, Zone: e.meta.Zone, HTTPAddr: e.meta.HTTPAddr, PeerAddr: e.meta.PeerAddr, GossipAddr: e.gossip,
			Version: e.meta.Version, Weight: int(e.meta.Weight), Health: Dead, Draining: e.meta.draining(),
			LayoutVersion: e.meta.LayoutVersion, LayoutHash: e.meta.LayoutHash, SettingsHash: e.meta.SettingsHash,
		},
		meta: e.meta, up: e.up, pong: e.pong, recent: e.up || !e.since.IsZero() && time.Since(e.since) < rememberDead,
	}
	if e.up {
		n.Health = Alive
	}
	return n
}

// fresh lists the fresh nodes that could form a ring, by id; self is one of them where it is fresh.
func (v *view) fresh(self ring.NodeID) []ring.NodeID {
	var out []ring.NodeID
	for _, id := range v.ids {
		if n := v.nodes[id]; n.up && n.meta.fresh() && (id == self || !n.meta.draining()) {
			out = append(out, id)
		}
	}
	return out
}

// hashIDs is never 0.
func hashIDs(ids []ring.NodeID) uint64 {
	b := binary.AppendUvarint(nil, uint64(len(ids)))
	for _, id := range ids {
		b = append(b, id...)
	}
	return ring.Digest(b) | 1
}

// Alive tells whether the node takes part in the cluster at present, as far as the cluster agrees. A death that is hearsay does not
// count: a node that was cut off tells everyone, once it is back, that all others had died, and until they refute it nobody would
// have a quorum. It never blocks.
func (m *Membership) Alive(id ring.NodeID) bool {
	n := m.view.Load().nodes[id]
	return n != nil && (n.up || n.pong != nil && !n.Draining && m.now()-n.pong.Load() < int64(m.config.hearsay()))
}

// Addr is where the node's replica protocol listens, also of a node that is dead. It never blocks.
func (m *Membership) Addr(id ring.NodeID) (string, bool) {
	n := m.view.Load().nodes[id]
	if n == nil || n.PeerAddr == "" {
		return "", false
	}
	return n.PeerAddr, true
}

// Node is what is known of one node, this one included.
func (m *Membership) Node(id ring.NodeID) (Node, bool) {
	v := m.view.Load()
	n := v.nodes[id]
	if n == nil {
		return Node{}, false
	}
	return m.describeHealth(v, n), true
}

// Nodes lists this node, all members of the layout, dead ones too, and whoever else is alive or was within the last ten
// minutes, by id.
func (m *Membership) Nodes() []Node {
	v := m.view.Load()
	out := make([]Node, 0, len(v.ids))
	for _, id := range v.ids {
		if n := v.nodes[id]; n.Member || n.recent {
			out = append(out, m.describeHealth(v, n))
		}
	}
	return out
}

// describeHealth tells a suspect from the alive: its probes have been unanswered for two rounds of probing.
func (m *Membership) describeHealth(v *view, n *viewed) Node {
	out := n.Node
	if n.up && n.pong != nil && m.list.Load() != nil {
		round := time.Duration(v.others) * m.config.Timing.ProbeInterval * time.Duration(m.list.Load().GetHealthScore()+1)
		if time.Duration(m.now()-n.pong.Load()) > max(2*round, minSuspect) {
			out.Health = Suspect
		}
	}
	return out
}

const minSuspect = 2 * time.Second
