package node

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// follow reacts to changes of the cluster: another node's bucket settings, a listener that failed.
func (n *Node) follow(ctx context.Context) {
	retry := time.NewTicker(settingsRetry)
	defer retry.Stop()
	greeted := map[ring.NodeID]bool{}
	for {
		n.members.SetSettingsHash(n.buckets.Hash())
		n.greet(greeted)
		n.reconcile(ctx)
		select {
		case <-ctx.Done():
			return
		case err := <-n.members.Failed():
			n.fail(fmt.Errorf("gossip: %w", err))
		case <-n.members.Changes():
		case <-n.buckets.Changes():
		case <-retry.C:
		}
	}
}

// greet connects to every node that has come to life since the last call, before anybody needs it: so that it hears at once that this
// node is back, and asks it again.
func (n *Node) greet(greeted map[ring.NodeID]bool) {
	for _, other := range n.members.Nodes() {
		alive := healthAlive(other) && other.ID != n.store.NodeID()
		if alive && !greeted[other.ID] {
			if err := n.client.Greet(other.ID); err != nil {
				n.log.Debug("could not greet a node, requests will try", "node", other.Name, "error", err)
			}
		}
		greeted[other.ID] = alive
	}
}

// met hears that another node has connected.
func (n *Node) met(id ring.NodeID) {
	if _, known := n.members.Addr(id); !known {
		return // whoever it says it is: what is kept of nodes is kept of those that gossip has heard of
	}
	n.coordinator.Met(id)
	if err := n.client.Greet(id); err != nil {
		n.log.Debug("could not greet a node back, requests will try", "node", id, "error", err)
	}
}

// settingsRetry is how soon a comparison of bucket settings that failed is tried again.
const settingsRetry = time.Second

// reconcile joins the bucket settings of every node that announces others than this one has.
func (n *Node) reconcile(ctx context.Context) {
	for _, other := range n.members.Nodes() {
		if other.ID == n.store.NodeID() || !healthAlive(other) || other.LayoutVersion == 0 || other.SettingsHash == n.buckets.Hash() {
			continue
		}
		if err := n.buckets.Reconcile(ctx, other.ID); err != nil && ctx.Err() == nil {
			n.log.Debug("could not compare bucket settings, will try again", "node", other.Name, "error", err)
		}
	}
}
