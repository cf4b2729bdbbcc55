package quorum

import (
	"context"
	"fmt"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// HandleList answers another node's question for index entries.
func (c *Coordinator) HandleList(ctx context.Context, from ring.NodeID, layout uint64, payload []byte) ([]byte, error) {
	q, err := decodeListRequest(payload)
	if err != nil {
		return nil, refuse("listing: %v", err)
	}
	if e := c.enter(&c.scans); e != nil {
		return nil, &refusal{text: e.Detail, outcome: outcomeOverloaded}
	}
	defer c.leave(&c.scans)
	if err := c.state.healthy(); err != nil {
		return nil, fmt.Errorf("this replica casts no read votes: %w", err)
	}
	own := c.config.Membership.Layout()
	if own == nil {
		return nil, &refusal{text: notReady(c.config.Membership).Detail, outcome: outcomeStale}
	}
	if err := c.replica.sameLayout(from, own, layout); err != nil {
		return nil, err
	}
	n := c.config.Buckets.Get(q.bucket).N
	for _, p := range q.partitions {
		if p >= own.Partitions() || !own.Owns(c.self, p, n) {
			return nil, refuse("this node does not own partition %d (n=%d): bucket settings may still be spreading", p, n)
		}
	}
	a, err := c.scanVoted(ctx, &q)
	if err != nil {
		return nil, err
	}
	return a.encode(), nil
}

// scanVoted is scanIndex for the partitions for which this node has a vote. It names the others.
func (c *Coordinator) scanVoted(ctx context.Context, q *listRequest) (listAnswer, error) {
	n, voted, silent := c.config.Buckets.Get(q.bucket).N, make([]int, 0, len(q.partitions)), []int(nil)
	for _, p := range q.partitions {
		if c.state.votes(ring.Class{Partition: p, N: n}) == nil {
			voted = append(voted, p)
		} else {
			silent = append(silent, p)
		}
	}
	asked := *q
	asked.partitions = voted
	a, err := c.scanIndex(ctx, &asked)
	a.silent = silent
	return a, err
}

// scanIndex reads the local index. It looks at q.scan entries at most, and stops after q.limit that are not only
// tombstones, or with ctx.
func (c *Coordinator) scanIndex(ctx context.Context, q *listRequest) (listAnswer, error) {
	a := listAnswer{done: true}
	seen := 0
	err := c.config.Local.List(q.bucket, q.prefix, q.partitions, q.after.partition, q.after.name, func(partition int, name string, state vclock.State) bool {
		seen++
		a.reached = position{partition, name}
		if state == vclock.Live || state == vclock.Mixed {
			a.entries = append(a.entries, listEntry{a.reached, state})
		}
		if seen >= q.scan || len(a.entries) >= q.limit || seen%1024 == 0 && ctx.Err() != nil {
			a.done = false
			return false
		}
		return true
	})
	if err != nil {
		return listAnswer{}, fmt.Errorf("list keys: %w", err)
	}
	return a, nil
}
