package quorum

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestTTL(t *testing.T) {
	for _, test := range []struct {
		name        string
		value, room time.Duration // of the value, of the bucket
		want        time.Duration // 0 = for ever, negative = refused
	}{
		{"none", 0, 0, 0},
		{"the value's", time.Minute, 0, time.Minute},
		{"the bucket's", 0, time.Hour, time.Hour},
		{"the value's before the bucket's", time.Minute, time.Hour, time.Minute},
		{"never, in spite of the bucket", -1, time.Hour, 0},
		{"the shortest", MinTTL, 0, MinTTL},
		{"the longest", MaxTTL, 0, MaxTTL},
		{"too short", MinTTL - 1, 0, -1},
		{"too long", MaxTTL + 1, 0, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 4)
				defer c.close()
				key := ring.NewKey("b", "k")
				nodes := c.owners(key)
				if test.room > 0 {
					settings := DefaultBucket
					settings.TTL = test.room
					if err := nodes[0].buckets.Set(t.Context(), "b", settings); err != nil {
						t.Fatal(err)
					}
				}
				for _, by := range []*memNode{nodes[0], nodes[3]} { // an owner, and one who forwards
					value := text("v")
					value.TTL = test.value
					put, err := by.coordinator.Put(t.Context(), key, value, WriteOptions{W: All, ReturnValue: true})
					if test.want < 0 {
						if e := errorOf(t, err, CodeInvalid); e.Outcome != NotApplied {
							t.Errorf("got %+v", e)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					s := put.Object.Siblings[0]
					want := uint64(0)
					if test.want > 0 {
						want = s.Time + uint64(test.want)
					}
					if s.Expiry != want || put.Expiry != want {
						t.Errorf("expires at %d and %d, want %d", s.Expiry, put.Expiry, want)
					}
				}
			})
		})
	}
	c := newCluster(t, 3)
	defer c.close()
	_, err := c.nodes[c.ids[0]].coordinator.Put(t.Context(), ring.NewKey("b", "k"), Value{Delete: true, TTL: time.Minute}, WriteOptions{})
	errorOf(t, err, CodeInvalid)
	// Deletes in a bucket whose values expire do not.
	m := &mint{actor: 1, clock: &hybridClock{}, now: time.Now, value: Value{Delete: true}}
	m.ttl = m.value.ttl(Bucket{TTL: time.Hour})
	if o, err := m.apply(vclock.Object{}, 0); err != nil || o.Siblings[0].Expiry != 0 {
		t.Errorf("got %+v, %v", o, err)
	}
}

// What would expire after the end of time is refused, and changes nothing.
func TestTTLAtTheEndOfTime(t *testing.T) {
	m := &mint{actor: 1, clock: &hybridClock{}, now: time.Now, value: text("v"), ttl: MaxTTL}
	_, err := m.apply(vclock.Object{}, latestTime-uint64(MaxTTL))
	if e := errorOf(t, err, CodeInvalid); e.Outcome != NotApplied || m.refused == nil {
		t.Errorf("got %+v", e)
	}
	m.refused = nil
	if o, err := m.apply(vclock.Object{}, latestTime-uint64(MaxTTL)-2); err != nil || o.Siblings[0].Expiry >= latestTime {
		t.Errorf("got %+v, %v", o, err)
	}
}

// A value is shown until its time has come, and hidden from then on, by every reader; what is stored stays as it is, and replicas agree.
func TestExpiredValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.close()
		nodes := c.owners(ring.NewKey("b", "k"))
		put := func(name, value string, ttl time.Duration, o WriteOptions) WriteResult {
			t.Helper()
			v := text(value)
			v.TTL = ttl
			o.W = All
			got, err := nodes[0].coordinator.Put(t.Context(), ring.NewKey("b", name), v, o)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		read := func(name string, want ...string) ReadResult {
			t.Helper()
			var last ReadResult
			for _, n := range nodes {
				got, err := n.coordinator.Get(t.Context(), ring.NewKey("b", name), ReadOptions{R: All})
				if err != nil {
					t.Fatal(err)
				}
				if v := values(got.Object); !slices.Equal(v, want) || !got.Receipt.Agreed || got.Receipt.Repaired > 0 {
					t.Errorf("%s through node %d: %q, want %q, receipt %+v", name, n.number(), v, want, got.Receipt)
				}
				last = got
			}
			return last
		}
		list := func(want ...string) {
			t.Helper()
			for _, withValues := range []bool{false, true} {
				got, objects := walkAll(t, func() *memNode { return nodes[3] }, "b", ListOptions{Limit: 2, Values: withValues}, func() {})
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("keys %q, want %q", got, want)
				}
				for i, o := range objects {
					if o.Values() == 0 {
						t.Errorf("%s is listed without a value", got[i])
					}
				}
			}
		}
		put("k", "soon", 10*time.Second, WriteOptions{})
		put("both", "soon", 10*time.Second, WriteOptions{})
		put("both", "later", time.Minute, WriteOptions{Fresh: true})
		put("mixed", "stays", 0, WriteOptions{})
		put("mixed", "soon", 10*time.Second, WriteOptions{Fresh: true})
		put("ever", "stays", 0, WriteOptions{})
		time.Sleep(9999 * time.Millisecond)
		read("k", "soon")
		read("both", "later", "soon")
		list("both", "ever", "k", "mixed")
		time.Sleep(2 * time.Millisecond)
		gone := read("k")
		if gone.Object.Empty() || gone.Object.State() != vclock.Deleted || len(gone.Object.Siblings[0].Value) > 0 || gone.Object.Siblings[0].Expiry != 0 {
			t.Errorf("an expired value is shown as %+v, want a tombstone", gone.Object)
		}
		read("both", "later")
		read("mixed", "stays")
		list("both", "ever", "mixed")
		if o := nodes[1].store.object(ring.NewKey("b", "k")); o.Values() != 1 || o.Siblings[0].Expiry == 0 {
			t.Errorf("stored: %+v", o)
		}
		if got, err := nodes[0].coordinator.Explain(t.Context(), ring.NewKey("b", "k")); err != nil || got.Replicas[1].Object.Values() != 1 {
			t.Errorf("explained: %+v, %v", got, err)
		}
		// The context of what was shown covers what expired; a write without one replaces it too.
		context := gone.Object.Context()
		if got := put("k", "again", 0, WriteOptions{Context: &context, ReturnValue: true}); len(got.Object.Siblings) != 1 {
			t.Errorf("after a write with the context: %+v", got.Object)
		}
		got := put("both", "blind", 0, WriteOptions{Fresh: true, ReturnValue: true})
		if v := values(got.Object); !slices.Equal(v, []string{"blind", "later"}) || len(got.Object.Siblings) != 3 {
			t.Errorf("a fresh write returned %q of %d versions", v, len(got.Object.Siblings))
		}
		if got := put("both", "only", 0, WriteOptions{ReturnValue: true}); len(got.Object.Siblings) != 1 {
			t.Errorf("after a write without a context: %+v", got.Object)
		}
	})
}

// The time by which versions expire never goes back behind what was issued, unless the wall clock was set back by far.
func TestNow(t *testing.T) {
	var clock hybridClock
	wall := time.Unix(1e9, 0)
	stamp, err := clock.next(wall.Add(10*time.Second), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := clock.now(wall); got != stamp {
		t.Errorf("got %d, want %d", got, stamp)
	}
	for _, at := range []time.Time{wall.Add(time.Hour), wall.Add(-time.Hour)} {
		if got := clock.now(at); got != uint64(at.UnixNano()) {
			t.Errorf("got %d, want %d", got, at.UnixNano())
		}
	}
}

// In a bucket of the last writer an expired winner is still the winner.
func TestExpiredLastWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		node := c.owners(key)[0]
		settings := DefaultBucket
		settings.LWW = true
		if err := node.buckets.Set(t.Context(), "b", settings); err != nil {
			t.Fatal(err)
		}
		for _, v := range []Value{text("stays"), {Bytes: []byte("soon"), TTL: time.Second}} {
			if _, err := node.coordinator.Put(t.Context(), key, v, WriteOptions{Fresh: true}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second + time.Millisecond)
		got, err := node.coordinator.Get(t.Context(), key, ReadOptions{})
		if err != nil || got.Object.State() != vclock.Deleted {
			t.Errorf("got %+v, %v", got.Object, err)
		}
	})
}
