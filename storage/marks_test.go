package storage

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestMarks(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	a, b := ring.Class{Partition: 1, N: 3}, ring.Class{Partition: 2, N: 5}
	both := []ring.Class{a, b}
	wantErr := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	want := func(c ring.Class, want Marks) {
		t.Helper()
		if got := s.Marks(c); got != want {
			t.Fatalf("marks of %v are %+v, want %+v", c, got, want)
		}
	}
	want(a, Marks{})
	wantErr(s.SetWatermark(both, 10), ErrVoid) // not fenced
	wantErr(s.SetFence(both, 10), nil)
	wantErr(s.SetWatermark(both, 11), ErrVoid)
	wantErr(s.SetReleased(both, 10), ErrVoid) // no watermark
	wantErr(s.SetWatermark(both, 10), nil)
	wantErr(s.SetWatermark([]ring.Class{a}, 5), nil) // lower: nothing
	wantErr(s.SetReleased(both, 10), nil)
	want(a, Marks{10, 10, 10})
	wantErr(s.SetFence([]ring.Class{a}, 20), nil)
	wantErr(s.SetFence([]ring.Class{a}, 15), nil)
	want(a, Marks{20, 10, 10})
	wantErr(s.SetWatermark(both, 20), ErrVoid) // b is not fenced up to there: nothing is done
	want(a, Marks{20, 10, 10})
	wantErr(s.SetWatermark([]ring.Class{a}, 15), nil)
	for _, bad := range []ring.Class{{Partition: -1, N: 3}, {Partition: testPartitions, N: 3}, {Partition: 1, N: 0}, {Partition: 1, N: 8}} {
		if s.SetFence([]ring.Class{bad}, 30) == nil {
			t.Errorf("class %v was fenced", bad)
		}
		want(bad, Marks{})
	}

	// All of it was on disk at once.
	after := small(t, live.Crash(memdisk.Nothing, nil))
	mustClose(t, s)
	s = mustOpen(t, after)
	defer func() { mustClose(t, s) }()
	want(a, Marks{20, 15, 10})
	want(b, Marks{10, 10, 10})
	wantErr(s.SetWatermark([]ring.Class{a}, 20), ErrVoid) // the fence is of another run
	wantErr(s.SetReleased([]ring.Class{a}, 15), nil)
	wantErr(s.SetFence([]ring.Class{a}, 20), nil)
	wantErr(s.SetWatermark([]ring.Class{a}, 20), nil)
	want(a, Marks{20, 20, 15})

	// A class that is distrusted keeps its fence only, and takes no part in the round any more.
	wantErr(s.SetFence(both, 40), nil)
	wantErr(s.Distrust("test", []ring.Class{a}), nil)
	want(a, Marks{Fence: 40})
	wantErr(s.SetWatermark([]ring.Class{a}, 40), ErrVoid)
	wantErr(s.SetReleased([]ring.Class{a}, 15), ErrVoid)
	wantErr(s.SetWatermark([]ring.Class{b}, 40), nil)
	mustClose(t, s)
	s = mustOpen(t, after)
	want(a, Marks{Fence: 40})
	want(b, Marks{40, 40, 10})
	wantErr(s.SetFence(both, 60), nil) // one of them is to get the watermark of the other owners before its vote
	wantErr(s.SetWatermark(both, 60), nil)
}

// New versions are told what they must be later than, also where only the watermark knows it.
func TestFenceHoldsForNewVersions(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	after := func() (got uint64) {
		if _, _, err := s.Update(key, func(o vclock.Object, after uint64) (vclock.Object, error) {
			got = after
			return o, nil
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := after(); got != 0 {
		t.Fatalf("after %d", got)
	}
	if err := s.SetFence(classOf(s, key), 100); err != nil {
		t.Fatal(err)
	}
	if got := after(); got != 100 {
		t.Fatalf("after %d, want 100", got)
	}
	s.trees.of(s.class(key)).marks.watermark.Store(200)
	if got := after(); got != 200 {
		t.Fatalf("after %d, want 200", got)
	}
	if o := stored(t, s, key); !o.Empty() {
		t.Fatalf("%+v was stored by an update that did nothing", o)
	}
}

// When SetFence returns, the writes are in the store that did not know of it yet.
func TestFenceWaitsForWrites(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		_, _, err := s.Update(key, func(o vclock.Object, after uint64) (vclock.Object, error) {
			close(inside)
			<-goOn
			o, _ = o.Put(s.Incarnation(), o.Clock, vclock.Sibling{Time: after + 1, Value: []byte("v")})
			return o, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	fenced := make(chan error, 1)
	group.Go(func() { fenced <- s.SetFence(classOf(s, key), 100) })
	select {
	case err := <-fenced:
		t.Fatalf("fenced while a write was under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	if err := <-fenced; err != nil {
		t.Fatal(err)
	}
	wantSiblings(t, s, key, "v")
	group.Wait()
}
