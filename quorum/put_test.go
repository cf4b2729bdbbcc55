package quorum

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestPutAndGet(t *testing.T) {
	for _, nodes := range []int{1, 2, 3, 5, 7} {
		c := newCluster(t, nodes)
		key := ring.NewKey("carts", "alice")
		for i, id := range c.ids { // owners and others, each replaces what the one before wrote
			node := c.nodes[id]
			put, err := node.coordinator.Put(t.Context(), key, text(string(id)), WriteOptions{ReturnValue: true, FullReceipt: true})
			if err != nil {
				t.Fatalf("%d nodes, put through node %d: %v", nodes, i, err)
			}
			n := min(nodes, 3)
			if r := put.Receipt; r.N != n || r.Required != n/2+1 || r.Acked < r.Required || r.Durable < r.Required || r.Ring != 1 || len(r.Replicas) != n {
				t.Errorf("%d nodes: receipt %+v", nodes, r)
			}
			if got := values(put.Object); !slices.Equal(got, []string{string(id)}) {
				t.Errorf("put returned %q", got)
			}
			for _, reader := range c.nodes {
				got, err := reader.coordinator.Get(t.Context(), key, ReadOptions{FullReceipt: true})
				if err != nil {
					t.Fatal(err)
				}
				if v := values(got.Object); !slices.Equal(v, []string{string(id)}) {
					t.Errorf("read %q, want %q", v, id)
				}
				if !got.Object.Clock.Covers(put.Context.Clock) {
					t.Error("the read does not cover the write before it")
				}
				if r := got.Receipt; r.N != n || r.Required != n/2+1 || r.Replied < r.Required {
					t.Errorf("receipt %+v", r)
				}
			}
		}
		c.close()
	}
}

func TestPutContexts(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	a, b := c.nodes[c.ids[0]].coordinator, c.nodes[c.ids[1]].coordinator
	key := ring.NewKey("b", "k")
	put := func(by *Coordinator, v Value, o WriteOptions) WriteResult {
		t.Helper()
		o.W = All
		r, err := by.Put(t.Context(), key, v, o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	read := func() ReadResult {
		t.Helper()
		r, err := a.Get(t.Context(), key, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one := put(a, text("one"), WriteOptions{Fresh: true})
	two := put(b, text("two"), WriteOptions{Fresh: true})
	if got := values(read().Object); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("two fresh writes: got %q", got)
	}
	// A put's context never covers a sibling that its writer was not shown.
	if two.Context.Clock.Contains(one.Dot) || !two.Context.Clock.Contains(two.Dot) {
		t.Errorf("context of the second write is wrong: %+v", two.Context)
	}
	put(a, text("three"), WriteOptions{Context: &one.Context})
	if got := values(read().Object); !slices.Equal(got, []string{"three", "two"}) {
		t.Errorf("a write with the first one's context: got %q", got)
	}
	// No context replaces what the coordinator holds, and its result covers that.
	four := put(b, text("four"), WriteOptions{})
	if !four.Context.Clock.Contains(one.Dot) || !four.Context.Clock.Contains(two.Dot) {
		t.Error("the context of a plain write must cover what it replaced")
	}
	if got := values(read().Object); !slices.Equal(got, []string{"four"}) {
		t.Errorf("a plain write: got %q", got)
	}
	gone := put(a, Value{Delete: true}, WriteOptions{Context: &four.Context})
	r := read()
	if r.Object.State() != vclock.Deleted || !r.Object.Clock.Contains(gone.Dot) {
		t.Errorf("after a delete: %+v", r.Object)
	}
	if _, err := a.Put(t.Context(), key, text("x"), WriteOptions{Fresh: true, Context: &four.Context}); err == nil {
		t.Error("a fresh write with a context must be refused")
	}
}

func TestLevels(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	node := c.nodes[c.ids[0]].coordinator
	key := ring.NewKey("b", "k")
	for _, test := range []struct {
		o    WriteOptions
		want string
	}{
		{WriteOptions{W: 4}, "w=4 cannot be met: the key has n=3 replicas"},
		{WriteOptions{W: 1, DW: 2}, "dw=2 is more than w=1"},
		{WriteOptions{W: None}, "w must be at least 1"},
		{WriteOptions{DW: 5}, "dw=5 cannot be met"},
	} {
		_, err := node.Put(t.Context(), key, text("x"), test.o)
		e := errorOf(t, err, CodeInvalid)
		if e.Outcome != NotApplied || !strings.Contains(e.Detail, test.want) {
			t.Errorf("%+v: got %q (%s), want %q", test.o, e.Detail, e.Outcome, test.want)
		}
	}
	_, err := node.Get(t.Context(), key, ReadOptions{R: 7})
	errorOf(t, err, CodeInvalid)
	for _, o := range []WriteOptions{{W: 1}, {W: All, DW: None}, {W: All, DW: All}, {W: 1, DW: None}, {W: 2, DW: 1}} {
		put, err := node.Put(t.Context(), key, text("x"), o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if put.Receipt.Required != o.W.Count(3) {
			t.Errorf("%+v: receipt %+v", o, put.Receipt)
		}
		if o.DW == None && put.Receipt.Durable != 0 {
			t.Errorf("%+v: nothing asked for a sync, receipt %+v", o, put.Receipt)
		}
	}
	// In a ring smaller than n all levels scale, but numbers do not.
	small := newCluster(t, 1)
	defer small.close()
	one := small.nodes[small.ids[0]]
	if put, err := one.coordinator.Put(t.Context(), key, text("x"), WriteOptions{}); err != nil || put.Receipt.N != 1 {
		t.Errorf("one node: %+v, %v", put, err)
	}
	_, err = one.coordinator.Put(t.Context(), key, text("x"), WriteOptions{W: 2})
	if e := errorOf(t, err, CodeInvalid); !strings.Contains(e.Detail, "the ring has 1 members") {
		t.Errorf("got %q", e.Detail)
	}
}

// With dw=0 no disk is waited for; with dw>0 the local sync overlaps with the replicas.
func TestPutSyncs(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	key := ring.NewKey("b", "k")
	owner := c.owners(key)[0]
	if _, err := owner.coordinator.Put(t.Context(), key, text("x"), WriteOptions{W: All, DW: None}); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if got := n.store.syncs.Load(); got != 0 {
			t.Errorf("dw=0 synced %d times", got)
		}
	}
	if _, err := owner.coordinator.Put(t.Context(), key, text("x"), WriteOptions{W: All, DW: 1}); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if got := n.store.syncs.Load(); got != 1 {
			t.Errorf("dw=1 synced %d times, want 1", got)
		}
	}
}

func TestLocalSyncOverlapsWithReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		owners := c.owners(key)
		owners[0].store.syncDelay = 40 * time.Millisecond
		c.fates = func(_, to ring.NodeID, _ string) fate {
			return fate{delay: 20 * time.Millisecond, back: 20 * time.Millisecond}
		}
		began := time.Now()
		put, err := owners[0].coordinator.Put(t.Context(), key, text("x"), WriteOptions{DW: All, W: All})
		if err != nil || put.Receipt.Durable != 3 {
			t.Fatalf("%+v, %v", put.Receipt, err)
		}
		if took := time.Since(began); took != 40*time.Millisecond {
			t.Errorf("took %v, want 40ms: sync and replicas at the same time", took)
		}
	})
}

func TestPutFailures(t *testing.T) {
	key := ring.NewKey("b", "k")
	boom := errors.New("disk on fire")
	tests := []struct {
		name    string
		break_  func(c *cluster, owners []*memNode)
		through int // of owners; 3 is a node that owns nothing
		options WriteOptions
		code    Code // "" = works
		outcome Outcome
		stored  int // replicas that hold it afterwards
	}{
		{name: "two owners dead: nothing is sent", code: CodeUnavailable, outcome: NotApplied, break_: func(c *cluster, o []*memNode) {
			c.dead[o[1].id], c.dead[o[2].id] = true, true
		}},
		{name: "two owners unreachable: the local store has it", code: CodeUnavailable, outcome: Unknown, stored: 1, break_: func(c *cluster, o []*memNode) {
			c.down[o[1].id], c.down[o[2].id] = true, true
		}},
		{name: "one owner unreachable", stored: 2, break_: func(c *cluster, o []*memNode) { c.down[o[1].id] = true }},
		{name: "two owners unreachable, w=1", options: WriteOptions{W: 1}, stored: 1, break_: func(c *cluster, o []*memNode) {
			c.down[o[1].id], c.down[o[2].id] = true, true
		}},
		{name: "one owner dead, w=all", options: WriteOptions{W: All}, code: CodeUnavailable, outcome: NotApplied, break_: func(c *cluster, o []*memNode) {
			c.dead[o[2].id] = true
		}},
		{name: "local store cannot be read: another owner does it", stored: 3, break_: func(c *cluster, o []*memNode) { o[0].store.getErr = boom }},
		{name: "local store fails while writing: nobody knows", code: CodeInternal, outcome: Unknown, break_: func(c *cluster, o []*memNode) {
			o[0].store.updateErr = boom
		}},
		{name: "replicas cannot merge", code: CodeUnavailable, outcome: Unknown, stored: 1, break_: func(c *cluster, o []*memNode) {
			o[1].store.mergeErr, o[2].store.mergeErr = boom, boom
		}},
		{name: "local sync fails, others make it up", stored: 3, break_: func(c *cluster, o []*memNode) { o[0].store.syncErr = boom }},
		{name: "all syncs fail", code: CodeUnavailable, outcome: Unknown, stored: 3, break_: func(c *cluster, o []*memNode) {
			for _, n := range o {
				n.store.syncErr = boom
			}
		}},
		{name: "no owner, first one unreachable", through: 3, stored: 2, break_: func(c *cluster, o []*memNode) { c.down[o[0].id] = true }},
		{name: "no owner, all unreachable", through: 3, code: CodeUnavailable, outcome: NotApplied, break_: func(c *cluster, o []*memNode) {
			c.down[o[0].id], c.down[o[1].id], c.down[o[2].id] = true, true, true
		}},
		{name: "no owner, one cannot read its store", through: 3, stored: 3, break_: func(c *cluster, o []*memNode) { o[0].store.getErr = boom }},
		{name: "no owner, the answer is lost", through: 3, code: CodeTimeout, outcome: Unknown, stored: 3, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, _ ring.NodeID, class string) fate { return fate{dropReply: class == "coordinate"} }
		}},
		{name: "all replies lost", code: CodeTimeout, outcome: Unknown, stored: 3, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, _ ring.NodeID, class string) fate { return fate{dropReply: true} }
		}},
		{name: "every message twice", stored: 3, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, _ ring.NodeID, class string) fate { return fate{twice: true, delay: 1} }
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 4)
				owners := c.owners(key)
				test.break_(c, owners[:3])
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				_, err := owners[test.through].coordinator.Put(ctx, key, text("x"), test.options)
				if test.code == "" && err != nil {
					t.Fatal(err)
				}
				if test.code != "" {
					if e := errorOf(t, err, test.code); e.Outcome != test.outcome {
						t.Errorf("outcome: got %s, want %s (%v)", e.Outcome, test.outcome, err)
					}
				}
				c.close()
				stored := 0
				for _, n := range c.nodes {
					if !n.store.object(key).Empty() {
						stored++
					}
				}
				if stored != test.stored {
					t.Errorf("%d replicas hold the write, want %d", stored, test.stored)
				}
			})
		})
	}
}

func TestSiblingLimits(t *testing.T) {
	c := newCluster(t, 1)
	defer c.close()
	node := c.nodes[c.ids[0]]
	key := ring.NewKey("b", "k")
	for i := range siblingsMost {
		if _, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{Fresh: true}); err != nil {
			t.Fatalf("sibling %d: %v", i+1, err)
		}
	}
	if node.events.count("siblings_warning") == 0 {
		t.Error("no warning event")
	}
	_, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{Fresh: true})
	e := errorOf(t, err, CodeSiblings)
	if e.Outcome != NotApplied || e.Context == nil {
		t.Fatalf("got %+v", e)
	}
	if got := len(node.store.object(key).Siblings); got != siblingsMost {
		t.Errorf("%d siblings stored", got)
	}
	if _, err := node.coordinator.Put(t.Context(), key, text("merged"), WriteOptions{Context: e.Context}); err != nil {
		t.Fatal(err)
	}
	if got := values(node.store.object(key)); !slices.Equal(got, []string{"merged"}) {
		t.Errorf("after the merge: %q", got)
	}
	big := text(strings.Repeat("x", objectMost/2))
	if _, err := node.coordinator.Put(t.Context(), key, big, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = node.coordinator.Put(t.Context(), key, big, WriteOptions{Fresh: true})
	if e := errorOf(t, err, CodeTooLarge); e.Outcome != NotApplied {
		t.Errorf("outcome %s", e.Outcome)
	}
}

func TestClocks(t *testing.T) {
	wall := time.Unix(100_000, 0)
	at := uint64(wall.UnixNano())
	var c hybridClock
	next := func(floor uint64) uint64 {
		t.Helper()
		got, err := c.next(wall, floor)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := next(0); got != at {
		t.Errorf("first: got %d, want the wall clock %d", got, at)
	}
	if got := next(0); got != at+1 {
		t.Errorf("same instant: got +%d, want +1", got-at)
	}
	ahead := at + uint64(50*time.Second)
	if got := next(ahead); got != ahead+1 {
		t.Errorf("above what it replaces: got %d", got)
	}
	if got := next(0); got != at+3 {
		t.Errorf("another key's future must not spread: got +%d", got-at)
	}
	if year := at + uint64(365*24*time.Hour); next(year) != year+1 {
		t.Error("a year ahead must not be in the way")
	}
	if got := next(0); got != at+5 {
		t.Errorf("another key's far future must not spread: got +%d", got-at)
	}
	if _, err := c.next(wall, latestTime); err == nil {
		t.Error("beyond the last timestamp must be refused")
	}
	if _, err := c.next(wall, ^uint64(0)); err == nil {
		t.Error("the end of time must be refused")
	}
	wall = wall.Add(-time.Hour) // set back
	if got := next(0); got != uint64(wall.UnixNano()) {
		t.Errorf("after the clock was set back: got %d, want %d", got, wall.UnixNano())
	}
}

func TestContextAtTheEndOfTimeIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	defer c.close()
	node := c.nodes[c.ids[0]].coordinator
	_, err := node.Put(t.Context(), ring.NewKey("b", "k"), text("x"), WriteOptions{Context: &vclock.Context{Time: latestTime}})
	if e := errorOf(t, err, CodeInternal); e.Outcome != NotApplied || !strings.Contains(e.Detail, "after the year 2250") {
		t.Errorf("got %+v", e)
	}
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		key := ring.NewKey("b", "k")
		node := c.owners(key)[0]
		node.start(Config{Writes: 2, Reads: 2})
		c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{delay: 100 * time.Millisecond} }
		for _, class := range []string{"read", "write"} {
			call := func() error {
				if class == "read" {
					_, err := node.coordinator.Get(t.Context(), key, ReadOptions{})
					return err
				}
				_, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{})
				return err
			}
			done := make(chan error, 2)
			for range 2 {
				go func() { done <- call() }()
			}
			synctest.Wait()
			if e := errorOf(t, call(), CodeOverloaded); e.RetryAfter <= 0 {
				t.Errorf("%s: no Retry-After", class)
			}
			for range 2 {
				if err := <-done; err != nil {
					t.Errorf("%s: %v", class, err)
				}
			}
			if err := call(); err != nil {
				t.Errorf("%s afterwards: %v", class, err)
			}
		}
		c.close()
		errorOf(t, func() error {
			_, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{})
			return err
		}(), CodeNotReady)
	})
}

func TestNoRing(t *testing.T) {
	c := newCluster(t, 1)
	defer c.close()
	node := c.nodes[c.ids[0]]
	node.membership.layout.Store(nil)
	key := ring.NewKey("b", "k")
	_, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{})
	if e := errorOf(t, err, CodeNotReady); e.Outcome != NotApplied || e.Detail != "waiting for 3 fresh nodes" {
		t.Errorf("got %+v", e)
	}
	_, err = node.coordinator.Get(t.Context(), key, ReadOptions{})
	errorOf(t, err, CodeNotReady)
	_, err = node.coordinator.List(t.Context(), "b", ListOptions{Limit: 1})
	errorOf(t, err, CodeNotReady)
	_, err = node.coordinator.Explain(t.Context(), key)
	errorOf(t, err, CodeNotReady)
	errorOf(t, node.buckets.Set(t.Context(), "b", DefaultBucket), CodeNotReady)
}

// A late acknowledgement outlives its request, and Close waits for it.
func TestCloseJoinsLateWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		key := ring.NewKey("b", "k")
		owners := c.owners(key)
		c.fates = func(_, to ring.NodeID, _ string) fate {
			if to == owners[2].id {
				return fate{delay: 3 * time.Second}
			}
			return fate{}
		}
		began := time.Now()
		if _, err := owners[0].coordinator.Put(t.Context(), key, text("x"), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the write waited %v for the slowest", took)
		}
		owners[0].coordinator.Close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("closed after %v, want 3s", took)
		}
		if owners[2].store.object(key).Empty() {
			t.Error("the late replica does not hold the write")
		}
		c.close()
	})
}

// An owner that reaches too few others says that it did nothing, and the write goes to the next owner. A node that connects is asked again
// at once, whatever it did not answer before.
func TestForwardedWriteFindsAnOwnerWithAQuorum(t *testing.T) {
	c := newCluster(t, 4)
	defer c.close()
	key := ring.NewKey("b", "k")
	owners := c.owners(key)
	first, outside := owners[0].coordinator, owners[3].coordinator
	lonely := func(node *Coordinator, others []*memNode) {
		for _, n := range others {
			s := node.table.get(n.id)
			s.mu.Lock()
			s.breaker = breaker{open: true, retry: time.Now().Add(time.Hour)}
			s.mu.Unlock()
		}
	}
	lonely(first, owners[1:3])
	if _, err := first.Put(t.Context(), key, text("x"), WriteOptions{}); errorOf(t, err, CodeUnavailable).Outcome != NotApplied {
		t.Fatalf("the owner alone: %v", err)
	}
	got, err := outside.Put(t.Context(), key, text("forwarded"), WriteOptions{})
	if err != nil || got.Receipt.Acked < 2 {
		t.Fatalf("got %+v, %v", got.Receipt, err)
	}
	first.Met(owners[1].id)
	if _, err := first.Put(t.Context(), key, text("y"), WriteOptions{}); err != nil {
		t.Errorf("after one of them has connected: %v", err)
	}
}
