package node

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/antientropy"
	"github.com/rondodb/rondo/httpapi"
	"github.com/rondodb/rondo/ring"
)

// nodeName is a node's name for people, its id where it is unknown.
func (l *life) nodeName(id ring.NodeID) string {
	if n, ok := l.members.Node(id); ok && n.Name != "" {
		return n.Name
	}
	return string(id)
}

// age is how long ago t was, in seconds; nil where t is zero.
func age(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	s := max(0, time.Since(t).Seconds())
	return &s
}

// hybridAge is the age of a hybrid time, in seconds, 0 where it is 0 or lies ahead.
func (v *view) hybridAge(at uint64) float64 {
	if at == 0 {
		return 0
	}
	return max(0, v.config.machine.clock().Sub(time.Unix(0, int64(at))).Seconds())
}

// Partitions is the state of the Merkle trees.
func (v *view) Partitions() []httpapi.PartitionView {
	out := []httpapi.PartitionView{}
	for _, p := range v.repairer.Status().Partitions {
		one := httpapi.PartitionView{
			Partition: p.Class.Partition, N: p.Class.N, Root: fmt.Sprintf("%016x", p.Root), EqualS: age(p.Equal),
			Peers: []httpapi.PeerDebt{}, Synced: v.store.Votes(p.Class),
		}
		for _, d := range p.Peers {
			one.Peers = append(one.Peers, httpapi.PeerDebt{Node: (*life)(v).nodeName(d.Node), EqualS: age(d.Equal), Error: d.Error})
		}
		out = append(out, one)
	}
	return out
}

// Hints is what waits for other nodes.
func (v *view) Hints() httpapi.HintsView { return v.hintsView(v.repairer.Status()) }

func (v *view) hintsView(s antientropy.Status) httpapi.HintsView {
	out := httpapi.HintsView{Paused: s.Paused, Known: s.HintsKnown, Targets: []httpapi.HintView{}}
	for _, h := range s.Hints {
		one := httpapi.HintView{
			Target: (*life)(v).nodeName(h.Target), ID: string(h.Target), Count: int(h.Count), Bytes: h.Bytes,
			Delivered: h.Delivered, Rate: h.Rate, Error: h.Error, DivergentPartitions: len(h.Divergent),
		}
		if h.Count > 0 && h.Oldest > 0 {
			one.OldestS = max(0, time.Since(time.Unix(0, h.Oldest)).Seconds())
		}
		out.Targets = append(out.Targets, one)
	}
	return out
}

// hintFigures are the hints for metrics: every other node is there, also those for which nothing waits.
func (v *view) hintFigures(s antientropy.Status) httpapi.HintsView {
	out := v.hintsView(s)
	for _, n := range v.members.Nodes() {
		there := n.ID == v.store.NodeID()
		for _, h := range out.Targets {
			there = there || h.ID == string(n.ID)
		}
		if !there {
			out.Targets = append(out.Targets, httpapi.HintView{Target: n.Name, ID: string(n.ID)})
		}
	}
	return out
}

// PauseHints stops the delivery of hints, or lets it go on.
func (v *view) PauseHints(paused bool) { v.repairer.PauseHints(paused) }

// Tombstones is what waits to be collected.
func (v *view) Tombstones() httpapi.TombstonesView { return v.tombstonesView(v.repairer.Status()) }

func (v *view) tombstonesView(s antientropy.Status) httpapi.TombstonesView {
	t := s.Tombstones
	out := httpapi.TombstonesView{
		TombstonesSummary: httpapi.TombstonesSummary{Waiting: t.Waiting, Blocker: t.Blocker},
		Collected:         t.Collected, Refused: t.Refused, Partitions: []httpapi.TombstonesPartition{},
	}
	if !t.Oldest.IsZero() {
		out.OldestS = v.hybridAge(uint64(t.Oldest.UnixNano()))
	}
	for _, c := range t.Classes {
		one := httpapi.TombstonesPartition{
			Partition: c.Class.Partition, N: c.Class.N, Waiting: c.Count, OldestS: v.hybridAge(c.Oldest), Blocker: c.Blocker,
		}
		if c.Marks.Watermark > 0 {
			since := v.hybridAge(c.Marks.Watermark)
			one.WatermarkS = &since
		}
		out.Partitions = append(out.Partitions, one)
	}
	return out
}

// repairView is anti-entropy in short.
func (v *view) repairView(s antientropy.Status) httpapi.RepairView {
	out := httpapi.RepairView{
		Unsynced: s.Unsynced, Exchanges: s.Exchanges, Failed: s.ExchangesFailed, ObjectsSent: s.ObjectsSent, ObjectsReceived: s.ObjectsReceived,
		Bytes: s.ExchangeBytes, VerifiedObjects: s.VerifiedObjects, DamagedObjects: s.DamagedObjects, WrongLeaves: s.WrongLeaves,
	}
	if s.VerifyAge > 0 {
		since := s.VerifyAge.Seconds()
		out.VerifyAgeS = &since
	}
	for _, p := range s.Partitions {
		if len(p.Peers) == 0 {
			continue // nobody else has it
		}
		if since := age(p.Equal); since != nil {
			out.OldestEqualS = max(out.OldestEqualS, *since)
		} else {
			out.NeverEqual++
		}
	}
	return out
}

// divergent counts the partitions that are not known to be equal on all owners, or for which hints were dropped.
func divergent(s antientropy.Status) int {
	seen := map[int]bool{}
	for _, p := range s.Partitions {
		if len(p.Peers) > 0 && p.Equal.IsZero() {
			seen[p.Class.Partition] = true
		}
	}
	for _, h := range s.Hints {
		for _, p := range h.Divergent {
			seen[p] = true
		}
	}
	return len(seen)
}

// diskView is the space on the disk.
func (v *view) diskView() httpapi.DiskView {
	s := v.store.Stats()
	return httpapi.DiskView{FreeBytes: s.FreeBytes, TotalBytes: s.TotalBytes, ReserveBytes: s.ReserveBytes, Full: s.Full}
}

// Repair makes partitions equal now.
func (v *view) Repair(ctx context.Context, partition int, progress func(httpapi.RepairProgress)) error {
	return v.repairer.Repair(ctx, partition, func(p antientropy.Progress) { progress(httpapi.RepairProgress(p)) })
}
