package storage

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// A bucket's replica count is known late, or changes; its objects are in the classes of the count all the same, over restarts too.
func TestObjectsAreFiledUnderTheirBucketsCount(t *testing.T) {
	var n atomic.Int64
	cfg := Config{Dir: t.TempDir(), Replicas: func(bucket string) int {
		if bucket == "b" {
			return int(n.Load())
		}
		return 3
	}}
	s := mustOpen(t, cfg)
	defer func() { mustClose(t, s) }()
	other := ring.NewKey("other", "k")
	mustPut(t, s, other, "v")
	wantN := func(want int) {
		t.Helper()
		wantConsistent(t, s)
		for _, c := range s.Classes() {
			if c.N != want && c != s.class(other) {
				t.Fatalf("class %v holds something, want n=%d", c, want)
			}
		}
		if got := s.class(testKey(0)).N; got != want {
			t.Fatalf("filed under %d, want %d", got, want)
		}
	}
	for i := range 30 {
		mustPut(t, s, testKey(i), "v") // 0 = not known: as usual
	}
	wantN(3)
	generation := s.generation.current
	for _, step := range []int64{5, 2, 0, 3, 9, 1} {
		n.Store(step)
		s.Classes() // follows at once where the bucket is noted, else
		mustPut(t, s, testKey(1), "w")
		want := int(step)
		switch step {
		case 0:
			want = 2
		case 9:
			want = 3
		}
		wantN(want)
		mustClose(t, s)
		s = mustOpen(t, cfg)
		wantN(want)
	}
	if s.generation.current == generation {
		t.Fatal("the trees were never computed anew")
	}
}

// A bucket that holds nothing gets another count for nothing: no tree is computed anew, even if many write at once.
func TestCountOfAnEmptyBucketCostsNothing(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), Replicas: func(b string) int { return len(b) }})
	defer mustClose(t, s)
	mustPut(t, s, testKey(1), "v")
	before := s.generation.current
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 20 {
				if _, err := put(s, ring.NewKey("fives", fmt.Sprint(w, i)), "v"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if s.generation.current != before || s.unsound() > 0 {
		t.Fatalf("generation %d, was %d; %d partitions unsound", s.generation.current, before, s.unsound())
	}
	wantConsistent(t, s)
}

// Writers of a bucket whose count changes again and again, while it holds keys, leave trees that are right in the end.
func TestCountChangesUnderLoad(t *testing.T) {
	var n atomic.Int64
	n.Store(3)
	s := mustOpen(t, Config{Dir: t.TempDir(), Replicas: func(string) int { return int(n.Load()) }})
	defer mustClose(t, s)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 300 {
				if w == 0 && i%30 == 0 {
					n.Store(int64(1 + rng.IntN(7)))
				}
				if _, err := put(s, testKey(rng.IntN(100)), fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s.Classes()
	wantConsistent(t, s)
}

// What a watermark says does not hold for the versions of a bucket that came to the class after it.
func TestWatermarkIsNotOfBucketsThatCameLater(t *testing.T) {
	var n atomic.Int64
	n.Store(3)
	s := mustOpen(t, Config{Dir: t.TempDir(), Replicas: func(b string) int {
		if b == "b" {
			return int(n.Load())
		}
		return 5
	}})
	defer mustClose(t, s)
	key := testKey(1)
	five := []ring.Class{{Partition: s.class(key).Partition, N: 5}}
	update(t, s, ring.NewKey("five", "k"), vclock.Sibling{Value: []byte("v"), Time: 5})
	collect(t, s, five, 100)
	if err := s.SetFence(five, 200); err != nil {
		t.Fatal(err)
	}
	n.Store(5)
	early, _ := vclock.Object{}.Put(7, vclock.Clock{}, vclock.Sibling{Value: []byte("early"), Time: 50})
	merge(t, s, key, early) // written elsewhere under n=3, and never in an exchange of n=5
	wantSiblings(t, s, key, "early")
	if err := s.SetWatermark(five, 200); err == nil {
		t.Fatal("a round that began before the bucket came went on")
	}
	update(t, s, key, vclock.Sibling{Tombstone: true, Time: 150})
	if got := collect(t, s, five, 300); got != 1 {
		t.Fatalf("%d dropped", got)
	}
	wantPurged(t, s.Merge(key, encoded(early)))
	wantConsistent(t, s)
}

// The power fails, or the process is killed, anywhere in a change of a bucket's count.
func TestCountChangeBrokenOffAnywhere(t *testing.T) {
	live := memdisk.New()
	n := 3
	replicas := func(string) int { return n }
	cfg := small(t, live)
	cfg.Replicas = replicas
	s := mustOpen(t, cfg)
	for i := range 40 {
		mustPut(t, s, testKey(i), "v")
	}
	var broken []*memdisk.Disk
	rng := rand.New(rand.NewPCG(3, 3))
	_, end := underFault(live, func(op memdisk.Op, _ storage.FileDesc) error {
		if op != memdisk.OpRead && op != memdisk.OpOpen {
			for _, residue := range []memdisk.Residue{memdisk.Nothing, memdisk.Something, memdisk.Everything} {
				broken = append(broken, live.Crash(residue, rng))
			}
		}
		return nil
	})
	n = 5
	mustPut(t, s, testKey(1), "w")
	s.background.Wait()
	mustClose(t, s)
	end()
	t.Logf("%d crashes", len(broken))
	for i, disk := range broken {
		again := small(t, disk)
		again.Replicas = replicas
		s := mustOpen(t, again)
		if bad := inconsistent(s); bad != "" {
			t.Errorf("crash %d: %s", i, bad)
		}
		mustPut(t, s, testKey(2), "x")
		if bad := inconsistent(s); bad != "" {
			t.Errorf("crash %d, after a write: %s", i, bad)
		}
		mustClose(t, s)
	}
}
