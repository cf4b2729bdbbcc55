package quorum

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// hush takes a node's votes for every class.
func (c *cluster) hush(silent bool, nodes ...*memNode) {
	for _, n := range nodes {
		n.store.set(func() {
			for p := range c.layout.Partitions() {
				for r := 1; r <= MaxN; r++ {
					n.store.silent[ring.Class{Partition: p, N: r}] = silent
				}
			}
		})
	}
}

// A replica without a vote answers no reads, its own coordinator's included; it takes writes, and is counted for them.
func TestReplicaWithoutVote(t *testing.T) {
	c := newCluster(t, 4)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	held(t, key, nodes[:3], "a", "a", "")
	c.hush(true, nodes[2])
	for _, by := range nodes {
		for range 5 {
			got, err := by.coordinator.Get(t.Context(), key, ReadOptions{})
			if err != nil || !slices.Equal(values(got.Object), values(sample("a"))) {
				t.Errorf("through node %d: %q, %v", by.number(), values(got.Object), err)
			}
		}
		_, err := by.coordinator.Get(t.Context(), key, ReadOptions{R: All})
		e := errorOf(t, err, CodeUnavailable)
		if !slices.ContainsFunc(e.Replicas, func(r ReplicaReceipt) bool { return strings.Contains(r.Error, "resynced") }) {
			t.Errorf("through node %d: %+v", by.number(), e.Replicas)
		}
	}
	// The other classes of the same store are not touched.
	other := key
	for i := 0; c.layout.Partition(other.Token) == c.layout.Partition(key.Token) || c.owners(other)[2] != nodes[2]; i++ {
		other = ring.NewKey("b", string(rune('a'+i)))
	}
	nodes[2].store.set(func() {
		clear(nodes[2].store.silent)
		nodes[2].store.silent[ring.Class{Partition: c.layout.Partition(key.Token), N: 3}] = true
	})
	if _, err := nodes[2].coordinator.Get(t.Context(), other, ReadOptions{R: All}); err != nil {
		t.Errorf("a key of another class: %v", err)
	}
	_, err := nodes[2].coordinator.Get(t.Context(), key, ReadOptions{R: All})
	errorOf(t, err, CodeUnavailable)
	put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{W: All})
	if err != nil || put.Receipt.Acked != 3 {
		t.Errorf("write to all: %+v, %v", put.Receipt, err)
	}
}

// An owner without a vote leaves writes to another owner: what they are to replace it may have forgotten. Where no other one can, it does them.
func TestWritesThroughOwnersWithoutVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		put := func(by *memNode, o WriteOptions) string {
			t.Helper()
			got, err := by.coordinator.Put(t.Context(), key, text("v"), o)
			if err != nil {
				t.Fatalf("through node %d: %v", by.number(), err)
			}
			return got.Receipt.Coordinator
		}
		c.hush(true, nodes[0])
		for _, by := range nodes {
			if got := put(by, WriteOptions{}); got == nodes[0].name() {
				t.Errorf("through node %d: coordinated by the owner without a vote", by.number())
			}
		}
		// Two owners without votes, the third is away: one of them does it, asked by a node that owns nothing, or by itself.
		c.hush(true, nodes[1])
		c.away(true, nodes[2])
		for _, by := range []*memNode{nodes[0], nodes[1], nodes[3]} {
			if got := put(by, WriteOptions{}); got != nodes[0].name() && got != nodes[1].name() {
				t.Errorf("through node %d: coordinated by %s", by.number(), got)
			}
		}
		c.away(true, nodes[1])
		if got := put(nodes[0], WriteOptions{W: 1}); got != nodes[0].name() {
			t.Errorf("alone: coordinated by %s", got)
		}
		if got := put(nodes[4], WriteOptions{W: 1}); got != nodes[0].name() {
			t.Errorf("asked by another: coordinated by %s", got)
		}
		// The one that is left refuses connections, which nobody knew.
		c.back(nodes[1])
		c.hush(false, nodes[1])
		c.away(false, nodes[1])
		if got := put(nodes[0], WriteOptions{W: 1}); got != nodes[0].name() {
			t.Errorf("the other one unreachable: coordinated by %s", got)
		}
	})
}

// A listing asks a node only for partitions that it has a vote for.
func TestListWithoutVotes(t *testing.T) {
	c := newCluster(t, 4)
	defer c.close()
	var want []string
	for i := range 64 {
		key := ring.NewKey("b", string(rune('0'+i)))
		owners := c.owners(key)
		if c.layout.Partition(key.Token)%2 == 0 { // each half of the partitions has lost what another node held
			held(t, key, owners[:3], "", "a", "a")
		} else {
			held(t, key, owners[:3], "a", "", "a")
		}
		want = append(want, key.Name)
	}
	for p := range c.layout.Partitions() {
		lost := c.nodes[c.layout.Preference(p)[p%2]]
		lost.store.silent[ring.Class{Partition: p, N: 3}] = true
	}
	slices.Sort(want)
	for _, id := range c.ids {
		for _, o := range []ListOptions{{Limit: 1000}, {Limit: 7}, {Limit: 1000, Values: true}} {
			got, _ := walkAll(t, func() *memNode { return c.nodes[id] }, "b", o, func() {})
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got %d keys, want %d", len(got), len(want))
			}
		}
		_, err := c.nodes[id].coordinator.List(t.Context(), "b", ListOptions{Limit: 10, R: All})
		e := errorOf(t, err, CodeUnavailable)
		if len(e.Replicas) != 1 || !strings.Contains(e.Replicas[0].Error, "resynced") {
			t.Errorf("r=all: %+v", e)
		}
	}
}

// A node without votes cannot say that a bucket holds no keys.
func TestBucketNNeedsVotes(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	nodes := c.owners(ring.NewKey("b", "k"))
	c.hush(true, nodes[1])
	settings := Bucket{N: 2, R: 1, W: 1, DW: 1}
	errorOf(t, nodes[0].buckets.Set(t.Context(), "b", settings), CodeUnavailable)
	c.hush(false, nodes[1])
	if err := nodes[0].buckets.Set(t.Context(), "b", settings); err != nil {
		t.Error(err)
	}
}

// purgedError is how a store refuses what it has collected.
type purgedError struct{}

func (purgedError) Error() string    { return "collected here as deleted" }
func (purgedError) Purged() bool     { return true }
func (purgedError) NotApplied() bool { return true }

// A replica that has collected a key as deleted acknowledges what says the same, and refuses what would bring it back.
func TestPurgedByReplica(t *testing.T) {
	now := uint64(time.Now().UnixNano())
	object := func(siblings ...vclock.Sibling) vclock.Object {
		var o vclock.Object
		for i, s := range siblings {
			s.Time = now - 1000 + uint64(i)
			o, _ = o.Put(vclock.Actor(i+1), vclock.Clock{}, s)
		}
		return o
	}
	dead, alive := vclock.Sibling{Tombstone: true}, vclock.Sibling{Value: []byte("v")}
	past, future := vclock.Sibling{Value: []byte("p"), Expiry: now - 1}, vclock.Sibling{Value: []byte("f"), Expiry: now + uint64(time.Hour)}
	for _, test := range []struct {
		name   string
		object vclock.Object
		ok     bool
	}{
		{"a tombstone", object(dead), true},
		{"an expired value", object(past), true},
		{"both", object(dead, past), true},
		{"a value", object(alive), false},
		{"a value that will expire", object(dead, future), false},
		{"a value beside an expired one", object(past, alive), false},
	} {
		c := newCluster(t, 3)
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		nodes[1].store.mergeErr = purgedError{}
		for _, repair := range []bool{false, true} {
			var got error
			nodes[1].coordinator.Replica().Write(nodes[0].id, 1, key, vclock.AppendObject(nil, test.object), true, repair, func(err error) { got = err })
			if (got == nil) != test.ok || got != nil && !notApplied(got) {
				t.Errorf("%s: got %v", test.name, got)
			}
		}
		// A read that meets it at one replica only: the two others hold nothing, and do not take it.
		mustMerge(t, nodes[0], key, test.object)
		nodes[2].store.mergeErr = purgedError{}
		for _, by := range nodes { // the replica that refuses is this node itself, or another one
			got, err := by.coordinator.Get(t.Context(), key, ReadOptions{R: All})
			if (err == nil) != test.ok {
				t.Errorf("%s: read through node %d: %v, %v", test.name, by.number(), values(got.Object), err)
			}
		}
		c.close()
	}
}

// A read whose repair one replica refuses, because it has collected the value, has another one hold it.
func TestPurgedByOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		held(t, key, nodes, "a", "", "a")
		nodes[1].store.mergeErr = purgedError{}
		for _, by := range nodes {
			if got, err := by.coordinator.Get(t.Context(), key, ReadOptions{}); err != nil || got.Object.Values() != 1 {
				t.Errorf("through node %d: %q, %v", by.number(), values(got.Object), err)
			}
		}
		time.Sleep(10 * time.Second)
	})
}

// A full disk takes repairs and no client writes; other owners coordinate in its place.
func TestOneDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		nodes[0].store.fullErr = errors.New("5 MB are free, 100 MB are to be kept")
		for _, by := range nodes {
			put, err := by.coordinator.Put(t.Context(), key, text("v"), WriteOptions{})
			if err != nil || put.Receipt.Acked != 2 || put.Receipt.Coordinator == nodes[0].name() {
				t.Errorf("through node %d: %+v, %v", by.number(), put.Receipt, err)
			}
			if by != nodes[3] { // the other ones know by now, this one asks any of them
				_, err = by.coordinator.Put(t.Context(), key, text("v"), WriteOptions{W: All})
				if e := errorOf(t, err, CodeFull); e.Outcome != NotApplied {
					t.Errorf("w=all through node %d: %+v", by.number(), e)
				}
			}
			time.Sleep(2 * fullMemory)
		}
		if !nodes[0].store.object(key).Empty() {
			t.Error("the full disk took a client's write")
		}
		if _, err := nodes[3].coordinator.Get(t.Context(), key, ReadOptions{R: All}); err != nil {
			t.Error(err)
		}
		if nodes[0].store.object(key).Empty() {
			t.Error("the full disk did not take a repair")
		}
		nodes[0].store.set(func() { nodes[0].store.fullErr = nil })
		time.Sleep(2 * fullMemory)
		if put, err := nodes[0].coordinator.Put(t.Context(), key, text("w"), WriteOptions{W: All}); err != nil || put.Receipt.Acked != 3 {
			t.Errorf("with space again: %+v, %v", put.Receipt, err)
		}
	})
}

// Where disks are full beyond the quorum writes are refused with that code before anything is done, but for the one that finds it out.
func TestMostDisksAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		for _, n := range nodes[1:3] {
			n.store.fullErr = errors.New("full")
		}
		_, err := nodes[0].coordinator.Put(t.Context(), key, text("first"), WriteOptions{})
		if e := errorOf(t, err, CodeUnavailable); e.Outcome != Unknown || e.Acked != 1 {
			t.Errorf("got %+v", e)
		}
		for _, by := range nodes {
			_, err := by.coordinator.Put(t.Context(), key, text("second"), WriteOptions{})
			if e := errorOf(t, err, CodeFull); e.Outcome != NotApplied || e.N != 3 || e.Required != 2 {
				t.Errorf("through node %d: %+v", by.number(), e)
			}
		}
		if got := values(nodes[0].store.object(key)); !slices.Equal(got, []string{"first"}) {
			t.Errorf("got %q", got)
		}
		nodes[0].store.set(func() { nodes[0].store.fullErr = errors.New("full") })
		for _, by := range nodes {
			_, err := by.coordinator.Put(t.Context(), key, text("second"), WriteOptions{W: 1})
			if e := errorOf(t, err, CodeFull); e.Outcome != NotApplied {
				t.Errorf("all full, through node %d: %+v", by.number(), e)
			}
		}
	})
}

// The store fills up between the question and the write.
func TestDiskFillsUpMeanwhile(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	local := &filling{memStore: nodes[0].store}
	nodes[0].coordinator.config.Local = local
	nodes[0].coordinator.state.space = local
	if put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{}); err != nil || put.Receipt.Coordinator == nodes[0].name() {
		t.Errorf("got %+v, %v", put.Receipt, err)
	}
	local.full = false
	c.away(false, nodes[1], nodes[2])
	_, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{W: 1})
	if e := errorOf(t, err, CodeFull); e.Outcome != NotApplied {
		t.Errorf("got %+v", e)
	}
}

// filling is full from its first write on.
type filling struct {
	*memStore
	full bool
}

func (f *filling) Full() error {
	if f.full {
		return errors.New("full")
	}
	return nil
}

func (f *filling) Update(ring.Key, func(vclock.Object, uint64) (vclock.Object, error)) ([]byte, uint64, error) {
	f.full = true
	return nil, 0, purgedError{} // any error with NotApplied
}
