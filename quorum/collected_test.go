package quorum

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// forget has owners drop a key up to a time, as if it had been collected on all of them.
func forget(key ring.Key, at uint64, owners ...*memNode) {
	for _, n := range owners {
		n.store.set(func() {
			delete(n.store.objects, key)
			n.store.watermark = at
		})
	}
}

// A read that has one owner's answer from before a key was collected and another's from after it does not show what was deleted before the
// read began.
func TestReadAcrossCollection(t *testing.T) {
	key := ring.NewKey("b", "k")
	newer, _ := vclock.Object{}.Put(99, vclock.Clock{}, vclock.Sibling{Time: 10, Value: []byte("new")})
	for _, tt := range []struct {
		name  string
		again bool // it is written anew after it was collected
		mark  uint64
		want  []string
	}{
		{name: "collected", mark: 5},
		{name: "collected and written anew", mark: 5, again: true, want: []string{"new"}},
		{name: "not old enough to have been collected", mark: 1, want: []string{"ab"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				owners := c.owners(key)
				held(t, key, owners, "ab", "ab", "ab") // one of them has not heard of the delete yet
				c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{delay: 50 * time.Millisecond} }
				go func() {
					time.Sleep(20 * time.Millisecond) // the first owner has read its own store
					forget(key, tt.mark, owners...)
					if tt.again {
						for _, n := range owners {
							if err := n.store.Merge(key, vclock.AppendObject(nil, newer)); err != nil {
								t.Error(err)
							}
						}
					}
				}()
				got, err := owners[0].coordinator.Get(t.Context(), key, ReadOptions{R: Quorum})
				if err != nil {
					t.Fatal(err)
				}
				if v := values(got.Object); !slices.Equal(v, tt.want) {
					t.Errorf("got %q, want %q", v, tt.want)
				}
				c.close()
				for i, n := range owners {
					if v := values(n.store.object(key)); !slices.Equal(v, tt.want) && i > 0 {
						t.Errorf("owner %d holds %q, want %q", i, v, tt.want)
					}
				}
			})
		})
	}
}

// Who has the context of a key that was deleted and collected since reads that it is not there; but one that nobody can vouch for is still an
// error.
func TestSessionOutlivesItsKey(t *testing.T) {
	key := ring.NewKey("b", "k")
	session := sample("abc").Context() // stamped 3
	for _, tt := range []struct {
		name string
		mark uint64
		r    Level
		ok   bool
	}{
		{"collected since", 3, Quorum, true},
		{"collected since, one replica", 7, 1, true},
		{"collected before", 2, Quorum, false},
		{"never collected", 0, All, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 4)
				owners := c.owners(key)
				forget(key, tt.mark, owners...)
				got, err := owners[3].coordinator.Get(t.Context(), key, ReadOptions{R: tt.r, Session: &session})
				var failed *Error
				switch {
				case tt.ok && (err != nil || !got.Object.Empty()):
					t.Errorf("got %v, %v", got.Object, err)
				case !tt.ok && (!errors.As(err, &failed) || failed.Code != CodeTimeout):
					t.Errorf("got %v, %v; want an error", got.Object, err)
				}
				c.close()
			})
		})
	}
}

// What is read is read under the watermark that comes with it.
func TestWatermarkOfARead(t *testing.T) {
	marks := []uint64{1, 2, 2, 2}
	s := condition{memory: marking(func() uint64 {
		m := marks[0]
		marks = marks[1:]
		return m
	})}
	reads := 0
	if got := s.read(ring.Key{}, func() { reads++ }); got != 2 || reads != 2 {
		t.Errorf("got %d after %d reads, want 2 after 2", got, reads)
	}
}

type marking func() uint64

func (m marking) Watermark(ring.Key) uint64 { return m() }
