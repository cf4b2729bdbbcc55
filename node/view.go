package node

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/httpapi"
	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// view is the node as the API shows it.
type view life

var _ httpapi.Node = (*view)(nil)

// Ready tells whether the node is in the ring and can serve; if not, why.
func (v *view) Ready() (bool, string) {
	if v.draining.Load() {
		return false, "the node is stopping"
	}
	if ok, why := v.members.Ready(); !ok {
		return false, why
	}
	if n := v.repairer.Syncing(); n > 0 {
		return false, fmt.Sprintf("data were lost, or are a copy: %d partitions cast no read votes until they have been compared with every other owner", n)
	}
	return true, ""
}

// Layout is the ring, nil until one is known.
func (v *view) Layout() *ring.Layout { return v.members.Layout() }

// owned counts, for each member, the partitions that it holds a replica of with the default replica count.
func owned(l *ring.Layout) map[ring.NodeID]int {
	out := map[ring.NodeID]int{}
	if l == nil {
		return out
	}
	for p := range l.Partitions() {
		for _, id := range l.Owners(p, quorum.DefaultBucket.N) {
			out[id]++
		}
	}
	return out
}

// Cluster lists the members of the ring and every other node that was seen.
func (v *view) Cluster() httpapi.ClusterView {
	l := v.Layout()
	out := httpapi.ClusterView{Cluster: v.config.Cluster, Members: []httpapi.MemberView{}}
	if l != nil {
		out.Ring = l.Version()
	}
	partitions := owned(l)
	for _, n := range v.members.Nodes() {
		m := httpapi.MemberView{
			Name: n.Name, ID: string(n.ID), HTTP: n.HTTPAddr, Peer: n.PeerAddr, Gossip: n.GossipAddr, Zone: n.Zone, Weight: n.Weight,
			State: "none", Health: n.Health, Partitions: partitions[n.ID], Version: n.Version,
		}
		if n.Member {
			m.State = "member"
		}
		out.Members = append(out.Members, m)
	}
	slices.SortFunc(out.Members, func(a, b httpapi.MemberView) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	status := v.repairer.Status()
	for _, h := range status.Hints {
		out.HintsPending += int(h.Count)
	}
	out.DivergentPartitions = divergent(status)
	return out
}

// Status describes this node.
func (v *view) Status() httpapi.NodeView {
	ready, why := v.Ready()
	stats := v.store.Stats()
	l, status := v.Layout(), v.repairer.Status()
	out := httpapi.NodeView{
		Name: v.config.Name, ID: string(v.store.NodeID()), Cluster: v.config.Cluster, HTTP: v.httpAddr, Peer: v.peerAddr,
		Gossip: v.members.GossipAddr(), Zone: v.config.Zone, Weight: v.config.Weight, Version: Version(),
		Incarnation: fmt.Sprintf("%016x", uint64(v.store.Incarnation())), Ready: ready, Reason: why, UptimeS: time.Since(v.began).Seconds(),
		Keys: stats.LiveKeys, DiskBytes: stats.DiskBytes, Hints: v.hintsView(status).Targets,
		Repair: v.repairView(status), Disk: v.diskView(), Tombstones: v.tombstonesView(status).TombstonesSummary,
	}
	if l != nil {
		out.Ring, out.Partitions = l.Version(), owned(l)[v.store.NodeID()]
	}
	return out
}

// Stats is a snapshot for metrics.
func (v *view) Stats() httpapi.Stats {
	g, status := v.members.Stats(), v.repairer.Status()
	out := httpapi.Stats{
		Store:  storeStats(v.store.Stats(), v.reopened),
		Gossip: httpapi.GossipStats{HealthScore: g.HealthScore, RejoinAttempts: g.JoinAttempts, RefusedNodes: g.Refused + g.OtherCluster},
		Hints:  v.hintFigures(status), Repair: v.repairView(status), Disk: v.diskView(), Tombstones: v.tombstonesView(status),
	}
	for _, p := range v.client.Stats() {
		s := httpapi.PeerStats{ID: string(p.Peer), InFlight: p.InFlight, Dials: p.Connects, Sent: p.BytesOut, Received: p.BytesIn}
		if p.Connected {
			s.Connections = 1
		}
		out.Peers = append(out.Peers, s)
	}
	return out
}

func storeStats(s storage.Stats, reopened map[storage.Cause]int) httpapi.StoreStats {
	out := httpapi.StoreStats{
		Gets: s.Gets, CacheHits: s.CacheHits, Merges: s.Merges, Updates: s.Updates, Unchanged: s.Unchanged, Syncs: s.Syncs,
		SyncWaiting: s.SyncWaiting, CorruptObjects: s.CorruptObjects, JournalSyncs: durations(s.JournalSyncs), OtherSyncs: durations(s.OtherSyncs),
		LiveKeys: s.LiveKeys, LiveKeysKnown: s.LiveKeysKnown, DiskBytes: s.DiskBytes, CacheBytes: s.CacheBytes, CacheEntries: s.CacheEntries,
		BlockCacheBytes: s.BlockCacheBytes, OpenTables: s.OpenTables, WriteDelays: s.WriteDelays, WriteDelay: s.WriteDelay,
		WritePaused: s.WritePaused, MemoryCompactions: s.MemoryCompactions, TableCompactions: s.TableCompactions,
		CompactionTime: s.CompactionTime, UncleanStart: s.UncleanStart, LenientStart: s.LenientStart, Damaged: s.Damage != "",
		Reopens: map[string]int{"damage": reopened[storage.Damage], "disk_failed": reopened[storage.DiskFailed], "disk_full": reopened[storage.DiskFull]},
	}
	for _, l := range s.Levels {
		out.Levels = append(out.Levels, httpapi.LevelStats(l))
	}
	return out
}

func durations(h storage.Histogram) httpapi.Durations { return httpapi.Durations(h) }

// healthAlive tells whether a node can be talked to.
func healthAlive(n gossip.Node) bool { return n.Health != gossip.Dead && n.PeerAddr != "" }
