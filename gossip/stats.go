package gossip

import "sync/atomic"

// Stats are figures for metrics. Counters count since the start.
type Stats struct {
	Alive, Suspect, Dead int    // nodes, this one included, as Nodes lists them
	Members              int    // of the layout
	JoinAttempts         uint64 // addresses dialed to meet nodes
	JoinFailures         uint64
	Refused              uint64 // words about nodes of other rings with this cluster name
	OtherCluster         uint64 // packets and streams with another cluster's name
	Malformed            uint64 // descriptions that could not be understood
	Conflicts            uint64 // words about an id at two addresses
	LayoutAlarms         uint64 // nodes that announce another layout under the same version
	FormAttempts         uint64 // rings that this node proposed
	HealthScore          int    // memberlist's: 0 = this node keeps up with its probes
}

type counters struct {
	joinAttempts, joinFailures, refused, otherCluster, malformed, conflicts, layoutAlarms, formAttempts atomic.Uint64
}

// Stats returns the present figures.
func (m *Membership) Stats() Stats {
	c := &m.stats
	s := Stats{
		JoinAttempts: c.joinAttempts.Load(), JoinFailures: c.joinFailures.Load(), Refused: c.refused.Load(),
		OtherCluster: c.otherCluster.Load(), Malformed: c.malformed.Load(), Conflicts: c.conflicts.Load(),
		LayoutAlarms: c.layoutAlarms.Load(), FormAttempts: c.formAttempts.Load(),
	}
	for _, n := range m.Nodes() {
		switch n.Health {
		case Alive:
			s.Alive++
		case Suspect:
			s.Suspect++
		default:
			s.Dead++
		}
		if n.Member {
			s.Members++
		}
	}
	if list := m.list.Load(); list != nil {
		s.HealthScore = list.GetHealthScore()
	}
	return s
}

func (m *Membership) notePacketOfOthers() { m.stats.otherCluster.Add(1) }
