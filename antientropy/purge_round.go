package antientropy

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// round is one round of collection, on the collector. See collection for what its steps promise.
type round struct {
	*collection
	layout  *ring.Layout
	at      uint64 // W
	blocked map[ring.Class]string

	sessions map[ring.NodeID]uint64 // as the members' FENCE answers named them
}

// run takes the classes as far as they come. A class that somebody refuses leaves the round, or that somebody does not answer about.
func (x *round) run(ctx context.Context, classes []ring.Class) {
	x.sessions = make(map[ring.NodeID]uint64)
	for _, step := range []func(context.Context, []ring.Class){x.fence, x.level, x.commit, x.release} {
		step(ctx, classes)
		if classes = x.left(classes); len(classes) == 0 || ctx.Err() != nil {
			return
		}
		if sameLayout(x.config.Membership.Layout(), x.layout.Version()) != nil {
			x.giveUp(classes, "the ring has changed meanwhile")
			return
		}
	}
}

func (x *round) giveUp(classes []ring.Class, why string) {
	for _, c := range classes {
		x.blocked[c] = why
	}
}

// left lists the classes that are still in the round.
func (x *round) left(classes []ring.Class) []ring.Class {
	return slices.DeleteFunc(slices.Clone(classes), func(c ring.Class) bool { return x.blocked[c] != "" })
}

// members are the other nodes that must take part.
func (x *round) members() []ring.NodeID {
	var out []ring.NodeID
	for _, m := range x.layout.Members() {
		if plant.On(plant.CollectTooEarly) && !x.config.Membership.Alive(m.ID) {
			continue
		}
		if m.ID != x.config.Membership.Self() {
			out = append(out, m.ID)
		}
	}
	return out
}

// share is the part of the classes that a node owns.
func (x *round) share(id ring.NodeID, classes []ring.Class) []ring.Class {
	return slices.DeleteFunc(slices.Clone(classes), func(c ring.Class) bool { return !x.layout.Owns(id, c.Partition, c.N) })
}

// fence asks every member, this node first.
func (x *round) fence(ctx context.Context, classes []ring.Class) {
	m := order{kind: kindFence, at: x.at, classes: classes}
	for _, c := range classes {
		m.released = append(m.released, x.config.Store.Marks(c).Released)
	}
	orders := map[ring.NodeID]order{x.config.Membership.Self(): m}
	for _, id := range x.members() {
		orders[id] = m
	}
	answers := x.give(ctx, orders)
	// Nobody may be behind what anybody has released: he was set back, and has not found out yet.
	released := make([]uint64, len(classes))
	for id, a := range answers {
		x.sessions[id] = a.session
		for i, c := range classes {
			if x.layout.Owns(id, c.Partition, c.N) {
				released[i] = max(released[i], a.classes[i].marks.Released)
			}
		}
	}
	for id, a := range answers {
		for i, c := range classes {
			if x.layout.Owns(id, c.Partition, c.N) && a.classes[i].marks.Watermark < released[i] && x.blocked[c] == "" {
				x.blocked[c] = x.config.Name(id) + " was set back, and must exchange with the others first"
			}
		}
	}
}

// level makes the owners equal, with this node as the hub: first it learns what the others have, the last one learning all of it at
// once, then those before learn the rest.
func (x *round) level(ctx context.Context, classes []ring.Class) {
	last := make(map[ring.Class]ring.NodeID)
	members := x.members()
	for _, id := range members {
		for _, c := range x.share(id, classes) {
			last[c] = id
		}
	}
	for again := range 2 {
		for _, id := range members {
			part := x.share(id, classes)
			if again == 1 {
				part = slices.DeleteFunc(part, func(c ring.Class) bool { return last[c] == id })
			}
			if len(part) == 0 {
				continue
			}
			for c, why := range x.exchange(ctx, id, part) {
				if why == "" {
					why = "not equal"
				}
				x.blocked[c] = fmt.Sprintf("exchange with %s: %s", x.config.Name(id), why)
			}
			classes = x.left(classes)
		}
	}
}

// commit asks the owners. This node comes first: with its watermark above what it has released it will begin again if this ends before
// its time.
func (x *round) commit(ctx context.Context, classes []ring.Class) {
	self := x.config.Membership.Self()
	x.give(ctx, map[ring.NodeID]order{self: {kind: kindCommit, at: x.at, session: x.sessions[self], classes: classes}})
	x.others(ctx, kindCommit, x.left(classes))
}

// release tells the owners that all of them have committed. This node comes last, for the same reason.
func (x *round) release(ctx context.Context, classes []ring.Class) {
	x.others(ctx, kindRelease, classes)
	if classes = x.left(classes); len(classes) > 0 {
		x.give(ctx, map[ring.NodeID]order{x.config.Membership.Self(): {kind: kindRelease, at: x.at, classes: classes}})
	}
}

// others gives an order to all other owners, each for what it owns.
func (x *round) others(ctx context.Context, kind byte, classes []ring.Class) {
	orders := make(map[ring.NodeID]order)
	for _, id := range x.members() {
		if part := x.share(id, classes); len(part) > 0 {
			orders[id] = order{kind: kind, at: x.at, session: x.sessions[id], classes: part}
		}
	}
	x.give(ctx, orders)
}

// give sends orders, all at the same time, and waits for all answers. Classes that were refused are blocked afterwards, and so are those
// of an order that was not answered.
func (x *round) give(ctx context.Context, orders map[ring.NodeID]order) map[ring.NodeID]assent {
	answers := make(map[ring.NodeID]assent, len(orders))
	var mu sync.Mutex
	var sent sync.WaitGroup
	for id, m := range orders {
		sent.Go(func() {
			a, err := x.order(ctx, id, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				x.giveUp(m.classes, fmt.Sprintf("%s does not take part: %v", x.config.Name(id), err))
				return
			}
			answers[id] = a
			for i, c := range m.classes {
				if why := a.classes[i].refusal; why != "" {
					x.blocked[c] = x.config.Name(id) + " " + why
				}
			}
		})
	}
	sent.Wait()
	return answers
}

// order gives one order to one member, or to this node.
func (x *round) order(ctx context.Context, id ring.NodeID, m order) (assent, error) {
	if id == x.config.Membership.Self() {
		return x.obey(x.layout, id, m), nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := x.config.Peers.Exchange(ctx, id, x.layout.Version(), m.encode())
	if err != nil {
		return assent{}, err
	}
	return decodeAssent(b, len(m.classes))
}
