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

// number is a node's place among the ids of its cluster, from 1.
func (n *memNode) number() int { return slices.Index(n.cluster.ids, n.id) + 1 }

// away makes nodes unreachable; where dead is set everybody knows it.
func (c *cluster) away(dead bool, nodes ...*memNode) {
	c.set(func() {
		for _, n := range nodes {
			c.down[n.id], c.dead[n.id] = true, dead
		}
	})
}

// back makes nodes reachable again, after what is under way and after the breakers.
func (c *cluster) back(nodes ...*memNode) {
	c.set(func() {
		for _, n := range nodes {
			c.down[n.id], c.dead[n.id] = false, false
		}
	})
	time.Sleep(10 * time.Second)
}

// roles lists the names of the replicas that acknowledged, by role.
func roles(list []ReplicaReceipt, role string) (out []string) {
	for _, r := range list {
		if r.Role == role && r.OK {
			out = append(out, r.Node)
		}
	}
	slices.Sort(out)
	return out
}

// F18: two of three owners are down. A strict write fails and is nowhere; a sloppy one is acknowledged by stand-ins, which the receipt tells, and
// is read by sloppy reads. Strict reads fail until the owners are back, and have it once it was handed over.
func TestTwoOfThreeOwnersAreDown(t *testing.T) {
	for _, dead := range []bool{true, false} { // known to be dead, or found out by the calls
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 6)
			defer c.close()
			key := ring.NewKey("b", "k")
			nodes := c.owners(key)
			if _, err := nodes[0].coordinator.Put(t.Context(), key, text("old"), WriteOptions{W: All}); err != nil {
				t.Fatal(err)
			}
			c.away(dead, nodes[1], nodes[2])
			if dead {
				_, err := nodes[0].coordinator.Put(t.Context(), key, text("strict"), WriteOptions{})
				if e := errorOf(t, err, CodeUnavailable); e.Outcome != NotApplied || len(e.Replicas) != 2 {
					t.Errorf("got %+v", e)
				}
			}
			for _, by := range []*memNode{nodes[0], nodes[5]} { // the owner that is left, and one that has to ask it
				put, err := by.coordinator.Put(t.Context(), key, text("new"), WriteOptions{Sloppy: Yes, W: All, DW: All, FullReceipt: true})
				if err != nil {
					t.Fatal(err)
				}
				r := put.Receipt
				if r.N != 3 || r.Acked != 3 || r.Durable != 3 || r.Standins != 2 || len(r.Replicas) != 5 {
					t.Errorf("receipt %+v", r)
				}
				if got, want := roles(r.Replicas, "standin"), sorted(nodes[3].name(), nodes[4].name()); !slices.Equal(got, want) {
					t.Errorf("stood in: %v, want %v", got, want)
				}
				if got, want := roles(r.Replicas, "owner"), []string{nodes[0].name()}; !slices.Equal(got, want) {
					t.Errorf("owners: %v, want %v", got, want)
				}
			}
			if got := nodes[0].store.hinted(c, key); dead && len(got) > 0 {
				t.Errorf("the coordinator keeps hints %v for owners that have stand-ins", got)
			}
			if n := nodes[0].events.count("standin_write"); n != 4 {
				t.Errorf("%d writes by stand-ins, want 4", n)
			}
			for _, n := range nodes[3:5] {
				if got := n.store.hinted(c, key); len(got) == 0 || n.store.syncs.Load() == 0 || !n.store.object(key).Empty() {
					t.Errorf("node %d keeps hints %v, %d syncs; as data it holds %v", n.number(), got, n.store.syncs.Load(), values(n.store.object(key)))
				}
			}
			for _, by := range nodes[:1] {
				got, err := by.coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes, R: All, FullReceipt: true})
				if err != nil {
					t.Fatal(err)
				}
				if v := values(got.Object); !slices.Equal(v, []string{"new"}) || got.Receipt.Replied != 3 || got.Receipt.Standins != 2 || !got.Receipt.Agreed {
					t.Errorf("read %q, receipt %+v", v, got.Receipt)
				}
				_, err = by.coordinator.Get(t.Context(), key, ReadOptions{})
				errorOf(t, err, CodeUnavailable)
			}
			// The owner that has it dies too: reads that allow it are answered by stand-ins alone, through one of them, and through another node.
			c.away(dead, nodes[0])
			for _, by := range nodes[3:] {
				got, err := by.coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes})
				if err != nil {
					t.Fatal(err)
				}
				if v := values(got.Object); !slices.Equal(v, []string{"new"}) || got.Receipt.Standins != 2 || got.Receipt.Repaired != 0 {
					t.Errorf("read %q through node %d, receipt %+v", v, by.number(), got.Receipt)
				}
				if dead {
					_, err = by.coordinator.Put(t.Context(), key, text("nobody"), WriteOptions{Sloppy: Yes})
					if e := errorOf(t, err, CodeUnavailable); e.Outcome != NotApplied || !strings.Contains(e.Detail, "must coordinate") {
						t.Errorf("without any owner: %+v", e)
					}
				}
			}
			c.back(nodes...)
			c.deliver()
			for _, n := range nodes[:3] {
				if v := values(n.store.object(key)); !slices.Equal(v, []string{"new"}) {
					t.Errorf("after the hints, owner %d holds %q", n.number(), v)
				}
			}
		})
	}
}

func (n *memNode) name() string { return "n" + string(rune('0'+n.number())) }

func sorted(s ...string) []string {
	slices.Sort(s)
	return s
}

// A strict write leaves a hint for an owner that is down, by whatever way it knows, and none for one that is slow.
func TestHintsOfStrictWrites(t *testing.T) {
	for _, test := range []struct {
		name   string
		ail    func(c *cluster, id ring.NodeID)
		hinted bool
	}{
		{"dead", func(c *cluster, id ring.NodeID) { c.dead[id] = true }, true},
		{"refuses connections", func(c *cluster, id ring.NodeID) { c.down[id] = true }, true},
		{"slow", func(c *cluster, id ring.NodeID) {
			c.fates = func(_, to ring.NodeID, _ string) fate {
				return fate{delay: time.Duration(len(to)) * 50 * time.Millisecond}
			}
		}, false},
		{"silent", func(c *cluster, id ring.NodeID) {
			c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == id} }
		}, false},
		{"overloaded", func(c *cluster, id ring.NodeID) {
			c.fates = func(_, to ring.NodeID, _ string) (f fate) {
				if to == id {
					f.err = &netError{outcomeOverloaded, true}
				}
				return f
			}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 5)
				defer c.close()
				key := ring.NewKey("b", "k")
				nodes := c.owners(key)
				c.set(func() { test.ail(c, nodes[2].id) })
				put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{})
				if err != nil {
					t.Fatal(err)
				}
				var want []int
				if test.hinted {
					want = []int{-nodes[2].number()}
				}
				if got := nodes[0].store.hinted(c, key); !slices.Equal(got, want) {
					t.Errorf("hints %v, want %v", got, want)
				}
				if got := nodes[0].events.count("hint"); got != len(want) {
					t.Errorf("%d hints counted", got)
				}
				if put.Receipt.Standins != 0 || c.sent("standin") != 0 {
					t.Errorf("a strict write asked stand-ins: %+v", put.Receipt)
				}
				time.Sleep(10 * time.Second)
			})
		})
	}
	t.Run("the breaker is open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3)
			defer c.close()
			key := ring.NewKey("b", "k")
			nodes := c.owners(key)
			state := nodes[0].coordinator.table.get(nodes[2].id)
			now := time.Now()
			for range breakerThreshold {
				if state.acquire(now) != nil {
					t.Fatal("not closed")
				}
				state.settle(now, now, "write", outcomeTimeout)
			}
			if _, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := nodes[0].store.hinted(c, key); !slices.Equal(got, []int{-nodes[2].number()}) || c.sent("write "+string(nodes[2].id)) != 0 {
				t.Errorf("hints %v", got)
			}
		})
	})
}

// Hints that cannot be kept never fail a write, and are counted.
func TestHintsThatCannotBeKept(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	c.away(true, nodes[2])
	nodes[0].store.hintErr = errors.New("the limit is reached")
	for range 3 {
		if _, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if failed, left := nodes[0].events.count("hint_failed"), nodes[0].events.count("hint"); failed != 3 || left != 0 {
		t.Errorf("%d hints failed, %d left", failed, left)
	}
}

func TestThrottle(t *testing.T) {
	var log throttle
	now := time.Unix(1e9, 0)
	for i, test := range []struct {
		after  time.Duration
		missed int64
		say    bool
	}{{0, 1, true}, {time.Second, 0, false}, {time.Second, 0, false}, {hintQuiet, 3, true}, {-time.Hour, 1, true}, {hintQuiet, 1, true}} {
		now = now.Add(test.after)
		if missed, say := log.note(now); missed != test.missed || say != test.say {
			t.Errorf("step %d: got %d, %v", i, missed, say)
		}
	}
}

// A stand-in that fails is followed by the next one; where none is left, or time is over, the coordinator leaves its own hint.
func TestStandinsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		c.away(true, nodes[2])
		c.away(false, nodes[3])
		nodes[4].store.fullErr = errors.New("no space")
		put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes, W: All, FullReceipt: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := roles(put.Receipt.Replicas, "standin"); !slices.Equal(got, []string{nodes[5].name()}) {
			t.Errorf("stood in: %v", got)
		}
		nodes[5].store.set(func() { nodes[5].store.hintErr = errors.New("limit") })
		_, err = nodes[0].coordinator.Put(t.Context(), key, text("w"), WriteOptions{Sloppy: Yes, W: All})
		e := errorOf(t, err, CodeUnavailable)
		if e.Outcome != Unknown || e.Acked != 2 || len(e.Replicas) != 2 || e.Replicas[1].Role != "standin" || e.Replicas[1].Error == "" {
			t.Errorf("got %+v", e)
		}
		time.Sleep(time.Second)
		if got := nodes[0].store.hinted(c, key); !slices.Equal(got, []int{-nodes[2].number()}) {
			t.Errorf("hints %v", got)
		}
		// One that is silent takes half of the time.
		c.set(func() {
			c.fates = func(_, to ring.NodeID, class string) fate {
				return fate{dropRequest: class == "standin" && to == nodes[3].id}
			}
		})
		nodes[5].store.set(func() { nodes[5].store.hintErr = nil })
		c.back(nodes[3])
		c.away(true, nodes[2])
		began := time.Now()
		put, err = nodes[0].coordinator.Put(t.Context(), key, text("x"), WriteOptions{Sloppy: Yes, W: All})
		if took := time.Since(began); err != nil || put.Receipt.Standins != 1 || took < 2*time.Second || took > 3*time.Second {
			t.Errorf("got %+v, %v after %v", put.Receipt, err, took)
		}
	})
}

// What is slow has no stand-in: what was sent to it may be done.
func TestSlowOwnersHaveNoStandins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		c.fates = func(_, to ring.NodeID, _ string) fate {
			return fate{dropRequest: to == nodes[1].id || to == nodes[2].id}
		}
		_, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes})
		if e := errorOf(t, err, CodeTimeout); e.Outcome != Unknown {
			t.Errorf("got %+v", e)
		}
		if n := c.sent("standin"); n != 0 {
			t.Errorf("%d calls of stand-ins", n)
		}
		_, err = nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes})
		errorOf(t, err, CodeTimeout)
		if n := c.sent("standin"); n != 0 {
			t.Errorf("%d calls of stand-ins by a read", n)
		}
	})
}

// Without nodes behind the owners a sloppy request is a strict one. The bucket's setting holds where the request has none of its own.
func TestSloppySettings(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	c.away(true, nodes[1], nodes[2])
	_, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes})
	if e := errorOf(t, err, CodeUnavailable); e.Outcome != NotApplied {
		t.Errorf("got %+v", e)
	}
	_, err = nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes})
	errorOf(t, err, CodeUnavailable)

	c = newCluster(t, 5)
	defer c.close()
	settings := DefaultBucket
	settings.Sloppy = true
	if err := c.nodes[c.ids[0]].buckets.Set(t.Context(), "b", settings); err != nil {
		t.Fatal(err)
	}
	nodes = c.owners(key)
	c.away(true, nodes[1], nodes[2])
	for choice, ok := range map[Choice]bool{AsBucket: true, Yes: true, No: false} {
		for _, by := range []*memNode{nodes[0], nodes[3]} {
			_, put := by.coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: choice})
			_, get := by.coordinator.Get(t.Context(), key, ReadOptions{Sloppy: choice})
			if (put == nil) != ok || (get == nil) != ok {
				t.Errorf("sloppy=%v through node %d: put %v, get %v", choice, by.number(), put, get)
			}
		}
	}
}

func TestStandinRefusals(t *testing.T) {
	c := newCluster(t, 5)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	good := vclock.AppendObject(nil, sample("a"))
	late := sample("a")
	late.Siblings[0].Expiry = latestTime + 1
	full := func(n *memNode) { n.store.fullErr = errors.New("no space") }
	for _, test := range []struct {
		name    string
		at      *memNode
		layout  uint64
		payload []byte
		ail     func(*memNode)
		outcome string
		text    string
	}{
		{"an owner of the key", nodes[1], 1, encodeKeep(nodes[2].id, key, good, true), nil, outcomeError, "owns partition"},
		{"for one who does not own it", nodes[3], 1, encodeKeep(nodes[4].id, key, good, true), nil, outcomeError, "does not own"},
		{"for nobody", nodes[3], 1, encodeKeep("", key, good, true), nil, outcomeError, "malformed"},
		{"of another version", nodes[3], 1, append([]byte{9}, encodeAsk(key)[1:]...), nil, outcomeError, "version 9"},
		{"no object", nodes[3], 1, encodeKeep(nodes[2].id, key, []byte("x"), true), nil, outcomeError, "corrupt"},
		{"an empty object", nodes[3], 1, encodeKeep(nodes[2].id, key, vclock.AppendObject(nil, vclock.Object{}), true), nil, outcomeError, "empty"},
		{"an expiry beyond time", nodes[3], 1, encodeKeep(nodes[2].id, key, vclock.AppendObject(nil, late), true), nil, outcomeError, "2250"},
		{"another ring", nodes[3], 0, encodeKeep(nodes[2].id, key, good, true), nil, outcomeStale, "ring has changed"},
		{"a full disk", nodes[4], 1, encodeKeep(nodes[2].id, key, good, true), full, outcomeFull, "no space"},
	} {
		if test.ail != nil {
			test.ail(test.at)
		}
		_, err := test.at.coordinator.HandleStandin(t.Context(), nodes[0].id, test.layout, test.payload)
		if err == nil || !notApplied(err) || outcomeOf(err) != test.outcome || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, outcome %s, want %q, %s", test.name, err, outcomeOf(err), test.text, test.outcome)
		}
		if got := test.at.store.hinted(c, key); len(got) > 0 {
			t.Errorf("%s: it keeps hints %v", test.name, got)
		}
	}
}

// A sloppy read brings the owners that it reached up to date with what stand-ins keep, before it answers; stand-ins get nothing.
func TestSloppyReadRepairsOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		held(t, key, nodes[:3], "a", "a", "a")
		if err := nodes[3].store.Hint(nodes[1].id, key, vclock.AppendObject(nil, sample("ab"))); err != nil {
			t.Fatal(err)
		}
		c.away(true, nodes[1])
		// Two owners are enough for r=2: nobody asks further.
		got, err := nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes})
		if err != nil || got.Receipt.Standins != 0 || c.sent("standin") != 0 {
			t.Fatalf("got %+v, %v", got.Receipt, err)
		}
		got, err = nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes, R: All})
		if err != nil {
			t.Fatal(err)
		}
		if r := got.Receipt; r.Standins != 1 || r.Replied != 3 || r.Agreed || r.Repaired != 2 {
			t.Errorf("receipt %+v", r)
		}
		for _, n := range []*memNode{nodes[0], nodes[2]} {
			if digestOf(n.store.object(key)) != digestOf(sample("ab")) {
				t.Errorf("owner %d was not brought up to date", n.number())
			}
		}
		// A stand-in that keeps something older, or nothing, is left as it is, and does not fail the read.
		held(t, key, []*memNode{nodes[0], nodes[2]}, "abc", "abc")
		c.away(true, nodes[2])
		got, err = nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes, R: All})
		if r := got.Receipt; err != nil || r.Standins != 2 || r.Agreed || r.Repaired != 0 || digestOf(got.Object) != digestOf(sample("abc")) {
			t.Errorf("receipt %+v, %v", r, err)
		}
		if kept, digest, _ := nodes[3].store.HintFor(key); kept == nil || digest != digestOf(sample("ab")) || !nodes[4].store.object(key).Empty() {
			t.Error("a stand-in was written to")
		}
		if n := nodes[0].events.count("standin_read"); n != 3 {
			t.Errorf("%d answers of stand-ins counted, want 3", n)
		}
	})
}

// A session's read goes to stand-ins where the owners that can be reached have not seen what its writer was told.
func TestSloppySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		c.away(true, nodes[1], nodes[2])
		put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes})
		if err != nil {
			t.Fatal(err)
		}
		c.back(nodes[1])
		c.away(true, nodes[0])
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err = nodes[5].coordinator.Get(ctx, key, ReadOptions{R: 1, Session: &put.Context})
		errorOf(t, err, CodeTimeout)
		got, err := nodes[5].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes, R: 1, Session: &put.Context})
		if err != nil || !slices.Equal(values(got.Object), []string{"v"}) || digestOf(nodes[1].store.object(key)) != digestOf(got.Object) {
			t.Errorf("read %q, %v; the owner that was read holds %q", values(got.Object), err, values(nodes[1].store.object(key)))
		}
	})
}

func TestExplainShowsHints(t *testing.T) {
	c := newCluster(t, 7)
	defer c.close()
	key := ring.NewKey("b", "k")
	nodes := c.owners(key)
	c.away(true, nodes[2], nodes[3], nodes[4], nodes[5])
	if _, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes, W: All}); err != nil {
		t.Fatal(err)
	}
	c.set(func() { clear(c.down); clear(c.dead) })
	for _, by := range []*memNode{nodes[0], nodes[6]} {
		got, err := by.coordinator.Explain(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Replicas) != 6 {
			t.Fatalf("%d replicas: %+v", len(got.Replicas), got.Replicas)
		}
		for i, r := range got.Replicas {
			wantRole, wantHint, wantFound := "owner", false, i < 2
			if i >= 3 {
				wantRole, wantHint, wantFound = "standin", i == 5, i == 5
			}
			if !r.OK || r.Role != wantRole || r.Hint != wantHint || r.Found != wantFound {
				t.Errorf("replica %d: %+v", i, r)
			}
		}
		if last := got.Replicas[5]; last.Node != nodes[6].name() || last.Digest != got.Replicas[0].Digest {
			t.Errorf("stand-in %+v", last)
		}
	}
}

// Stand-ins that know a newer ring refuse; the request waits for it and is done under it.
func TestStandinsUnderANewerLayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.close()
		next, err := c.layout.Next(c.layout.Members()[:6])
		if err != nil {
			t.Fatal(err)
		}
		key := ring.NewKey("b", "k")
		for i := 0; !slices.Equal(c.layout.Owners(c.layout.Partition(key.Token), 3), next.Owners(next.Partition(key.Token), 3)); i++ {
			key = ring.NewKey("b", string(rune('a'+i)))
		}
		nodes := c.owners(key)
		c.away(true, nodes[1], nodes[2])
		learn := func() {
			for _, n := range nodes[3:] {
				n.membership.layout.Store(next)
			}
			nodes[0].membership.layout.Store(c.layout)
			go func() { time.Sleep(300 * time.Millisecond); nodes[0].membership.layout.Store(next) }()
		}
		learn()
		put, err := nodes[0].coordinator.Put(t.Context(), key, text("v"), WriteOptions{Sloppy: Yes})
		if r := put.Receipt; err != nil || r.Ring != 2 || r.Standins == 0 {
			t.Errorf("put: %+v, %v", r, err)
		}
		learn()
		got, err := nodes[0].coordinator.Get(t.Context(), key, ReadOptions{Sloppy: Yes})
		if r := got.Receipt; err != nil || r.Ring != 2 || r.Standins == 0 || !slices.Equal(values(got.Object), []string{"v"}) {
			t.Errorf("get: %q, %+v, %v", values(got.Object), r, err)
		}
		time.Sleep(time.Second)
	})
}

// Nothing is asked of stand-ins, and no hint is left, while all owners are there.
func TestNoStandinsWithoutNeed(t *testing.T) {
	c := newCluster(t, 5)
	defer c.close()
	key := ring.NewKey("b", "k")
	node := c.owners(key)[0]
	for _, sloppy := range []Choice{No, Yes} {
		for range 10 {
			if _, err := node.coordinator.Put(t.Context(), key, text("v"), WriteOptions{W: All, Sloppy: sloppy}); err != nil {
				t.Fatal(err)
			}
			if _, err := node.coordinator.Get(t.Context(), key, ReadOptions{Sloppy: sloppy}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := c.sent("standin"); n != 0 || len(node.store.hinted(c, key)) != 0 {
		t.Errorf("%d calls of stand-ins, hints %v", n, node.store.hinted(c, key))
	}
}
