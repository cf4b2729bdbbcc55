package quorum

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// walkAll lists a whole bucket page by page; between is called after each page.
func walkAll(t *testing.T, node func() *memNode, bucket string, o ListOptions, between func()) (keys []string, objects []vclock.Object) {
	t.Helper()
	for range 10_000 {
		page, err := node().coordinator.List(t.Context(), bucket, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Keys) > o.Limit {
			t.Fatalf("%d keys, limit %d", len(page.Keys), o.Limit)
		}
		keys, objects = append(keys, page.Keys...), append(objects, page.Objects...)
		if o.Cursor = page.Cursor; o.Cursor == "" {
			return keys, objects
		}
		between()
	}
	t.Fatal("the walk does not end")
	return nil, nil
}

func TestListEveryKeyOnce(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, 4, 5} {
		r := rand.New(rand.NewPCG(seed, 0))
		c := newCluster(t, 3+int(seed)%3)
		var want []string
		for i := range 300 {
			name := fmt.Sprintf("%c/%d\x00\xff", 'a'+rune(i%3), i)
			key := ring.NewKey("b", name)
			owners := c.owners(key)[:3]
			switch i % 5 {
			case 0: // deleted
				o, _ := sample("a").Put(9, sample("a").Clock, vclock.Sibling{Time: 9, Tombstone: true})
				for _, n := range owners[:1+r.IntN(3)] {
					mustMerge(t, n, key, o)
				}
				for _, n := range owners[2:] {
					if n.store.object(key).Empty() && r.IntN(2) == 0 {
						continue
					}
				}
			case 1: // deleted on a quorum, live on the one that has not heard
				o, _ := sample("a").Put(9, sample("a").Clock, vclock.Sibling{Time: 9, Tombstone: true})
				r.Shuffle(3, func(i, j int) { owners[i], owners[j] = owners[j], owners[i] })
				mustMerge(t, owners[0], key, o)
				mustMerge(t, owners[1], key, o)
				mustMerge(t, owners[2], key, sample("a"))
			case 2: // on a quorum only
				r.Shuffle(3, func(i, j int) { owners[i], owners[j] = owners[j], owners[i] })
				mustMerge(t, owners[0], key, sample("a"))
				mustMerge(t, owners[1], key, sample("a"))
				want = append(want, name)
			case 3: // a value beside a tombstone
				o, _ := sample("a").Put(9, vclock.Clock{}, vclock.Sibling{Time: 9, Tombstone: true})
				for _, n := range owners {
					mustMerge(t, n, key, o)
				}
				want = append(want, name)
			default:
				for i, n := range owners {
					mustMerge(t, n, key, sample([]string{"a", "b", "ab"}[i]))
				}
				want = append(want, name)
			}
		}
		mustMerge(t, c.nodes[c.ids[0]], ring.NewKey("other", "x"), sample("a"))
		slices.Sort(want)
		down := -1
		node := func() *memNode {
			for {
				if i := r.IntN(len(c.ids)); i != down {
					return c.nodes[c.ids[i]]
				}
			}
		}
		between := func() { // another node is away for each page
			c.set(func() {
				if down >= 0 {
					c.down[c.ids[down]], c.dead[c.ids[down]] = false, false
				}
				down = r.IntN(len(c.ids))
				c.down[c.ids[down]], c.dead[c.ids[down]] = true, r.IntN(2) == 0
			})
			for _, n := range c.nodes { // breakers are not what this is about
				n.coordinator.table.states.Store(nil)
			}
		}
		for _, limit := range []int{1, 7, 100, 1000} {
			got, _ := walkAll(t, node, "b", ListOptions{Limit: limit}, between)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d, limit %d: %d keys, want %d", seed, limit, len(got), len(want))
			}
			between()
		}
		got, objects := walkAll(t, node, "b", ListOptions{Limit: 50, Prefix: "b/", Values: true}, between)
		wantB := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s[0] != 'b' })
		for i, o := range objects {
			if o.Values() == 0 {
				t.Errorf("%q without a value", got[i])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, wantB) || len(objects) != len(got) {
			t.Errorf("seed %d, prefix: %d keys, %d objects, want %d", seed, len(got), len(objects), len(wantB))
		}
		c.close()
	}
}

func mustMerge(t *testing.T, n *memNode, key ring.Key, o vclock.Object) {
	t.Helper()
	if err := n.store.Merge(key, vclock.AppendObject(nil, o)); err != nil {
		t.Fatal(err)
	}
}

func TestListErrors(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	node := c.nodes[c.ids[0]].coordinator
	for i := range 20 {
		if _, err := node.Put(t.Context(), ring.NewKey("b", fmt.Sprint(i)), text("x"), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := node.List(t.Context(), "b", ListOptions{Limit: 5})
	if err != nil || len(page.Keys) != 5 || page.Cursor == "" {
		t.Fatalf("got %+v, %v", page, err)
	}
	for _, test := range []struct {
		bucket string
		o      ListOptions
	}{
		{"other", ListOptions{Limit: 5, Cursor: page.Cursor}},
		{"b", ListOptions{Limit: 5, Cursor: page.Cursor, Prefix: "1"}},
		{"b", ListOptions{Limit: 5, Cursor: page.Cursor[:len(page.Cursor)-2]}},
		{"b", ListOptions{Limit: 5, Cursor: "never a cursor"}},
		{"b", ListOptions{Limit: 0}},
		{"b", ListOptions{Limit: 1001}},
		{"b", ListOptions{Limit: 5, R: 4}},
		{"b", ListOptions{Limit: 5, R: None}},
	} {
		_, err := node.List(t.Context(), test.bucket, test.o)
		errorOf(t, err, CodeInvalid)
	}
	// The end is told without an empty page.
	page, err = node.List(t.Context(), "b", ListOptions{Limit: 20})
	if err != nil || len(page.Keys) != 20 || page.Cursor != "" {
		t.Errorf("got %d keys, cursor %q, %v", len(page.Keys), page.Cursor, err)
	}
	// One node failing while a page is made is planned around, two are too many.
	c.set(func() { c.down[c.ids[1]] = true })
	if page, err = node.List(t.Context(), "b", ListOptions{Limit: 20}); err != nil || len(page.Keys) != 20 {
		t.Errorf("got %d keys, %v", len(page.Keys), err)
	}
	c.set(func() { c.down[c.ids[2]] = true })
	_, err = node.List(t.Context(), "b", ListOptions{Limit: 20})
	errorOf(t, err, CodeUnavailable)
}

// A bucket full of tombstones: bounded work per round, and a short page rather than a timeout.
func TestListManyTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		node := c.nodes[c.ids[0]]
		gone, _ := vclock.Object{}.Put(9, vclock.Clock{}, vclock.Sibling{Time: 9, Tombstone: true})
		b := vclock.AppendObject(nil, gone)
		for i := range 2*listScan + 10 {
			node.store.objects[ring.NewKey("b", fmt.Sprint(i))] = b
		}
		mustMerge(t, node, ring.NewKey("b", "last"), sample("a"))
		got, _ := walkAll(t, func() *memNode { return node }, "b", ListOptions{Limit: 10}, func() {})
		if !slices.Equal(got, []string{"last"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A node that hangs costs the listing half its time, not all of it.
func TestListWithASilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		node := c.nodes[c.ids[0]]
		for i := range 20 {
			key := ring.NewKey("b", fmt.Sprint(i))
			held(t, key, c.owners(key), "a", "a", "a")
		}
		c.fates = func(_, to ring.NodeID, class string) fate {
			return fate{dropRequest: class == "list" && to == c.ids[1]}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		page, err := node.coordinator.List(ctx, "b", ListOptions{Limit: 100})
		if err != nil || len(page.Keys) != 20 || page.Cursor != "" {
			t.Errorf("got %d keys, %v", len(page.Keys), err)
		}
	})
}
