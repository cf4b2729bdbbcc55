package quorum

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// F37: one node's clock is ahead. What its write replaces or is replaced by is decided by contexts
// alone, except in a bucket of the last writer: there a write that has seen the fast one wins over it, and a write that has not may be
// acknowledged and lose. That is what such a bucket says of itself, and why it is not the default.
func TestOneClockIsAhead(t *testing.T) {
	const fast = vclock.Actor(7)
	for _, lww := range []bool{false, true} {
		for _, test := range []struct {
			name     string
			seen     bool // the writer's replica has the fast node's version
			blind    bool // the writer sends no context and replaces nothing
			siblings []string
			last     []string // in a bucket of the last writer
		}{
			{"the writer replaces what its replica holds", true, false, []string{"new"}, []string{"new"}},
			{"the writer replaces nothing, its replica has seen all", true, true, []string{"fast", "new"}, []string{"new"}},
			{"the writer's replica missed it", false, false, []string{"fast", "new"}, []string{"fast"}},
		} {
			t.Run(test.name+map[bool]string{true: ", last writer"}[lww], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, 3)
					defer c.close()
					key := ring.NewKey("b", "k")
					owners := c.owners(key)
					if lww {
						settings := DefaultBucket
						settings.LWW = true
						if err := owners[0].buckets.Set(t.Context(), "b", settings); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second) // the settings are everywhere
					}
					ahead := uint64(time.Now().Add(time.Hour).UnixNano())
					o, _ := vclock.Object{}.Put(fast, vclock.Clock{}, vclock.Sibling{Time: ahead, ContentType: "text/plain", Value: []byte("fast")})
					for i, n := range owners {
						if i == 0 && !test.seen {
							continue
						}
						if err := n.store.Merge(key, vclock.AppendObject(nil, o)); err != nil {
							t.Fatal(err)
						}
					}
					if _, err := owners[0].coordinator.Put(t.Context(), key, text("new"), WriteOptions{Fresh: test.blind}); err != nil {
						t.Fatal(err)
					}
					want := test.siblings
					if lww {
						want = test.last
					}
					for _, n := range owners {
						got, err := n.coordinator.Get(t.Context(), key, ReadOptions{R: All})
						if err != nil {
							t.Fatal(err)
						}
						have := values(got.Object)
						slices.Sort(have)
						if !slices.Equal(have, want) {
							t.Errorf("through %s: got %q, want %q", n.id, have, want)
						}
					}
				})
			})
		}
	}
}

// F37: a node whose clock was years ahead has stamped a version and could give it to nobody else. It is repaired and replaced like any
// other: a wrong clock makes nothing stick.
func TestVersionFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		owners := c.owners(key)
		o, _ := vclock.Object{}.Put(7, vclock.Clock{}, vclock.Sibling{Time: uint64(time.Now().Add(10 * 365 * 24 * time.Hour).UnixNano()), ContentType: "text/plain", Value: []byte("future")})
		if err := owners[0].store.Merge(key, vclock.AppendObject(nil, o)); err != nil {
			t.Fatal(err)
		}
		for _, n := range owners {
			if got, err := n.coordinator.Get(t.Context(), key, ReadOptions{R: All}); err != nil || !slices.Equal(values(got.Object), []string{"future"}) {
				t.Errorf("through %s: %q, %v", n.id, values(got.Object), err)
			}
		}
		if _, err := owners[1].coordinator.Put(t.Context(), key, text("new"), WriteOptions{}); err != nil {
			t.Error(err)
		}
		for _, n := range owners {
			got, err := n.coordinator.Get(t.Context(), key, ReadOptions{})
			if err != nil || !slices.Equal(values(got.Object), []string{"new"}) {
				t.Errorf("afterwards, through %s: %q, %v", n.id, values(got.Object), err)
			}
		}
	})
}

// F35: one owner's disk stands still for half a minute. Whoever coordinates, writes are acknowledged at once by the other two, synced; nothing
// is said of the disk that did not answer.
func TestOneDiskStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		owners := c.owners(key)
		owners[0].store.syncDelay = 30 * time.Second
		c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{delay: 1} } // so that nobody waits for a message
		for i, n := range owners {
			began := time.Now()
			put, err := n.coordinator.Put(t.Context(), key, text("x"), WriteOptions{})
			if took := time.Since(began); err != nil || took > 100*time.Millisecond || put.Receipt.Durable != 2 {
				t.Errorf("coordinated by owner %d: %v after %v, %+v", i, err, took, put.Receipt)
			}
			got, err := n.coordinator.Get(t.Context(), key, ReadOptions{})
			if took := time.Since(began); err != nil || took > 200*time.Millisecond || len(values(got.Object)) != 1 {
				t.Errorf("read through owner %d: %q, %v after %v", i, values(got.Object), err, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := owners[1].coordinator.Put(ctx, key, text("x"), WriteOptions{W: All, DW: All})
		if e := errorOf(t, err, CodeTimeout); e.Outcome != Unknown || e.Durable > 2 {
			t.Errorf("dw=all: %+v", e)
		}
	})
}
