package antientropy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
	"github.com/rondodb/rondo/vclock"
)

// diskStore is the real store in the words of this package, as package node has it.
type diskStore struct{ *storage.Store }

func (s diskStore) VerifyPartition(partition int, pace func(bytes int) error) (VerifyResult, error) {
	r, err := s.Store.VerifyPartition(partition, pace)
	return VerifyResult(r), err
}

func (s diskStore) Marks(c ring.Class) Marks { return Marks(s.Store.Marks(c)) }

func (s diskStore) Tombstones() (out []TombstoneStat) {
	for _, t := range s.Store.Tombstones() {
		out = append(out, TombstoneStat(t))
	}
	return out
}

func (s diskStore) Hints(target ring.NodeID, after *ring.Key, yield func(Hint) bool) error {
	return s.Store.Hints(target, after, func(h storage.Hint) bool { return yield(Hint(h)) })
}

func (s diskStore) HintStats() (out []HintStat, known bool) {
	stats, known := s.Store.HintStats()
	for _, h := range stats {
		out = append(out, HintStat(h))
	}
	return out, known
}

// realFleet is three nodes with stores on disk.
func realFleet(t testing.TB) []*ship {
	t.Helper()
	ships := fleet(t, 16, 3, nil)
	for _, s := range ships {
		disk, err := storage.Open(storage.Config{Dir: t.TempDir(), WriteBuffer: 1 << 20, BlockCacheBytes: 1 << 20, CacheBytes: -1, Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := disk.Close(); err != nil {
				t.Error(err)
			}
		})
		if err := disk.SetPartitions(16); err != nil {
			t.Fatal(err)
		}
		s.config.Store, s.config.Sound = diskStore{disk}, nil
		s.actor = disk.Incarnation()
		s.reopen(t)
	}
	return ships
}

// put writes through the real store, and returns the object.
func (s *ship) put(t testing.TB, key ring.Key, sib vclock.Sibling) []byte {
	t.Helper()
	object, _, err := s.config.Store.(diskStore).Update(key, func(old vclock.Object, after uint64) (vclock.Object, error) {
		sib.Time = max(uint64(time.Now().UnixNano()), old.MaxTime()+1, after+1)
		next, _ := old.Put(s.actor, old.Clock, sib)
		return next, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// held is what a node holds under a key.
func (s *ship) stored(t testing.TB, key ring.Key) string {
	t.Helper()
	o, _, err := s.config.Store.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(o)
}

func TestExchangeOfRealStores(t *testing.T) {
	ships := realFleet(t)
	a, b := ships[0], ships[1]
	value := vclock.Sibling{ContentType: vclock.TypeText, Value: []byte(strings.Repeat("x", 500))}
	for i := range 500 {
		o := a.put(t, testKey(i), value)
		if i%5 > 0 {
			if err := b.config.Store.Merge(testKey(i), o); err != nil {
				t.Fatal(err)
			}
		}
		switch i % 7 {
		case 0:
			b.put(t, testKey(i), value)
		case 1:
			a.put(t, testKey(i), vclock.Sibling{Tombstone: true})
		case 2:
			b.put(t, testKey(1000+i), value)
		}
	}
	if bad := unequal(mustExchange(t, a, b)); len(bad) > 0 {
		t.Fatalf("unequal: %v", bad)
	}
	for i := range 1500 {
		if x, y := a.stored(t, testKey(i)), b.stored(t, testKey(i)); x != y {
			t.Fatalf("key %d differs", i)
		}
	}
	if again := mustExchange(t, b, a); again.Different != 0 || again.Messages != 1 {
		t.Errorf("once more: %+v", again.exchangeStep)
	}
	for p := range 16 {
		for _, s := range ships[:2] {
			if !s.verifyPartition(t.Context(), p, time.Second) {
				t.Errorf("partition %d of %s", p, s.name(s.id))
			}
		}
	}
	if got := a.Status(); got.WrongLeaves+got.DamagedObjects != 0 || got.VerifiedObjects == 0 || len(got.Partitions) != 16 {
		t.Errorf("got %+v", got)
	}
}

// The whole way of a node that was set back: others have collected a delete of which it knows nothing, and it brings the value along.
func TestRealStoreThatWasSetBack(t *testing.T) {
	ships := realFleet(t)
	a := ships[0]
	k := testKey(1)
	class := ring.Class{Partition: a.Layout().Partition(k.Token), N: 3}
	value := a.put(t, k, vclock.Sibling{ContentType: vclock.TypeText, Value: []byte("long deleted")})
	keep := testKey(2)
	for _, s := range ships[1:] {
		if err := s.config.Store.Merge(k, value); err != nil {
			t.Fatal(err)
		}
	}
	gone := ships[1].put(t, k, vclock.Sibling{Tombstone: true})
	at := decoded(t, gone).MaxTime()
	if err := ships[2].config.Store.Merge(k, gone); err != nil { // a was set back to before this
		t.Fatal(err)
	}
	kept := ships[1].put(t, keep, vclock.Sibling{ContentType: vclock.TypeText, Value: []byte("kept")})
	for _, s := range ships[1:] {
		store := s.config.Store
		for _, err := range []error{store.SetFence([]ring.Class{class}, at), store.SetWatermark([]ring.Class{class}, at), store.SetReleased([]ring.Class{class}, at)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if n, _, err := store.Purge(class, 10); n != 1 || err != nil {
			t.Fatalf("collected %d, %v", n, err)
		}
	}
	mustExchange(t, ships[1], a)
	if got := a.stored(t, k); got != "" {
		t.Error("the value is still there")
	}
	if got := a.config.Store.Unsynced(); len(got) != 1 || got[0] != class {
		t.Fatalf("unsynced: %v", got)
	}
	mustExchange(t, a, ships[1])
	mustExchange(t, a, ships[2])
	if got := a.config.Store.Unsynced(); len(got) != 0 {
		t.Fatalf("unsynced: %v", got)
	}
	if got := a.config.Store.Marks(class); got.Watermark != at || got.Fence < at {
		t.Errorf("marks %+v, want %d", got, at)
	}
	if got := a.stored(t, keep); got != string(kept) {
		t.Error("what was to be kept is not here")
	}
	for _, s := range ships {
		if err := s.config.Store.Merge(k, value); !isPurged(err) {
			t.Errorf("%s takes the late value: %v", s.name(s.id), err)
		}
		if got := s.stored(t, k); got != "" {
			t.Errorf("%s has it again", s.name(s.id))
		}
	}
	if bad := unequal(mustExchange(t, a, ships[1])); len(bad) > 0 || len(a.config.Store.Unsynced()) > 0 {
		t.Errorf("unequal: %v", bad)
	}
}

// What it costs to know that a tree is sound, by reading a leaf of it.
func BenchmarkSoundOfRealStore(b *testing.B) {
	ships := realFleet(b)
	a := ships[0]
	for i := range 10_000 {
		a.put(b, testKey(i), vclock.Sibling{ContentType: vclock.TypeText, Value: []byte(fmt.Sprint(i))})
	}
	for i := 0; b.Loop(); i++ {
		if !a.sound(ring.Class{Partition: i % 16, N: 3}) {
			b.Fatal("not sound")
		}
	}
}
