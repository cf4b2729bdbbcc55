package quorum

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

const (
	listMost   = 1000     // keys of one page
	listScan   = 20_000   // index entries that one node looks at in one round
	listReads  = 16       // quorum reads at once within one page
	listValues = 16 << 20 // bytes of values after which a page ends
)

// List answers one page of a bucket's keys. Each partition's index is read from r of its owners: a key that all of them
// hold live is listed at once, a quorum read decides about the others. A key that is there for a whole walk comes exactly
// once, whichever nodes answer. A page may be short, even empty, and still have a cursor. Errors are of type *Error.
func (c *Coordinator) List(ctx context.Context, bucket string, options ListOptions) (ListPage, error) {
	page, e := c.list(ctx, bucket, options)
	if e != nil {
		e.Outcome = ""
		c.config.Observer.Quorum("list", e.Code)
		return ListPage{}, e
	}
	c.config.Observer.Quorum("list", "")
	return page, nil
}

// walk is one page in the making.
type walk struct {
	c       *Coordinator
	bucket  string
	options ListOptions
	at      position // everything up to here is decided
	ended   bool     // there is nothing after at
	page    ListPage
	size    int
	avoid   map[ring.NodeID]error // nodes that failed while this page was made
	silent  map[voice]bool        // and those that have no vote for a partition
}

// voice is one node's say about one partition.
type voice struct {
	node      ring.NodeID
	partition int
}

func (c *Coordinator) list(ctx context.Context, bucket string, options ListOptions) (ListPage, *Error) {
	if options.Limit < 1 || options.Limit > listMost {
		return ListPage{}, &Error{Code: CodeInvalid, Detail: fmt.Sprintf("limit=%d is not between 1 and %d", options.Limit, listMost)}
	}
	if options.R == None {
		return ListPage{}, &Error{Code: CodeInvalid, Detail: "r must be at least 1"}
	}
	if e := c.enter(&c.lists); e != nil {
		return ListPage{}, e
	}
	defer c.leave(&c.lists)
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	layout := c.config.Membership.Layout()
	if layout == nil {
		return ListPage{}, c.notReady()
	}
	w := &walk{c: c, bucket: bucket, options: options, avoid: map[ring.NodeID]error{}, silent: map[voice]bool{}}
	var ok bool
	if w.at, ok = decodeCursor(bucket, options.Prefix, options.Cursor, layout.Partitions()); !ok {
		return ListPage{}, &Error{Code: CodeInvalid, Detail: "this is not a cursor of this bucket and prefix: begin the walk again without one"}
	}
	start, began := w.at, time.Now()
	limit, _ := ctx.Deadline()
	for !w.ended && !w.full() {
		round := time.Now()
		if e := w.round(ctx); e != nil {
			if w.at == start {
				return ListPage{}, e
			}
			break // what is decided is a page; the next one meets the error, or not
		}
		// A round as long as the last one must still fit well before the deadline.
		if left := time.Until(limit); left < 2*time.Since(round) || left < limit.Sub(began)/5 {
			break
		}
	}
	if !w.ended {
		w.page.Cursor = encodeCursor(bucket, options.Prefix, w.at)
	}
	return w.page, nil
}

func (w *walk) full() bool { return len(w.page.Keys) >= w.options.Limit || w.size >= listValues }

// plan assigns each partition that is still to be walked to r of its owners, and groups the partitions by node.
func (w *walk) plan(layout *ring.Layout, r int) (map[ring.NodeID][]int, *Error) {
	now := time.Now()
	asks := map[ring.NodeID][]int{}
	for p := w.at.partition; p < layout.Partitions(); p++ {
		t := w.target(layout, p)
		order := w.c.choose(&t, now)
		found := 0
		for k := 0; k < order.usable && found < r; k++ {
			id := t.owners[order.order[k]]
			if w.avoid[id] == nil && !w.silent[voice{id, p}] {
				asks[id] = append(asks[id], p)
				found++
			}
		}
		if found < r {
			e := &Error{
				Code: CodeUnavailable, N: t.n, Required: r, Acked: found,
				Detail: fmt.Sprintf("partition %d needs %d of its %d replicas to be listed, and only %d can be reached", p, r, t.n, found),
			}
			for _, id := range t.owners {
				why := w.avoid[id]
				switch {
				case w.silent[voice{id, p}]:
					why = errUnsynced
				case why == nil:
					why = w.c.unusable(&t, id, now, toRead)
				}
				if why != nil {
					receipt := t.receipt(id)
					receipt.Error = why.Error()
					e.Replicas = append(e.Replicas, receipt)
				}
			}
			return nil, e
		}
	}
	return asks, nil
}

func (w *walk) target(layout *ring.Layout, partition int) target {
	t := target{layout: layout, bucket: w.c.config.Buckets.Get(w.bucket), partition: partition, self: -1}
	t.owners = layout.Owners(partition, t.bucket.N)
	t.n = len(t.owners)
	return t
}

// round asks each node once, and decides about every key up to where all of them got.
func (w *walk) round(ctx context.Context) *Error {
	var p patience
	for {
		layout := w.c.config.Membership.Layout()
		t := w.target(layout, w.at.partition)
		r, e := t.required("r", w.options.R, t.bucket.R)
		if e != nil {
			return e
		}
		asks, e := w.plan(layout, r)
		if e != nil {
			return e
		}
		answers, failed := w.ask(ctx, layout, asks)
		if ctx.Err() != nil {
			return &Error{Code: CodeTimeout, Detail: "the replicas did not answer in time: ask for fewer keys, or give it more time", N: t.n, Required: r, Err: ctx.Err()}
		}
		if hushed := w.hush(answers); !hushed && len(failed) == 0 && w.c.config.Membership.Layout().Version() == layout.Version() {
			return w.decide(ctx, layout, asks, answers)
		}
		for id, err := range failed { // once more, with other owners
			if outcomeOf(err) == outcomeStale && w.c.awaitLayout(ctx, &p, id, layout.Version(), staleLayout(err)) {
				continue
			}
			w.avoid[id] = err
		}
	}
}

// hush notes which nodes have no vote for which partitions, and tells whether there was any.
func (w *walk) hush(answers map[ring.NodeID]listAnswer) (found bool) {
	for id, a := range answers {
		for _, p := range a.silent {
			w.silent[voice{id, p}], found = true, true
		}
	}
	return found
}

// ask sends the same question to all nodes at once, each with its partitions.
func (w *walk) ask(ctx context.Context, layout *ring.Layout, asks map[ring.NodeID][]int) (map[ring.NodeID]listAnswer, map[ring.NodeID]error) {
	answers, failed := map[ring.NodeID]listAnswer{}, map[ring.NodeID]error{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for id, partitions := range asks {
		group.Go(func() {
			q := listRequest{
				bucket: w.bucket, prefix: w.options.Prefix, after: w.at,
				limit: w.options.Limit - len(w.page.Keys) + 1, scan: listScan, partitions: partitions,
			}
			a, err := w.c.askList(ctx, id, layout, &q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[id] = err
			} else {
				answers[id] = a
			}
		})
	}
	group.Wait()
	return answers, failed
}

func (c *Coordinator) askList(ctx context.Context, id ring.NodeID, layout *ring.Layout, q *listRequest) (listAnswer, error) {
	if id == c.self {
		return c.scanVoted(ctx, q)
	}
	now := time.Now()
	state := c.table.get(id)
	if err := state.acquire(now); err != nil {
		return listAnswer{}, err
	}
	// Half of the time that is left: a node that hangs leaves time for another one.
	hop, cancel := ctx, context.CancelFunc(func() {})
	if at, ok := ctx.Deadline(); ok {
		hop, cancel = context.WithDeadline(ctx, now.Add(at.Sub(now)/2))
	}
	defer cancel()
	b, err := c.config.Peers.List(hop, id, layout.Version(), q.encode())
	c.settled(state, id, "list", now, err)
	if err != nil {
		return listAnswer{}, err
	}
	a, err := decodeListAnswer(b)
	if err != nil {
		return listAnswer{}, fmt.Errorf("listing of %s: %w", id, err)
	}
	return a, nil
}

// decide goes through the keys that the nodes named, in order, up to the first place that one of them did not reach.
func (w *walk) decide(ctx context.Context, layout *ring.Layout, asks map[ring.NodeID][]int, answers map[ring.NodeID]listAnswer) *Error {
	end, all := position{layout.Partitions(), ""}, true
	voters := map[int]int{} // partition → nodes asked
	for id, partitions := range asks {
		for _, p := range partitions {
			voters[p]++
		}
		if a := answers[id]; !a.done {
			all = false
			if a.reached.before(end) {
				end = a.reached
			}
		}
	}
	var keys []listKey
	votes := map[position]int{}
	for _, a := range answers {
		for _, e := range a.entries {
			if end.before(e.position) || !w.at.before(e.position) {
				continue
			}
			if _, seen := votes[e.position]; !seen {
				keys = append(keys, listKey{position: e.position})
			}
			if e.state == vclock.Live {
				votes[e.position]++
			} else {
				votes[e.position] += 0
			}
		}
	}
	slices.SortFunc(keys, func(a, b listKey) int {
		if a.before(b.position) {
			return -1
		}
		return 1
	})
	for i := range keys {
		keys[i].sure = votes[keys[i].position] == voters[keys[i].partition]
	}
	return w.take(ctx, keys, end, all)
}

type listKey struct {
	position
	sure   bool // all that were asked hold it live
	object vclock.Object
	live   bool
	err    *Error
}

// take adds keys to the page until it is full. The position follows what is decided, never further.
func (w *walk) take(ctx context.Context, keys []listKey, end position, all bool) *Error {
	for len(keys) > 0 && !w.full() {
		chunk := min(len(keys), w.options.Limit-len(w.page.Keys))
		if w.options.Values {
			chunk = min(chunk, listReads)
		}
		w.readKeys(ctx, keys[:chunk])
		for i := range keys[:chunk] {
			k := &keys[i]
			if k.err != nil {
				return k.err
			}
			w.at = k.position
			if !k.live {
				continue
			}
			w.page.Keys = append(w.page.Keys, k.name)
			if w.options.Values {
				w.page.Objects = append(w.page.Objects, k.object)
				w.size += vclock.EncodedSize(k.object)
			}
		}
		keys = keys[chunk:]
	}
	if len(keys) == 0 || plant.On(plant.ListingSkips) {
		w.at, w.ended = end, all
	}
	return nil
}

// readKeys reads the keys that the index alone does not decide, or all where their values are wanted.
func (w *walk) readKeys(ctx context.Context, keys []listKey) {
	slots := make(chan struct{}, listReads)
	var group sync.WaitGroup
	for i := range keys {
		k := &keys[i]
		if k.sure && !w.options.Values {
			k.live = true
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			result, e := w.c.get(ctx, ring.NewKey(w.bucket, k.name), ReadOptions{R: w.options.R})
			k.object, k.err = result.Object, e
			k.live = e == nil && result.Object.Values() > 0
		})
	}
	group.Wait()
}
