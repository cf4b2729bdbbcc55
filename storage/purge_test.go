package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestPurgeDropsWhatIsReleasedAndNoMore(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	versions := map[string][]vclock.Sibling{
		"tombstone":                   {{Time: 10, Tombstone: true}},
		"two tombstones":              {{Time: 9, Tombstone: true}, {Time: 10, Tombstone: true}},
		"expired":                     {{Time: 5, Expiry: 10, Value: []byte("v")}},
		"tombstone and expired":       {{Time: 9, Tombstone: true}, {Time: 5, Expiry: 10, Value: []byte("v")}},
		"late tombstone":              {{Time: 11, Tombstone: true}},
		"one late tombstone":          {{Time: 9, Tombstone: true}, {Time: 11, Tombstone: true}},
		"value":                       {{Time: 5, Value: []byte("v")}},
		"value and tombstone":         {{Time: 5, Value: []byte("v")}, {Time: 9, Tombstone: true}},
		"not expired":                 {{Time: 5, Expiry: 11, Value: []byte("v")}},
		"expired before it was":       {{Time: 11, Expiry: 5, Value: []byte("v")}},
		"tombstone beside a late one": {{Time: 9, Tombstone: true}, {Time: 5, Expiry: 11, Value: []byte("v")}},
	}
	goes := map[string]bool{"tombstone": true, "two tombstones": true, "expired": true, "tombstone and expired": true}
	for name, siblings := range versions {
		for i, v := range siblings {
			o, _ := vclock.Object{}.Put(vclock.Actor(i+1), vclock.Clock{}, v)
			merge(t, s, ring.NewKey("b", name), o)
		}
	}
	classes := s.Classes()
	if err := errors.Join(s.SetFence(classes, 20), s.SetWatermark(classes, 20)); err != nil {
		t.Fatal(err)
	}
	if got := purgeAll(t, s, classes); got != 0 {
		t.Fatalf("%d dropped before anything was released", got)
	}
	if err := s.SetReleased(classes, 10); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if got, want := purgeAll(t, s, classes), len(goes)*(1-round); got != want {
			t.Fatalf("round %d: %d dropped, want %d", round, got, want)
		}
	}
	for name := range versions {
		if gone := stored(t, s, ring.NewKey("b", name)).Empty(); gone != goes[name] {
			t.Errorf("%s: gone %v, want %v", name, gone, goes[name])
		}
	}
	wantConsistent(t, s)
}

func TestForget(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	update(t, s, key, vclock.Sibling{Value: []byte("v")})
	update(t, s, key, vclock.Sibling{Tombstone: true})
	_, digest, err := s.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		key    ring.Key
		digest uint64
		want   bool
	}{{key, digest + 1, false}, {testKey(2), digest, false}, {testKey(2), 0, false}, {key, digest, true}, {key, digest, false}} {
		if got, err := s.Forget(step.key, step.digest); got != step.want || err != nil {
			t.Fatalf("%+v: %v, %v", step, got, err)
		}
	}
	if dot := update(t, s, key, vclock.Sibling{Value: []byte("w")}).Siblings[0].Dot; dot.Counter != 3 {
		t.Fatalf("the next version is %v, want counter 3", dot)
	}
	wantConsistent(t, s)
}

// A damaged object is passed over, told, and still there.
func TestPurgePassesOverDamage(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: -1})
	defer s.Close()
	for i := range 50 {
		update(t, s, testKey(i), vclock.Sibling{Tombstone: true, Time: 10})
	}
	key := testKey(7)
	if err := s.db.Put(appendDataKey(nil, key), append(make([]byte, digestLen), object1...), nil); err != nil {
		t.Fatal(err)
	}
	classes := s.Classes()
	if err := errors.Join(s.SetFence(classes, 20), s.SetWatermark(classes, 20), s.SetReleased(classes, 20)); err != nil {
		t.Fatal(err)
	}
	dropped, damaged := 0, 0
	for _, c := range classes {
		n, more, err := s.Purge(c, 1000)
		dropped += n
		if errors.Is(err, ErrCorrupt) {
			damaged++
		} else if err != nil || more {
			t.Fatal(more, err)
		}
	}
	if dropped != 49 || damaged != 1 {
		t.Fatalf("%d dropped, %d classes damaged", dropped, damaged)
	}
	if _, _, err := s.Get(key); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

// The power fails, or the process is killed, anywhere in rounds of collection, with writes in between. Everything agrees afterwards, what
// was fenced stays fenced, nothing comes back whose purge was on disk, and no dot is issued twice.
func TestCollectionBrokenOffAnywhere(t *testing.T) {
	every := 5
	if testing.Short() {
		every = 23
	}
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	type cut struct {
		disk   *memdisk.Disk
		fence  uint64
		synced map[string]bool // purged, and on disk
	}
	var cuts []cut
	var fence uint64
	synced := map[string]bool{}
	rng := rand.New(rand.NewPCG(6, 6))
	n := 0
	mu, end := underFault(live, func(op memdisk.Op, _ storage.FileDesc) error {
		if op == memdisk.OpRead || op == memdisk.OpOpen {
			return nil
		}
		if n++; n%every == 0 {
			c := cut{fence: fence, synced: map[string]bool{}}
			for k := range synced {
				c.synced[k] = true
			}
			c.disk = live.Crash(memdisk.Residue(n/every%3), rng)
			cuts = append(cuts, c)
		}
		return nil
	})
	classes := func() (out []ring.Class) {
		for p := range testPartitions {
			out = append(out, ring.Class{Partition: p, N: 3})
		}
		return out
	}()
	at := uint64(100)
	gone := map[string]bool{}
	for round := range 12 {
		for i := range 12 {
			key := testKey(round*12 + i)
			mustPut(t, s, key, "v")
			if i%4 > 0 {
				update(t, s, key, vclock.Sibling{Tombstone: true, Time: at + uint64(i)})
				gone[key.Name] = true
			}
		}
		at += 100
		if err := s.SetFence(classes, at); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		fence = at
		mu.Unlock()
		if err := errors.Join(s.SetWatermark(classes, at), s.SetReleased(classes, at)); err != nil {
			t.Fatal(err)
		}
		purgeAll(t, s, classes)
		if round%2 == 0 {
			if err := wait(s); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			for k := range gone {
				synced[k] = true
			}
			mu.Unlock()
		}
	}
	end()
	first := s.Incarnation()
	mustClose(t, s)
	t.Logf("%d crashes", len(cuts))
	for i, c := range cuts {
		s := mustOpen(t, small(t, c.disk))
		if bad := inconsistent(s); bad != "" {
			t.Errorf("crash %d: %s", i, bad)
		}
		if got := s.Marks(classes[0]).Fence; got < c.fence {
			t.Errorf("crash %d: fence %d, was %d", i, got, c.fence)
		}
		for name := range c.synced {
			if o := stored(t, s, ring.NewKey("b", name)); !o.Empty() {
				t.Errorf("crash %d: %q is back", i, name)
			}
		}
		if s.Incarnation() == first {
			t.Errorf("crash %d: the incarnation was used again, and the counter floor may be lost", i)
		}
		mustClose(t, s)
	}
}

// Writes, deletes, collection, verification and reading of leaves, all at once.
func TestTreesUnderConcurrency(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), WriteBuffer: 64 << 10, CacheBytes: minCache, Now: time.Now})
	defer mustClose(t, s)
	length := 2 * time.Second
	if testing.Short() {
		length = 300 * time.Millisecond
	}
	stop := make(chan struct{})
	time.AfterFunc(length, func() { close(stop) })
	var group sync.WaitGroup
	loop := func(fn func(rng *rand.Rand) error) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var dots sync.Map
	for range 4 {
		loop(func(rng *rand.Rand) error {
			key := testKey(rng.IntN(3000))
			_, _, err := s.Update(key, func(o vclock.Object, after uint64) (vclock.Object, error) {
				now := s.now()
				v := vclock.Sibling{Time: max(now, o.MaxTime()+1, after+1), Tombstone: rng.IntN(2) == 0}
				if !v.Tombstone {
					v.Value = fmt.Append(nil, v.Time)
					if rng.IntN(3) == 0 {
						v.Expiry = v.Time + uint64(rng.IntN(int(50*time.Millisecond)))
					}
				}
				o, dot := o.Put(s.Incarnation(), o.Clock, v)
				if _, again := dots.LoadOrStore(fmt.Sprint(key, dot), true); again {
					t.Errorf("%q: dot %v was issued twice", key.Name, dot)
				}
				return o, nil
			})
			return err
		})
	}
	classes := func() (out []ring.Class) {
		for p := range testPartitions {
			out = append(out, ring.Class{Partition: p, N: 3})
		}
		return out
	}()
	loop(func(*rand.Rand) error {
		at := s.now()
		if err := errors.Join(s.SetFence(classes, at), s.SetWatermark(classes, at), s.SetReleased(classes, at)); err != nil {
			return err
		}
		for _, c := range classes {
			if _, _, err := s.Purge(c, 100); err != nil {
				return err
			}
		}
		return nil
	})
	loop(func(rng *rand.Rand) error {
		key := testKey(rng.IntN(3000))
		object, _, err := s.Get(key)
		if err != nil || object == nil {
			return err
		}
		var late interface{ Purged() bool }
		if err := s.Merge(key, object); err != nil && !errors.As(err, &late) {
			return err
		}
		return nil
	})
	loop(func(rng *rand.Rand) error {
		v, err := s.VerifyPartition(rng.IntN(testPartitions), func(int) error { return nil })
		if v.WrongLeaves > 0 || v.Damaged > 0 {
			return fmt.Errorf("verification: %+v", v)
		}
		return err
	})
	loop(func(rng *rand.Rand) error {
		key := testKey(rng.IntN(3000))
		sound, err := s.ReadLeaf(s.class(key), ring.Leaf(key.Token), func(ring.Key, []byte, uint64) bool { return true })
		if err == nil && !sound {
			err = errors.New("a leaf is not sound")
		}
		return err
	})
	loop(func(*rand.Rand) error {
		s.Tombstones()
		s.Classes()
		return nil
	})
	group.Wait()
	time.Sleep(50 * time.Millisecond) // until all that expires has
	var n int64
	for _, st := range s.Tombstones() {
		n += st.Count
	}
	if got := int64(collect(t, s, classes, s.now())); got != n {
		t.Fatalf("%d were counted, %d collected", n, got)
	}
	t.Logf("%d collected, %d of them in the end", s.Stats().Purged, n)
	wantConsistent(t, s)
}
