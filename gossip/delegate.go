package gossip

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/rondodb/rondo/ring"
)

// delegate is the Membership as memberlist calls it. memberlist holds its own lock during most of these calls, so none of
// them calls back or blocks.
type delegate Membership

var (
	errOtherRing = errors.New("it belongs to another ring with the same cluster name")
	errNotAnID   = errors.New("its name is not a node id")
)

// NodeMeta is what this node says about itself.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.own.append(nil, (*Membership)(d).choose(maxPad+1))
}

// NotifyMsg takes a message of claims.go. memberlist keeps b.
func (d *delegate) NotifyMsg(b []byte) { (*Membership)(d).hearClaim(b) }

// GetBroadcasts has nothing to add.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState expects nothing.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive decides about every word that a node is alive: of those that do not describe themselves properly, and of
// those of another ring, nothing is heard.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m := (*Membership)(d)
	if n.Name == string(m.config.Self) {
		return nil
	}
	if !validID(n.Name) {
		m.stats.malformed.Add(1)
		return errNotAnID
	}
	described, err := decodeMeta(n.Meta)
	if err != nil {
		m.stats.malformed.Add(1)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.once("malformed " + n.Name) {
			m.log.Warn("a node cannot be understood and is not heard", "id", n.Name, "addr", n.Address(), "error", err)
		}
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isForeign(ring.NodeID(n.Name), &described) {
		m.refuse(n, &described)
		return errOtherRing
	}
	return nil
}

// isForeign tells whether a node belongs to another ring than this one; a node never changes its ring. The caller holds mu.
func (m *Membership) isForeign(id ring.NodeID, described *meta) bool {
	l := m.layout.Load()
	if l == nil {
		return false
	}
	if described.ClusterID != "" {
		return described.ClusterID != l.Cluster()
	}
	theirs, known := m.foreign[id]
	return known && theirs != l.Cluster()
}

// refuse notes a node of another ring. The caller holds mu.
func (m *Membership) refuse(n *memberlist.Node, described *meta) {
	m.stats.refused.Add(1)
	id := ring.NodeID(n.Name)
	if _, known := m.foreign[id]; !known {
		if len(m.foreign) >= maxTold {
			clear(m.foreign)
		}
		m.foreign[id] = described.ClusterID
		if e := m.table[id]; e != nil { // accepted while one of both was fresh
			e.meta.ClusterID = described.ClusterID
		}
		m.refresh()
	}
	if m.once("other ring " + n.Name) {
		m.log.Error("refused a node of another ring that has the same cluster name: give one of both rings another --cluster, or correct --join",
			"id", n.Name, "name", described.Name, "addr", n.Address(), "its_ring", described.ClusterID, "ring", m.layout.Load().Cluster())
	}
}

// NotifyMerge refuses a full exchange with a node that knows only another ring. Mixed ones are sorted out by NotifyAlive.
func (d *delegate) NotifyMerge(peers []*memberlist.Node) error {
	m := (*Membership)(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	foreign := 0
	for _, n := range peers {
		if n.State != memberlist.StateAlive && n.State != memberlist.StateSuspect || n.Name == string(m.config.Self) {
			continue
		}
		described, err := decodeMeta(n.Meta)
		switch {
		case err != nil:
		case m.isForeign(ring.NodeID(n.Name), &described):
			m.refuse(n, &described)
			foreign++
		default:
			return nil
		}
	}
	if foreign > 0 {
		return fmt.Errorf("merge with %d nodes: %w", foreign, errOtherRing)
	}
	return nil
}

// NotifyJoin takes a node that came, or came back.
func (d *delegate) NotifyJoin(n *memberlist.Node) { (*Membership)(d).hear(n, true) }

// NotifyUpdate takes a node's new description.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { (*Membership)(d).hear(n, true) }

// NotifyLeave takes a node that left or died.
func (d *delegate) NotifyLeave(n *memberlist.Node) { (*Membership)(d).hear(n, false) }

func (m *Membership) hear(n *memberlist.Node, up bool) {
	id := ring.NodeID(n.Name)
	described, err := decodeMeta(n.Meta)
	if id == m.config.Self || err != nil { // the latter were refused by NotifyAlive
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	now := time.Now()
	e := m.table[id]
	if e == nil {
		m.makeRoom()
		e = &entry{}
		m.table[id] = e
	}
	before := *e
	if before.meta == described && before.gossip == n.Address() && before.up && up {
		e.seen = now
		return // said again
	}
	e.meta, e.gossip, e.up, e.seen = described, n.Address(), up, now
	if before.up != up || e.since.IsZero() {
		e.since = now
		if up {
			e.pong = new(atomic.Int64)
			e.pong.Store(m.now())
		}
		m.logPassage(id, e)
	}
	if !up {
		signal(m.wakeJoin)
	}
	m.checkName(id, e)
	m.checkLayout(id, e)
	m.refresh()
}

// makeRoom bounds the table: a node that has been away for longest and is no member is forgotten. The caller holds mu.
func (m *Membership) makeRoom() {
	if len(m.table) < maxTable {
		return
	}
	l := m.layout.Load()
	var oldest ring.NodeID
	for id, e := range m.table {
		if e.up || isMember(l, id) {
			continue
		}
		if oldest == "" || e.seen.Before(m.table[oldest].seen) {
			oldest = id
		}
	}
	delete(m.table, oldest)
}

const maxTable = 4096

func isMember(l *ring.Layout, id ring.NodeID) bool {
	if l == nil {
		return false
	}
	_, ok := l.Member(id)
	return ok
}

// logPassage tells of a node that came or went. The caller holds mu.
func (m *Membership) logPassage(id ring.NodeID, e *entry) {
	if m.isForeign(id, &e.meta) {
		return
	}
	what := "node is dead"
	switch {
	case e.up:
		what = "node is alive"
	case e.meta.draining():
		what = "node has left"
	}
	m.log.Info(what, "name", e.meta.Name, "id", id, "gossip", e.gossip, "member", isMember(m.layout.Load(), id))
}

// checkName warns of two living nodes with one name. The caller holds mu.
func (m *Membership) checkName(id ring.NodeID, e *entry) {
	if !e.up {
		return
	}
	twin := ring.NodeID("")
	if e.meta.Name == m.own.Name {
		twin = m.config.Self
	}
	for other, o := range m.table {
		if other != id && o.up && o.meta.Name == e.meta.Name {
			twin = other
		}
	}
	if twin != "" && m.once("name "+string(min(id, twin)+max(id, twin))) {
		m.log.Warn("two living nodes have the same name; their ids tell them apart", "name", e.meta.Name, "ids", []ring.NodeID{id, twin})
	}
}

// NotifyConflict is told of an id that is claimed at two addresses.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	m := (*Membership)(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.conflicts.Add(1)
	if existing.Name == string(m.config.Self) {
		m.claims.dispute(other.Address())
		m.disputed = time.Now()
		signal(m.wakeJoin)
		return
	}
	if m.once("address " + existing.Name + other.Address()) {
		m.log.Info("a node has another address now; the old one counts until it is found dead", "id", existing.Name,
			"old", existing.Address(), "new", other.Address())
	}
}

// AckPayload adds nothing to the answer to a probe.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete notes that a node answered this node's own probe.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	if seen := d.view.Load().nodes[ring.NodeID(n.Name)]; seen != nil && seen.pong != nil {
		seen.pong.Store((*Membership)(d).now())
	}
}
