package quorum

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

func TestBucketsSpread(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	five := Bucket{N: 5, R: 2, W: All, DW: 1, LWW: true}
	node := c.nodes[c.ids[0]]
	before := node.buckets.Hash()
	if err := node.buckets.Set(t.Context(), "b", five); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if got := n.buckets.Get("b"); got != five {
			t.Errorf("got %+v", got)
		}
		if n.buckets.Hash() != node.buckets.Hash() || n.buckets.Hash() == before {
			t.Error("hashes must be equal, and have changed")
		}
		reopened, err := NewBuckets(BucketsConfig{Meta: n.meta, Membership: n.membership})
		if err != nil || reopened.Get("b") != five || reopened.Hash() != n.buckets.Hash() {
			t.Errorf("after a restart: %+v, %v", reopened.All(), err)
		}
		if got := n.buckets.All(); len(got) != 1 || got["b"] != five {
			t.Errorf("all: %+v", got)
		}
	}
	// A node that was away gets it when it sees another hash.
	c.set(func() { c.down[c.ids[2]], c.dead[c.ids[2]] = true, true })
	if err := node.buckets.Set(t.Context(), "b", Bucket{N: 5, R: 3, W: 3, DW: 0 + None}); err != nil {
		t.Fatal(err)
	}
	away := c.nodes[c.ids[2]]
	if away.buckets.Hash() == node.buckets.Hash() {
		t.Fatal("it was not away")
	}
	c.set(func() { c.down[c.ids[2]], c.dead[c.ids[2]] = false, false })
	if err := away.buckets.Reconcile(t.Context(), c.ids[0]); err != nil || away.buckets.Hash() != node.buckets.Hash() {
		t.Errorf("reconcile: %v", err)
	}
	select {
	case <-away.buckets.Changes():
	default:
		t.Error("nobody was told of the change")
	}
	if err := node.buckets.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if got := n.buckets.Get("b"); got != DefaultBucket || len(n.buckets.All()) != 0 {
			t.Errorf("after delete: %+v", got)
		}
	}
}

func TestBucketChecks(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	b := c.nodes[c.ids[0]].buckets
	for _, bad := range []Bucket{
		{N: 0, R: 1, W: 1, DW: 1},
		{N: 8, R: 1, W: 1, DW: 1},
		{N: 3, R: 4, W: 1, DW: 1},
		{N: 3, R: 1, W: 4, DW: 1},
		{N: 3, R: 1, W: 1, DW: 2},
		{N: 3, R: 1, W: 1, DW: Quorum},
		{N: 3, R: Unset, W: 1, DW: 1},
		{N: 3, R: None, W: 1, DW: 1},
		{N: 3, R: 1, W: None, DW: None},
		{N: 3, R: 1, W: 1, DW: 1, TTL: time.Millisecond},
		{N: 3, R: 1, W: 1, DW: 1, TTL: -time.Hour},
		{N: 3, R: 1, W: 1, DW: 1, TTL: MaxTTL + 1},
	} {
		if e := errorOf(t, b.Set(t.Context(), "b", bad), CodeInvalid); e.Outcome != NotApplied {
			t.Errorf("%+v: outcome %s", bad, e.Outcome)
		}
	}
	errorOf(t, b.Set(t.Context(), "", DefaultBucket), CodeInvalid)
	if len(b.All()) != 0 {
		t.Error("something was set")
	}
}

func TestBucketNIsFixedOnceItHoldsAKey(t *testing.T) {
	c := newCluster(t, 5)
	defer c.close()
	node := c.nodes[c.ids[0]]
	one := Bucket{N: 1, R: 1, W: 1, DW: 1}
	two := Bucket{N: 2, R: 1, W: 1, DW: 1}
	if err := node.buckets.Set(t.Context(), "b", one); err != nil {
		t.Fatal(err)
	}
	put, err := node.coordinator.Put(t.Context(), ring.NewKey("b", "k"), text("x"), WriteOptions{})
	if err != nil || put.Receipt.N != 1 {
		t.Fatalf("%+v, %v", put, err)
	}
	for _, n := range c.nodes { // wherever the key is
		e := errorOf(t, n.buckets.Set(t.Context(), "b", two), CodeConflict)
		if e.Outcome != NotApplied {
			t.Errorf("outcome %s", e.Outcome)
		}
		errorOf(t, n.buckets.Delete(t.Context(), "b"), CodeConflict)
	}
	lww := one
	lww.LWW = true
	if err := node.buckets.Set(t.Context(), "b", lww); err != nil {
		t.Errorf("the other settings can change: %v", err)
	}
	if _, err := node.coordinator.Put(t.Context(), ring.NewKey("b", "k"), Value{Delete: true}, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	errorOf(t, node.buckets.Set(t.Context(), "b", two), CodeConflict) // traces of a deleted key count
	// A change of n needs everybody.
	c.set(func() { c.dead[c.ids[4]] = true })
	if e := errorOf(t, node.buckets.Set(t.Context(), "fresh", two), CodeUnavailable); e.Outcome != NotApplied {
		t.Errorf("outcome %s", e.Outcome)
	}
	c.set(func() { c.dead[c.ids[4]], c.down[c.ids[4]] = false, true })
	if e := errorOf(t, node.buckets.Set(t.Context(), "fresh", two), CodeUnavailable); e.Outcome != NotApplied {
		t.Errorf("outcome %s", e.Outcome)
	}
	if got := node.buckets.Get("fresh"); got != DefaultBucket {
		t.Errorf("got %+v", got)
	}
}

func TestBucketMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		node := c.nodes[c.ids[0]]
		settings := DefaultBucket
		settings.LWW = true
		c.dead[c.ids[1]], c.dead[c.ids[2]] = true, true
		if e := errorOf(t, node.buckets.Set(t.Context(), "b", settings), CodeUnavailable); e.Outcome != NotApplied {
			t.Errorf("outcome %s", e.Outcome)
		}
		clear(c.dead)
		c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{dropReply: true} }
		began := time.Now()
		if e := errorOf(t, node.buckets.Set(t.Context(), "b", settings), CodeTimeout); e.Outcome != Unknown || e.Acked != 1 || e.Required != 2 {
			t.Errorf("got %+v", e)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
		c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == c.ids[1]} }
		if err := node.buckets.Set(t.Context(), "b", settings); err != nil {
			t.Errorf("two of three: %v", err)
		}
		node.meta.err = errors.New("disk full")
		settings.LWW = false
		errorOf(t, node.buckets.Set(t.Context(), "b", settings), CodeInternal)
		if !node.buckets.Get("b").LWW {
			t.Error("what is not on disk must not be seen")
		}
	})
}

// F37: settings that a node with a fast clock stamped are taken, and replaced by the next change, whatever the clocks say.
func TestBucketsFromTheFuture(t *testing.T) {
	c := newCluster(t, 1)
	defer c.close()
	b := c.nodes[c.ids[0]].buckets
	fast := bucketEntry{settings: Bucket{N: 1, R: 1, W: 1, DW: 1}, time: uint64(time.Now().Add(24 * time.Hour).UnixNano()), node: "x"}
	if changed, err := b.MergeRemote(encodeBuckets(map[string]bucketEntry{"fast": fast})); !changed || err != nil {
		t.Errorf("got %v, %v", changed, err)
	}
	want := Bucket{N: 1, R: 1, W: 1, DW: 1, LWW: true}
	if err := b.Set(t.Context(), "fast", want); err != nil || b.Get("fast") != want {
		t.Errorf("got %+v, %v", b.Get("fast"), err)
	}
	fast.time = latestTime + 1
	if _, err := b.MergeRemote(encodeBuckets(map[string]bucketEntry{"never": fast})); err == nil {
		t.Error("settings stamped after the end of time were taken")
	}
}

// The registry is a join semilattice with one encoding: in whatever order nodes meet, they settle on the same bytes.
func TestBucketsMergeProperties(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) bucketEntry {
		e := bucketEntry{settings: DefaultBucket, time: rapid.Uint64Range(1, 3).Draw(t, "time"), node: ring.NodeID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node"))}
		if e.deleted = rapid.Bool().Draw(t, "deleted"); !e.deleted {
			e.settings.N = rapid.IntRange(1, MaxN).Draw(t, "n")
			e.settings.LWW = rapid.Bool().Draw(t, "lww")
			e.settings.TTL = rapid.SampledFrom([]time.Duration{0, 0, MinTTL, MaxTTL}).Draw(t, "ttl")
		}
		return e
	})
	registry := rapid.MapOfN(rapid.SampledFrom([]string{"p", "q", "r"}), entry, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(registry, 1, 4).Draw(t, "parts")
		merge := func(order []map[string]bucketEntry) []byte {
			b, err := NewBuckets(BucketsConfig{Meta: &memMeta{values: map[string][]byte{}}, Membership: &memMembership{}})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range order {
				if _, err := b.MergeRemote(encodeBuckets(p)); err != nil {
					t.Fatal(err)
				}
			}
			return b.Encode()
		}
		want := merge(parts)
		shuffled := rapid.Permutation(parts).Draw(t, "order")
		if got := merge(append(slices.Clone(shuffled), parts...)); !bytes.Equal(got, want) {
			t.Fatal("the order of merges matters")
		}
		back, err := decodeBuckets(want)
		if err != nil || !bytes.Equal(encodeBuckets(back), want) {
			t.Fatalf("decode: %v", err)
		}
		if again, _ := decodeBuckets(want); !maps.Equal(again, back) {
			t.Fatal("decode twice")
		}
	})
}
