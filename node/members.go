package node

import (
	"log/slog"
	"sync/atomic"

	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// members is the membership as the coordinator sees it: a ring is known once the store knows the ring's partition count too.
type members struct {
	*gossip.Membership
	store   *storage.Store
	log     *slog.Logger
	settled atomic.Pointer[ring.Layout]
	failure atomic.Pointer[error]
}

// Layout is the ring in force, nil until there is one that the store fits. It blocks for one fsync when the ring changes.
func (m *members) Layout() *ring.Layout {
	l := m.Membership.Layout()
	if l == m.settled.Load() || l == nil {
		return l
	}
	if err := m.store.SetPartitions(l.Partitions()); err != nil {
		if old := m.failure.Swap(&err); old == nil || (*old).Error() != err.Error() {
			m.log.Error("the store does not fit the ring", "error", err)
		}
		return nil
	}
	m.failure.Store(nil)
	m.settled.Store(l)
	return l
}

// Ready tells whether this node is in the ring and its store works; if not, why.
func (m *members) Ready() (bool, string) {
	if m.Layout() == nil {
		if err := m.failure.Load(); err != nil {
			return false, "the store does not fit the ring: " + (*err).Error()
		}
	}
	if ok, why := m.Membership.Ready(); !ok {
		return false, why
	}
	if err := m.store.Healthy(); err != nil {
		return false, "the store: " + err.Error()
	}
	return true, ""
}
