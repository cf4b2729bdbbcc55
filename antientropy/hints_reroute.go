package antientropy

import (
	"context"
	"fmt"
	"slices"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// reroute takes objects to those who own them instead of the target. A hint is forgotten once all of them have it. refuser is a
// target that itself says that it is no owner, although this node thinks so: its word counts for it.
func (p *pass) reroute(ctx context.Context, items []waiting, refuser ring.NodeID) {
	if len(items) == 0 {
		return
	}
	self := p.config.Membership.Self()
	lacks := make([]lack, len(items))
	parts := make(map[ring.NodeID][]int)
	var order []ring.NodeID
	merged := false
	for i, w := range items {
		owners := slices.DeleteFunc(slices.Clone(p.config.owners(p.layout, w.key)), func(id ring.NodeID) bool { return id == refuser })
		switch {
		case plant.On(plant.HintForFormerOwner) && !w.own:
			continue
		case w.own && slices.Contains(owners, self):
			continue // it is in its place: exchange among the owners does the rest
		case len(owners) == 0:
			lacks[i].note("nobody owns it: bucket settings may still be spreading", false)
			continue
		}
		for _, id := range owners {
			if id == self {
				r := p.merge(w.handed)
				merged = merged || r.fate == handedOver
				if r.fate >= handedNotOwner {
					lacks[i].note(r.why, false)
				}
				continue
			}
			if parts[id] == nil {
				order = append(order, id)
			}
			parts[id] = append(parts[id], i)
		}
	}
	for _, id := range order {
		p.routeTo(ctx, id, items, parts[id], lacks)
	}
	if merged {
		if err := p.sync(ctx); err != nil {
			p.keep(len(items), fmt.Sprintf("take objects that were kept for others: %v", err))
			return
		}
	}
	var arrived []waiting
	for i, l := range lacks {
		if l.why == "" {
			arrived = append(arrived, items[i])
			continue
		}
		p.keep(1, l.why)
		if !l.alive {
			p.absent++
		}
	}
	p.drop(arrived)
}

// lack is why an object is not yet with all of its owners.
type lack struct {
	why   string // "" = it is
	alive bool   // an owner that is alive lacks it
}

func (l *lack) note(why string, dead bool) {
	l.why, l.alive = why, l.alive || !dead
}

// routeTo sends one owner those of the items that it is to have, and notes which it lacks afterwards.
func (p *pass) routeTo(ctx context.Context, id ring.NodeID, items []waiting, part []int, lacks []lack) {
	if !p.config.Membership.Alive(id) {
		for _, i := range part {
			lacks[i].note(p.config.Name(id)+" owns it now, and is dead", true)
		}
		return
	}
	message := make([]waiting, len(part))
	for k, i := range part {
		message[k] = items[i]
	}
	receipts, err := p.hand(ctx, id, message)
	for k, i := range part {
		switch {
		case err != nil:
			lacks[i].note(err.Error(), false)
		case receipts[k].fate >= handedNotOwner:
			lacks[i].note(receipts[k].why, false)
		}
	}
}
