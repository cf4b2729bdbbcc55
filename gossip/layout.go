package gossip

import (
	"context"
	"fmt"

	"github.com/rondodb/rondo/ring"
)

// HandleLayout answers a node that wants this one's layout: its encoding, or nothing where there is none. The caller owns
// the result.
func (m *Membership) HandleLayout() []byte {
	if l := m.layout.Load(); l != nil {
		return l.Encode()
	}
	return nil
}

// adopt puts a layout in force: on disk first, then here, then in what the others are told. It returns false where the
// layout is not newer. A layout of another ring is an error, and so is one that a lock of the forming protocol forbids.
func (m *Membership) adopt(l *ring.Layout, why string) (bool, error) {
	m.form.mu.Lock()
	defer m.form.mu.Unlock()
	return m.adoptLocked(l, why)
}

// adoptLocked is adopt for callers that hold form.mu, which also orders adoptions.
func (m *Membership) adoptLocked(l *ring.Layout, why string) (bool, error) {
	old := m.layout.Load()
	lock := m.form.state.Lock
	switch {
	case old != nil && old.Cluster() != l.Cluster():
		return false, fmt.Errorf("adopt layout %d: %w", l.Version(), errOtherRing)
	case old != nil && old.Version() >= l.Version():
		return false, nil
	case old == nil && lock != nil && lock.Ring != l.Cluster():
		return false, fmt.Errorf("adopt layout %d: this node is bound by an attempt to form another ring", l.Version())
	}
	if err := m.config.Meta.PutMeta(metaLayout, l.Encode()); err != nil {
		return false, fmt.Errorf("keep layout %d: %w", l.Version(), err)
	}
	m.layout.Store(l)
	m.form.forget() // what is on disk of it counts for nothing beside a layout
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refresh()
	signal(m.announce)
	m.log.Info("layout is in force", "version", l.Version(), "ring", l.Cluster(), "hash", fmt.Sprintf("%016x", l.Hash()),
		"members", len(l.Members()), "member", isMember(l, m.config.Self), "reason", why)
	return true, nil
}

// newer lists the nodes that announce a layout which this one should have, the newest first. A fresh node follows one ring
// only, the one it met first.
func (m *Membership) newer() []*viewed {
	v, own := m.view.Load(), m.layout.Load()
	m.form.mu.Lock()
	lock := m.form.state.Lock
	follows := m.form.follows
	m.form.mu.Unlock()
	var out []*viewed
	pick := func(cluster string) {
		for _, id := range v.ids {
			n := v.nodes[id]
			if !n.up || n.meta.fresh() || id == m.config.Self || cluster != "" && n.meta.ClusterID != cluster ||
				own != nil && n.LayoutVersion <= own.Version() {
				continue
			}
			cluster = n.meta.ClusterID
			out = append(out, n)
		}
	}
	switch {
	case own != nil:
		pick(own.Cluster())
	case lock != nil:
		pick(lock.Ring)
	default:
		if pick(follows); len(out) == 0 {
			pick("")
		}
		if len(out) > 0 {
			m.form.mu.Lock()
			m.form.follows = out[0].meta.ClusterID
			m.form.mu.Unlock()
		}
	}
	m.shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	best := uint64(0)
	for _, n := range out {
		best = max(best, n.LayoutVersion)
	}
	newest := out[:0]
	for _, n := range out {
		if n.LayoutVersion == best {
			newest = append(newest, n)
		}
	}
	return newest
}

// fetch gets a newer layout from a node that announces one, where there is any; it reports whether there was.
func (m *Membership) fetch() bool {
	from := m.newer()
	for _, n := range from {
		err := m.fetchFrom(n)
		if err == nil || m.ctx.Err() != nil {
			m.form.setReason("")
			return true
		}
		m.form.setReason(fmt.Sprintf("cannot fetch the layout of the ring from %s: %v", n.Name, err))
		m.log.Debug("cannot fetch layout, will try again", "node", n.Name, "error", err)
	}
	return len(from) > 0
}

func (m *Membership) fetchFrom(n *viewed) error {
	ctx, cancel := context.WithTimeout(m.ctx, m.config.Timing.Call)
	defer cancel()
	b, err := m.config.Peers.Call(ctx, n.ID, callLayout, nil)
	if err != nil {
		return fmt.Errorf("fetch layout: %w", err)
	}
	l, err := ring.Decode(b)
	if err != nil {
		return fmt.Errorf("fetch layout: %w", err)
	}
	if l.Cluster() != n.meta.ClusterID {
		return fmt.Errorf("fetch layout: it answers for ring %s and announces %s", l.Cluster(), n.meta.ClusterID)
	}
	_, err = m.adopt(l, "announced by "+n.Name)
	return err
}

// checkLayout raises the alarm where a node announces the same version with other content: layouts are agreed upon, so this
// must not be. Neither side takes the other's. The caller holds mu.
func (m *Membership) checkLayout(id ring.NodeID, e *entry) {
	l := m.layout.Load()
	if l == nil || e.meta.ClusterID != l.Cluster() || e.meta.LayoutVersion != l.Version() || e.meta.LayoutHash == l.Hash() {
		return
	}
	if m.once(fmt.Sprintf("layout %s %d %x", id, e.meta.LayoutVersion, e.meta.LayoutHash)) {
		m.stats.layoutAlarms.Add(1)
		m.log.Error("a node has another layout under the same version; nothing is merged", "node", e.meta.Name, "id", id,
			"version", l.Version(), "its_hash", fmt.Sprintf("%016x", e.meta.LayoutHash), "hash", fmt.Sprintf("%016x", l.Hash()))
	}
}
