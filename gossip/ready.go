package gossip

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Ready tells whether this node is a member of the ring and knows it; if not, why, and what to do where something has to be
// done.
func (m *Membership) Ready() (bool, string) {
	m.mu.Lock()
	conflict, draining := m.conflict, m.own.draining()
	m.mu.Unlock()
	if conflict != nil {
		return false, conflict.Error()
	}
	if draining {
		return false, "stopping"
	}
	l := m.layout.Load()
	switch {
	case l == nil:
		reason := *m.form.reason.Load()
		if n := m.stats.otherCluster.Load(); n > 0 {
			reason += "; nodes of a cluster with another name than " + m.config.Cluster + " have called"
		}
		return false, reason
	case !isMember(l, m.config.Self):
		return false, fmt.Sprintf("not a member of ring %d: this node coordinates requests and owns no data; nodes join automatically in a later release", l.Version())
	}
	return true, ""
}

// ripe decides whether this node is to propose a ring now, and of whom; if not, why. Only the form loop calls it.
func (m *Membership) ripe() ([]ring.NodeID, string) {
	v, c := m.view.Load(), &m.config
	if c.Expect <= 1 && len(c.Join) == 0 {
		return []ring.NodeID{c.Self}, "" // it meant to be alone from its start
	}
	fresh := v.fresh(c.Self)
	if fault := m.unfit(v, fresh); fault != "" {
		m.form.agreed = time.Time{}
		return nil, fault
	}
	if set := hashIDs(fresh); set != m.form.set || m.form.agreed.IsZero() {
		m.form.set, m.form.agreed = set, time.Now()
	}
	if time.Since(m.form.agreed) < c.Timing.Settle {
		return nil, fmt.Sprintf("%d fresh nodes see each other and are about to form a ring: %s", len(fresh), m.namesOf(fresh))
	}
	if fresh[0] != c.Self {
		return nil, fmt.Sprintf("%d fresh nodes see each other: %s; waiting for %s to propose the ring", len(fresh), m.namesOf(fresh), m.nameOf(fresh[0]))
	}
	return fresh, ""
}

// unfit tells why these fresh nodes cannot form a ring yet, "" where they can.
func (m *Membership) unfit(v *view, fresh []ring.NodeID) string {
	expect, mixed := 0, false
	for _, id := range fresh {
		e := int(v.nodes[id].meta.Expect)
		mixed = mixed || expect != 0 && e != expect
		expect = max(expect, e)
	}
	note := ""
	if mixed {
		note = " (they were started with different --expect; the largest counts)"
	}
	switch {
	case expect <= 1:
		return fmt.Sprintf("no ring met yet through --join %s: a node that joins does not form a ring by itself. Is the address right? "+
			"For a new cluster, start its first nodes with --expect N", strings.Join(m.config.Join, ","))
	case len(fresh) < expect:
		return fmt.Sprintf("waiting for %d fresh nodes, %d seen: %s%s", expect, len(fresh), m.namesOf(fresh), note)
	}
	own := v.nodes[m.config.Self].meta
	names := map[string]bool{}
	var busy, blind []ring.NodeID
	for _, id := range fresh {
		n := v.nodes[id]
		switch {
		case n.meta.Partitions != own.Partitions:
			return fmt.Sprintf("%s was started with --partitions %d and this node with %d: they must be equal to form a ring", n.Name, n.meta.Partitions, own.Partitions)
		case names[n.Name]:
			return fmt.Sprintf("two fresh nodes are named %s: give each its own --name to form a ring", n.Name)
		case n.meta.locked():
			busy = append(busy, id)
		case n.meta.FreshSet != own.FreshSet:
			blind = append(blind, id)
		}
		names[n.Name] = true
	}
	switch {
	case len(busy) > 0:
		return fmt.Sprintf("waiting for %s to end an earlier attempt to form a ring", m.namesOf(busy))
	case len(blind) > 0:
		return fmt.Sprintf("waiting until all %d fresh nodes see each other; not yet: %s%s", len(fresh), m.namesOf(blind), note)
	}
	return ""
}

func (m *Membership) nameOf(id ring.NodeID) string {
	if n := m.view.Load().nodes[id]; n != nil && n.Name != "" {
		return n.Name
	}
	return string(id)
}

// namesOf lists names in order, and of many only the first.
func (m *Membership) namesOf(ids []ring.NodeID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = m.nameOf(id)
	}
	slices.Sort(names)
	const most = 10
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}
