package node

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// follow reacts to changes of the cluster: another node's bucket settings, a listener that failed.
func (l *life) follow(ctx context.Context) {
	retry := time.NewTicker(settingsRetry)
	defer retry.Stop()
	greeted := map[ring.NodeID]bool{}
	for {
		l.members.SetSettingsHash(l.buckets.Hash())
		l.greet(greeted)
		l.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case err := <-l.members.Failed():
			l.fail(fmt.Errorf("gossip: %w", err))
		case <-l.members.Changes():
		case <-l.buckets.Changes():
		case <-retry.C:
		}
	}
}

// greet connects to every node that has come to life since the last call, before anybody needs it: so that it hears at once that this
// node is back, and asks it again.
func (l *life) greet(greeted map[ring.NodeID]bool) {
	for _, other := range l.members.Nodes() {
		alive := healthAlive(other) && other.ID != l.store.NodeID()
		if alive && !greeted[other.ID] {
			if err := l.client.Greet(other.ID); err != nil {
				l.log.Debug("could not greet a node, requests will try", "node", other.Name, "error", err)
			}
		}
		greeted[other.ID] = alive
	}
}

// met hears that another node has connected.
func (l *life) met(id ring.NodeID) {
	if _, known := l.members.Addr(id); !known {
		return // whoever it says it is: what is kept of nodes is kept of those that gossip has heard of
	}
	l.coordinator.Met(id)
	l.repairer.Met(id)
	if err := l.client.Greet(id); err != nil {
		l.log.Debug("could not greet a node back, requests will try", "node", id, "error", err)
	}
}

// settingsRetry is how soon a comparison of bucket settings that failed is tried again.
const settingsRetry = time.Second

// reconcile joins the bucket settings of every node that announces others than this one has.
func (l *life) reconcile(ctx context.Context) {
	for _, other := range l.members.Nodes() {
		if other.ID == l.store.NodeID() || !healthAlive(other) || other.LayoutVersion == 0 || other.SettingsHash == l.buckets.Hash() {
			continue
		}
		if err := l.buckets.Reconcile(ctx, other.ID); err != nil && ctx.Err() == nil {
			l.log.Debug("could not compare bucket settings, will try again", "node", other.Name, "error", err)
		}
	}
}
