package quorum

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// plant puts objects into the stores of owners, past the coordinator.
func held(t *testing.T, key ring.Key, owners []*memNode, names ...string) {
	t.Helper()
	for i, name := range names {
		if o := sample(name); !o.Empty() {
			if err := owners[i].store.Merge(key, vclock.AppendObject(nil, o)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReadRepairsBeforeItAnswers(t *testing.T) {
	key := ring.NewKey("b", "k")
	tests := []struct {
		name    string
		held    []string // by the owners, in order
		through int
		r       Level
		want    []string
		agreed  bool
		after   []string // what the owners hold once everything has settled
	}{
		{name: "all equal", held: []string{"a", "a", "a"}, r: Quorum, want: []string{"a"}, agreed: true, after: []string{"a", "a", "a"}},
		{name: "never written", held: []string{"-", "-", "-"}, r: Quorum, agreed: true, after: []string{"-", "-", "-"}},
		{name: "this node is behind", held: []string{"a", "ab", "ab"}, r: Quorum, want: []string{"ab"}, after: []string{"ab", "ab", "ab"}},
		{name: "this node has nothing", held: []string{"-", "ab", "ab"}, r: Quorum, want: []string{"ab"}, after: []string{"ab", "ab", "ab"}},
		{name: "only this node has it", held: []string{"a", "-", "-"}, r: Quorum, want: []string{"a"}, after: []string{"a", "a", "a"}},
		{name: "concurrent everywhere", held: []string{"a", "b", "c"}, r: All, want: []string{"a", "b", "c"}, after: []string{"*", "*", "*"}},
		{name: "one is enough", held: []string{"a", "ab", "ab"}, r: 1, want: []string{"a"}, agreed: true, after: []string{"a", "ab", "ab"}},
		{name: "read through a node that owns nothing", held: []string{"a", "b", "b"}, r: All, through: 3, want: []string{"a", "b"}, after: []string{"*", "*", "*"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, 4)
			owners := c.owners(key)
			held(t, key, owners, test.held...)
			got, err := owners[test.through].coordinator.Get(t.Context(), key, ReadOptions{R: test.r})
			if err != nil {
				t.Fatal(err)
			}
			if v := values(got.Object); !slices.Equal(v, test.want) {
				t.Errorf("got %q, want %q", v, test.want)
			}
			if got.Receipt.Agreed != test.agreed {
				t.Errorf("agreed: got %v (%+v)", got.Receipt.Agreed, got.Receipt)
			}
			c.close()
			for i, want := range test.after {
				o := owners[i].store.object(key)
				if want == "*" {
					if !slices.Equal(values(o), test.want) {
						t.Errorf("owner %d holds %q", i, values(o))
					}
				} else if digestOf(o) != digestOf(sample(want)) {
					t.Errorf("owner %d holds %q, want %q", i, values(o), want)
				}
			}
		})
	}
}

// V1 and V2 of the register histories: a write that reached one replica only, once shown, is never unseen again.
func TestWhatOneReadShowedLaterReadsShow(t *testing.T) {
	key := ring.NewKey("b", "k")
	c := newCluster(t, 3)
	owners := c.owners(key)
	held(t, key, owners, "ab", "a", "a")
	c.fates = func(_, _ ring.NodeID, class string) fate {
		return fate{err: map[string]error{"write": &netError{outcomeUnreachable, true}}[class]}
	}
	// No replica takes the repair: the newer version must not be shown.
	_, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{})
	e := errorOf(t, err, CodeTimeout)
	if e.Required != 2 {
		t.Errorf("got %+v", e)
	}
	// The first repair target fails, the third owner takes its place.
	var failed ring.NodeID
	c.fates = func(_, to ring.NodeID, class string) fate {
		if class == "write" && (failed == "" || failed == to) {
			failed = to
			return fate{err: &netError{outcomeUnreachable, true}}
		}
		return fate{}
	}
	got, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{})
	if err != nil || !slices.Equal(values(got.Object), []string{"ab"}) || got.Receipt.Repaired != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	c.fates = func(_, to ring.NodeID, class string) fate { return fate{} }
	for _, reader := range owners[1:] {
		got, err := reader.coordinator.Get(t.Context(), key, ReadOptions{})
		if err != nil || !slices.Equal(values(got.Object), []string{"ab"}) {
			t.Errorf("a later read: %q, %v", values(got.Object), err)
		}
	}
	c.close()
}

func TestReadFailures(t *testing.T) {
	key := ring.NewKey("b", "k")
	boom := errors.New("bad block")
	tests := []struct {
		name    string
		break_  func(c *cluster, o []*memNode)
		r       Level
		code    Code
		replied int
	}{
		{name: "local read error is not not-found", break_: func(c *cluster, o []*memNode) { o[0].store.getErr = boom }, replied: 2},
		{name: "all read errors", code: CodeUnavailable, break_: func(c *cluster, o []*memNode) {
			for _, n := range o {
				n.store.getErr = boom
			}
		}},
		{name: "two read errors", code: CodeUnavailable, break_: func(c *cluster, o []*memNode) { o[0].store.getErr, o[1].store.getErr = boom, boom }},
		{name: "local object is corrupt", replied: 2, break_: func(c *cluster, o []*memNode) { o[0].store.objects[key] = []byte{1, 2, 3} }},
		{name: "remote object is corrupt", replied: 2, break_: func(c *cluster, o []*memNode) { o[1].store.objects[key] = []byte{1, 2, 3} }},
		{name: "one unreachable", replied: 2, break_: func(c *cluster, o []*memNode) { c.down[o[1].id] = true }},
		{name: "two unreachable", code: CodeUnavailable, break_: func(c *cluster, o []*memNode) { c.down[o[1].id], c.down[o[2].id] = true, true }},
		{name: "two dead, told at once", code: CodeUnavailable, break_: func(c *cluster, o []*memNode) { c.dead[o[1].id], c.dead[o[2].id] = true, true }},
		{name: "two silent", code: CodeTimeout, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == o[1].id || to == o[2].id} }
		}},
		{name: "one silent", replied: 2, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == o[1].id} }
		}},
		{name: "one silent, r=all", r: All, code: CodeTimeout, break_: func(c *cluster, o []*memNode) {
			c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == o[1].id} }
		}},
		{name: "cold caches", replied: 2, break_: func(c *cluster, o []*memNode) { o[0].store.cold, o[1].store.cold = true, true }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				owners := c.owners(key)
				held(t, key, owners, "a", "a", "a")
				test.break_(c, owners)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				got, err := owners[0].coordinator.Get(ctx, key, ReadOptions{R: test.r, FullReceipt: true})
				if test.code != "" {
					errorOf(t, err, test.code)
				} else if err != nil || !slices.Equal(values(got.Object), []string{"a"}) || got.Receipt.Replied != test.replied {
					t.Errorf("got %q, %+v, %v", values(got.Object), got.Receipt, err)
				}
				c.close()
			})
		})
	}
}

func TestSessions(t *testing.T) {
	key := ring.NewKey("b", "k")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		owners := c.owners(key)
		held(t, key, owners, "a", "a", "ab")
		session := sample("ab").Context()
		got, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{R: 1, Session: &session})
		if err != nil || !slices.Equal(values(got.Object), []string{"ab"}) {
			t.Fatalf("r=1 with a session: %q, %v", values(got.Object), err)
		}
		// What nobody has yet: the read waits for it, and gives up with its deadline.
		session = sample("abc").Context()
		began := time.Now()
		go func() {
			time.Sleep(500 * time.Millisecond)
			held(t, key, owners[2:], "abc")
		}()
		got, err = owners[0].coordinator.Get(t.Context(), key, ReadOptions{R: 1, Session: &session})
		if err != nil || !slices.Equal(values(got.Object), []string{"abc"}) {
			t.Fatalf("session ahead of all replicas: %q, %v", values(got.Object), err)
		}
		if took := time.Since(began); took < 500*time.Millisecond || took > time.Second {
			t.Errorf("took %v", took)
		}
		session = sample("abcd").Context()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = owners[0].coordinator.Get(ctx, key, ReadOptions{Session: &session})
		errorOf(t, err, CodeTimeout)
		// An owner that cannot be reached has it: the answer must not be older.
		c.dead[owners[2].id] = true
		held(t, key, owners[2:], "abcd")
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		_, err = owners[0].coordinator.Get(ctx2, key, ReadOptions{R: 1, Session: &session})
		errorOf(t, err, CodeTimeout)
	})
}

// A slow replica costs its 95th percentile, not its slowness, and only within the budget.
func TestHedges(t *testing.T) {
	key := ring.NewKey("b", "k")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		owners := c.owners(key)
		held(t, key, owners, "a", "a", "a")
		node := owners[0]
		const usual = 2 * time.Millisecond
		slow := ring.NodeID("")
		c.fates = func(_, to ring.NodeID, _ string) fate {
			if to == slow {
				return fate{delay: 500 * time.Millisecond}
			}
			return fate{delay: usual}
		}
		read := func() time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := node.coordinator.Get(t.Context(), key, ReadOptions{}); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		for range 200 {
			if took := read(); took != usual {
				t.Fatalf("an undisturbed read took %v, want %v", took, usual)
			}
		}
		if got := node.events.count("hedge"); got != 0 {
			t.Fatalf("%d hedges without a reason", got)
		}
		first := owners[node.coordinator.choose(mustTarget(t, node, key), time.Now()).order[1]]
		slow = first.id
		worst := time.Duration(0)
		for range 200 {
			worst = max(worst, read())
		}
		if worst > 3*usual {
			t.Errorf("with one slow replica the worst read took %v, want at most %v", worst, 3*usual)
		}
		if got := node.events.count("hedge"); got == 0 || got > 20 {
			t.Errorf("%d hedges in 400 reads", got)
		}
		time.Sleep(time.Second)
	})
}

// Without any budget left, silence is taken for failure after a while: no read waits for its deadline.
func TestSilenceIsFailure(t *testing.T) {
	key := ring.NewKey("b", "k")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		owners := c.owners(key)
		held(t, key, owners, "a", "a", "a")
		silent := c.owners(key)[owners[0].coordinator.choose(mustTarget(t, owners[0], key), time.Now()).order[1]].id
		c.fates = func(_, to ring.NodeID, _ string) fate { return fate{dropRequest: to == silent} }
		owners[0].coordinator.hedges.saved.Store(-1 << 40)
		began := time.Now()
		if _, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 400*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if got := owners[0].events.count("hedge"); got != 0 {
			t.Errorf("%d hedges without a budget", got)
		}
	})
}

func mustTarget(t *testing.T, n *memNode, key ring.Key) *target {
	t.Helper()
	target, e := n.coordinator.target(key)
	if e != nil {
		t.Fatal(e)
	}
	return &target
}

// A peer that is gone costs nothing per request: the breaker opens, and lets single probes through.
func TestBreakerSparesADeadPeer(t *testing.T) {
	key := ring.NewKey("b", "k")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		owners := c.owners(key)
		node := owners[0]
		c.down[owners[1].id] = true
		for range 100 {
			if _, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.sent("write " + string(owners[1].id)); got != breakerThreshold {
			t.Errorf("%d writes went to a dead peer, want %d", got, breakerThreshold)
		}
		if got := node.events.count("breaker_open"); got != 1 {
			t.Errorf("breaker opened %d times", got)
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for range 10 {
				if _, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := c.sent("write " + string(owners[1].id)); got > breakerThreshold+20 {
			t.Errorf("%d writes went to a dead peer within 10 s", got)
		}
		c.set(func() { c.down[owners[1].id] = false })
		time.Sleep(breakerMaxWait)
		for range 3 {
			if _, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{W: All}); err != nil {
				time.Sleep(time.Second)
			}
		}
		if _, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{W: All}); err != nil {
			t.Errorf("the peer is back, but: %v", err)
		}
	})
}

func TestReplicaChoice(t *testing.T) {
	c := newCluster(t, 6, "a", "b", "c")
	defer c.close()
	for i := range 50 {
		key := ring.NewKey("b", string(rune('a'+i)))
		for _, node := range c.nodes {
			tg := mustTarget(t, node, key)
			order := node.coordinator.choose(tg, time.Now())
			first := tg.owners[order.order[0]]
			me, _ := c.layout.Member(node.id)
			for _, id := range tg.owners {
				if m, _ := c.layout.Member(id); id == node.id && first != id || tg.self < 0 && m.Zone == me.Zone {
					if f, _ := c.layout.Member(first); f.Zone != me.Zone {
						t.Fatalf("node in zone %s asks zone %s first", me.Zone, f.Zone)
					}
				}
			}
		}
	}
}

func TestLastWriterWins(t *testing.T) {
	c := newCluster(t, 3)
	defer c.close()
	key := ring.NewKey("lww", "k")
	settings := DefaultBucket
	settings.LWW = true
	owners := c.owners(key)
	held(t, key, owners, "a", "b", "c") // from before the bucket was one
	if err := owners[0].buckets.Set(t.Context(), "lww", settings); err != nil {
		t.Fatal(err)
	}
	for _, n := range owners {
		got, err := n.coordinator.Get(t.Context(), key, ReadOptions{R: All})
		if err != nil || len(got.Object.Siblings) != 1 {
			t.Fatalf("got %q, %v", values(got.Object), err)
		}
	}
	if _, err := owners[0].coordinator.Put(t.Context(), key, text("x"), WriteOptions{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	got, err := owners[1].coordinator.Get(t.Context(), key, ReadOptions{})
	if err != nil || !slices.Equal(values(got.Object), []string{"x"}) {
		t.Errorf("got %q, %v", values(got.Object), err)
	}
}

func TestExplain(t *testing.T) {
	c := newCluster(t, 5)
	defer c.close()
	key := ring.NewKey("b", "k")
	owners := c.owners(key)
	held(t, key, owners, "a", "ab", "-", "a")
	c.down[owners[1].id] = true
	got, err := owners[4].coordinator.Explain(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Replicas) != 5 || len(got.Preference) != 5 || got.Ring != 1 || got.Token != key.Token {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []struct {
		found, ok bool
		role      string
	}{{true, true, "owner"}, {false, false, "owner"}, {false, true, "owner"}, {true, true, "standin"}, {false, true, "standin"}} {
		r := got.Replicas[i]
		if r.Found != want.found || r.OK != want.ok || r.Role != want.role || r.OK == (r.Error != "") {
			t.Errorf("replica %d: %+v", i, r)
		}
	}
	if got.Replicas[0].Digest != got.Replicas[3].Digest || got.Replicas[2].Digest != 0 {
		t.Error("digests are equal exactly where the objects are")
	}
	if n := c.sent("write"); n != 0 {
		t.Errorf("looking wrote %d times", n)
	}
}

// A replica that is slow to take a repair is not waited for where another owner can hold the object.
func TestSlowRepairIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := ring.NewKey("b", "k")
		c := newCluster(t, 3)
		defer c.close()
		owners := c.owners(key)
		held(t, key, owners, "ab", "a", "a")
		var slow ring.NodeID
		c.fates = func(_, to ring.NodeID, class string) fate {
			if class == "write" && (slow == "" || slow == to) {
				slow = to
				return fate{delay: time.Minute}
			}
			return fate{}
		}
		began := time.Now()
		got, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{})
		if err != nil || !slices.Equal(values(got.Object), []string{"ab"}) || got.Receipt.Repaired != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		if took := time.Since(began); slow == "" || took > time.Second {
			t.Errorf("the read took %v", took)
		}
	})
}
