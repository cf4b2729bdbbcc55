package antientropy

import (
	"fmt"
	"slices"
	"time"

	"github.com/rondodb/rondo/ring"
)

// obey does what a collector asks, class by class, and says what it refuses.
func (p *collection) obey(layout *ring.Layout, from ring.NodeID, m order) assent {
	p.votes.Lock() // what is found to be lost meanwhile must not get the mark
	defer p.votes.Unlock()
	a := assent{session: p.session, classes: make([]answer, len(m.classes))}
	unsynced := p.config.Store.Unsynced()
	var take []ring.Class
	for i, c := range m.classes {
		if a.classes[i].refusal = p.objection(layout, from, m, i, unsynced); a.classes[i].refusal == "" {
			take = append(take, c)
		}
	}
	refused := make(map[ring.Class]string)
	p.set(m.kind, take, m.at, refused)
	unsynced = p.config.Store.Unsynced()
	for i, c := range m.classes {
		it := &a.classes[i]
		it.marks = p.config.Store.Marks(c)
		if it.refusal != "" {
			continue
		}
		mark := map[byte]uint64{kindFence: it.marks.Fence, kindCommit: it.marks.Watermark, kindRelease: it.marks.Released}[m.kind]
		switch {
		case refused[c] != "":
			it.refusal = refused[c]
		case mark < m.at || m.kind != kindFence && slices.Contains(unsynced, c): // the store has lost something meanwhile
			it.refusal = "has lost something of it"
		}
	}
	if m.kind == kindRelease {
		p.mayDrop(take)
	}
	return a
}

// set raises the mark of classes, in one write where none of them is refused. Those that are come into refused.
func (p *collection) set(kind byte, classes []ring.Class, at uint64, refused map[ring.Class]string) {
	if len(classes) == 0 {
		return
	}
	var err error
	switch kind {
	case kindFence:
		err = p.config.Store.SetFence(classes, at)
	case kindCommit:
		err = p.config.Store.SetWatermark(classes, at)
	case kindRelease:
		err = p.config.Store.SetReleased(classes, at)
	}
	switch n := len(classes); {
	case err == nil:
	case n == 1:
		refused[classes[0]] = fmt.Sprintf("cannot: %v", err)
	default: // one of them holds up the others
		p.set(kind, classes[:n/2], at, refused)
		p.set(kind, classes[n/2:], at, refused)
	}
}

// objection is why this node does not do what is asked for one class, "" where it does. It reads on from the node's name.
func (p *collection) objection(layout *ring.Layout, from ring.NodeID, m order, i int, unsynced []ring.Class) string {
	c, self := m.classes[i], p.config.Membership.Self()
	if c.Partition >= layout.Partitions() || layout.Preference(c.Partition)[0] != from {
		return fmt.Sprintf("is asked by %s, which is not the first owner", p.config.Name(from))
	}
	owner := layout.Owns(self, c.Partition, c.N)
	marks := p.config.Store.Marks(c)
	switch m.kind {
	case kindFence:
		if why := p.objectsToFence(c, m.at); why != "" || !owner {
			return why
		}
		switch {
		case slices.Contains(unsynced, c):
			return "has lost something, and must exchange with the others first"
		case marks.Watermark < m.released[i]:
			return "was set back, and must exchange with the others first"
		}
		if !p.sound(c) {
			return "still makes its Merkle tree anew"
		}
	case kindCommit:
		switch {
		case !owner:
			return "does not own it"
		case m.session != p.session:
			return "was started again meanwhile"
		case slices.Contains(unsynced, c):
			return "has lost something, and must exchange with the others first"
		case marks.Fence < m.at:
			return "does not know of this round"
		}
	case kindRelease:
		switch {
		case !owner:
			return "does not own it"
		case slices.Contains(unsynced, c):
			return "has lost something, and must exchange with the others first"
		case marks.Watermark < m.at:
			return "has not committed to this"
		}
	}
	return ""
}

// objectsToFence is what every member is asked, whether it owns the class or not.
func (p *collection) objectsToFence(c ring.Class, at uint64) string {
	now := p.config.Now()
	if limit := uint64(max(now.Add(fenceAhead).UnixNano(), 0)); at > limit {
		return fmt.Sprintf("has a clock that is %s behind the collector's", time.Duration(at-limit)+fenceAhead)
	}
	hints, known := p.config.Store.HintsIn(c.Partition)
	switch {
	case !known:
		return "still counts its hints"
	case hints > 0:
		return fmt.Sprintf("keeps %d hints that may be last copies: they must be delivered first", hints)
	}
	return ""
}
