package antientropy

import (
	"slices"
	"time"

	"github.com/rondodb/rondo/ring"
)

// divergence is what one node may lack because hints for it were dropped at the limit. Exchange mends it.
type divergence struct {
	asked time.Time            // when an exchange was last asked for
	left  map[int][]ring.Class // by partition: classes of it that both own and that were not equal since the mark was seen
}

// seekDivergent asks for exchanges with the nodes for which hints were dropped, and forgets the marks of partitions that this node does not
// share with the node any more: exchange among its owners mends these.
func (d *delivery) seekDivergent(layout *ring.Layout, stats []HintStat, now time.Time) {
	var held []ring.Class
	type mark struct {
		target    ring.NodeID
		partition int
	}
	var moot []mark
	ask := make(map[ring.NodeID][]ring.Class)
	d.mu.Lock()
	seen := make(map[ring.NodeID]bool)
	for _, s := range stats {
		if len(s.Divergent) == 0 {
			continue
		}
		if held == nil {
			held = d.config.Store.Classes()
		}
		seen[s.Target] = true
		v := d.divergent[s.Target]
		if v == nil {
			v = &divergence{left: make(map[int][]ring.Class)}
			d.divergent[s.Target] = v
		}
		for partition := range v.left {
			if !slices.Contains(s.Divergent, partition) {
				delete(v.left, partition)
			}
		}
		for _, partition := range s.Divergent {
			if partition >= layout.Partitions() {
				moot = append(moot, mark{s.Target, partition})
				continue
			}
			if v.left[partition] == nil {
				v.left[partition] = d.shared(layout, s.Target, partition, held)
			}
			if len(v.left[partition]) == 0 {
				moot = append(moot, mark{s.Target, partition})
			}
		}
		if now.Sub(v.asked) >= d.config.Interval && d.config.Membership.Alive(s.Target) {
			v.asked = now
			for _, classes := range v.left {
				ask[s.Target] = append(ask[s.Target], classes...)
			}
		}
	}
	for id := range d.divergent {
		if !seen[id] {
			delete(d.divergent, id)
		}
	}
	d.mu.Unlock()
	for _, m := range moot {
		d.undiverge(m.target, m.partition)
	}
	for id, classes := range ask {
		if len(classes) > 0 {
			slices.SortFunc(classes, ring.Class.Compare)
			d.soon(id, classes)
		}
	}
}

// shared lists the classes of a partition that hold anything here and that both nodes own. A hint that was dropped was about an
// object of this node's own in one of them; where none is left there is nothing that the other could lack.
func (d *delivery) shared(layout *ring.Layout, target ring.NodeID, partition int, held []ring.Class) []ring.Class {
	out := []ring.Class{}
	self := d.config.Membership.Self()
	for _, c := range held {
		if c.Partition == partition && layout.Owns(self, partition, c.N) && layout.Owns(target, partition, c.N) {
			out = append(out, c)
		}
	}
	return out
}

// becameEqual takes the mark of a partition once all of its classes that both nodes own were equal.
func (d *delivery) becameEqual(peer ring.NodeID, c ring.Class) {
	d.mu.Lock()
	v := d.divergent[peer]
	if v == nil {
		d.mu.Unlock()
		return
	}
	left, marked := v.left[c.Partition]
	if marked {
		left = slices.DeleteFunc(left, func(o ring.Class) bool { return o == c })
		v.left[c.Partition] = left
	}
	d.mu.Unlock()
	if marked && len(left) == 0 {
		d.undiverge(peer, c.Partition)
	}
}

func (d *delivery) undiverge(target ring.NodeID, partition int) {
	if err := d.config.Store.Undiverge(target, partition); err != nil {
		d.config.Logger.Warn("the mark that hints were dropped could not be taken away", "of", d.config.Name(target), "partition", partition, "error", err)
		return
	}
	d.mu.Lock()
	if v := d.divergent[target]; v != nil {
		delete(v.left, partition)
	}
	d.mu.Unlock()
}
