package node

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/rondodb/rondo/antientropy"
	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/peer"
	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
)

// handler is what other nodes may ask of this one: it hands each message to the part that answers it. The parts are set
// before the peer server opens.
type handler struct {
	*quorum.Replica
	coordinator *quorum.Coordinator
	buckets     *quorum.Buckets
	membership  *gossip.Membership
	repairer    *antientropy.Repairer
}

// Call answers the messages that are not plain reads and writes.
func (h *handler) Call(ctx context.Context, from ring.NodeID, layout uint64, op peer.Op, payload []byte) ([]byte, error) {
	switch op {
	case peer.OpCoordinate:
		return h.coordinator.HandleCoordinate(ctx, from, layout, payload)
	case peer.OpList:
		return h.coordinator.HandleList(ctx, from, layout, payload)
	case peer.OpStandin:
		return h.coordinator.HandleStandin(ctx, from, layout, payload)
	case peer.OpLayout:
		return h.membership.HandleLayout(), nil
	case peer.OpForm:
		return h.membership.HandleForm(from, payload)
	case peer.OpExchange:
		return h.repairer.Handle(ctx, from, layout, payload)
	case peer.OpSettings:
		return h.buckets.HandleSettings(ctx, from, payload)
	}
	return nil, fmt.Errorf("message type %d is unknown to this version", op)
}

// calls adapts the peer client to the low-rate messages of gossip and of bucket settings.
type calls struct {
	client *peer.Client
	layout func() *ring.Layout
}

func (c *calls) version() uint64 {
	if l := c.layout(); l != nil {
		return l.Version()
	}
	return 0
}

// Call sends a message of the gossip package: kind is "form" or "layout".
func (c *calls) Call(ctx context.Context, to ring.NodeID, kind string, payload []byte) ([]byte, error) {
	op := peer.OpLayout
	if kind == "form" {
		op = peer.OpForm
	}
	return c.client.Call(ctx, to, c.version(), op, payload)
}

// Settings sends a message about bucket settings.
func (c *calls) Settings(ctx context.Context, to ring.NodeID, payload []byte) ([]byte, error) {
	return c.client.Call(ctx, to, c.version(), peer.OpSettings, payload)
}

// late holds a pointer that is set once, after the function that reads it was handed out.
type late[T any] struct{ p atomic.Pointer[T] }

func (l *late[T]) get() *T  { return l.p.Load() }
func (l *late[T]) set(v *T) { l.p.Store(v) }
