package storage

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func wantPurged(t *testing.T, err error) {
	t.Helper()
	var late interface {
		Purged() bool
		NotApplied() bool
	}
	if !errors.As(err, &late) || !late.Purged() || !late.NotApplied() {
		t.Fatalf("got %v, want an error that says that everything was collected", err)
	}
}

func wantSiblings(t *testing.T, s *Store, key ring.Key, want ...string) {
	t.Helper()
	got := []string{}
	for _, v := range stored(t, s, key).Siblings {
		if v.Tombstone {
			got = append(got, "-")
		} else {
			got = append(got, string(v.Value))
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q holds %q, want %q", key.Name, got, want)
	}
}

func encoded(o vclock.Object) []byte { return vclock.AppendObject(nil, o) }

// One key on two owners: written, deleted and collected. What comes from before is refused, what is new is taken.
func TestLateVersionsAreRefused(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), Now: newTestClock().Now})
	defer mustClose(t, s)
	key, class := testKey(1), classOf(s, testKey(1))
	first := update(t, s, key, vclock.Sibling{Value: []byte("first"), Time: 10})
	beside, _ := vclock.Object{}.Put(5, vclock.Clock{}, vclock.Sibling{Value: []byte("beside"), Time: 20})
	merge(t, s, key, beside)
	deleted := update(t, s, key, vclock.Sibling{Tombstone: true, Time: 30})
	if got := collect(t, s, class, 30); got != 1 {
		t.Fatalf("%d objects dropped, want 1", got)
	}
	if o := stored(t, s, key); !o.Empty() {
		t.Fatalf("%+v is left", o)
	}
	for name, o := range map[string]vclock.Object{"the value": first, "another's value": beside, "the tombstone": deleted} {
		t.Run(name, func(t *testing.T) {
			wantPurged(t, s.Merge(key, encoded(o)))
			if o := stored(t, s, key); !o.Empty() {
				t.Fatalf("%+v is back", o)
			}
		})
	}
	// A version written later on another owner, beside the late one.
	later, _ := beside.Put(6, vclock.Clock{}, vclock.Sibling{Value: []byte("later"), Time: 40})
	merge(t, s, key, later)
	wantSiblings(t, s, key, "later")
	if o := stored(t, s, key); !o.Clock.Covers(beside.Clock) {
		t.Fatalf("the stored clock %+v has not seen what was refused", o.Clock)
	}
	wantPurged(t, s.Merge(key, encoded(first))) // what is stored has not seen it
	merge(t, s, key, beside)                    // this it has: an ordinary merge
	wantSiblings(t, s, key, "later")
	// Whoever held the late version hears of the result.
	if got := vclock.Merge(later, stored(t, s, key)); len(got.Siblings) != 1 {
		t.Fatalf("the other side is left with %+v", got.Siblings)
	}
	if got := s.Stats(); got.LateVersions != 5 || got.Purged != 1 {
		t.Fatalf("%d late versions, %d purged", got.LateVersions, got.Purged)
	}
	wantConsistent(t, s)
}

// An expired value is collected like a tombstone.
func TestExpiredValuesAreCollected(t *testing.T) {
	clock := newTestClock()
	s := mustOpen(t, Config{Dir: t.TempDir(), Now: clock.Now})
	defer mustClose(t, s)
	key := testKey(1)
	at := clock.now()
	o := update(t, s, key, vclock.Sibling{Value: []byte("v"), Time: at, Expiry: at + 100})
	if got := collect(t, s, classOf(s, key), at+99); got != 0 {
		t.Fatal("collected before it had expired")
	}
	wantSiblings(t, s, key, "v")
	if got := collect(t, s, classOf(s, key), at+100); got != 1 {
		t.Fatalf("%d dropped, want 1", got)
	}
	wantPurged(t, s.Merge(key, encoded(o)))
	wantConsistent(t, s)
}

// A key is written again after it was collected here, while another owner still has the tombstone: neither swallows the other.
func TestCreatedAgainBesideAnOldTombstone(t *testing.T) {
	a, b := mustOpen(t, Config{Dir: t.TempDir()}), mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, a)
	defer mustClose(t, b)
	key := testKey(1)
	for range 5 {
		update(t, a, key, vclock.Sibling{Value: []byte("old")})
	}
	tombstone := update(t, a, key, vclock.Sibling{Tombstone: true})
	merge(t, b, key, tombstone)
	at := tombstone.MaxTime()
	for _, s := range []*Store{a, b} {
		for _, step := range []func([]ring.Class, uint64) error{s.SetFence, s.SetWatermark} {
			if err := step(classOf(s, key), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.SetReleased(classOf(a, key), at); err != nil {
		t.Fatal(err)
	}
	if got := purgeAll(t, a, classOf(a, key)); got != 1 {
		t.Fatalf("%d dropped", got)
	}
	again := update(t, a, key, vclock.Sibling{Value: []byte("new")})
	if dot := again.Siblings[0].Dot; dot.Counter != 7 || again.Siblings[0].Time <= at {
		t.Fatalf("the new version is %v at %d, want counter 7 and a time after %d", dot, again.Siblings[0].Time, at)
	}
	merge(t, b, key, again)
	wantSiblings(t, b, key, "new")
	merge(t, a, key, tombstone) // seen, for its dot is below the floor
	wantSiblings(t, a, key, "new")

	// The same where the tombstone is another's, which the new version has not seen.
	other := testKey(2)
	dead, _ := vclock.Object{}.Put(9, vclock.Clock{}, vclock.Sibling{Tombstone: true, Time: 1})
	merge(t, a, other, dead)
	merge(t, b, other, dead)
	if got := collect(t, a, classOf(a, other), at); got != 1 {
		t.Fatalf("%d dropped", got)
	}
	again = update(t, a, other, vclock.Sibling{Value: []byte("new")})
	merge(t, b, other, again)
	wantSiblings(t, b, other, "new", "-") // until b collects, or hears from a
	merge(t, a, other, stored(t, b, other))
	wantSiblings(t, a, other, "new")
	merge(t, b, other, stored(t, a, other))
	wantSiblings(t, b, other, "new")
	if got, want := encoded(stored(t, a, other)), encoded(stored(t, b, other)); !slices.Equal(got, want) {
		t.Fatal("the owners differ")
	}
}

// A key that was collected here comes back with an old clock; the next version of it does not get a dot that was used before.
func TestCounterFloorHoldsForKeysThatCameBack(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := mustOpen(t, cfg)
	key := testKey(1)
	early := update(t, s, key, vclock.Sibling{Value: []byte("1")})
	for range 5 {
		update(t, s, key, vclock.Sibling{Value: []byte("x")})
	}
	gone := update(t, s, key, vclock.Sibling{Tombstone: true})
	collect(t, s, classOf(s, key), gone.MaxTime())
	back, _ := early.Put(5, early.Clock, vclock.Sibling{Value: []byte("from an old disk"), Time: gone.MaxTime() + 10})
	merge(t, s, key, back)
	mustClose(t, s) // clean: the incarnation is used again, and the floor must be known
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	next := update(t, s, key, vclock.Sibling{Value: []byte("next")})
	if dot := next.Siblings[0].Dot; gone.Clock.Contains(dot) {
		t.Fatalf("dot %v was used before", dot)
	}
	if got := vclock.Merge(gone, next); len(got.Siblings) != 1 || string(got.Siblings[0].Value) != "next" {
		t.Fatalf("a replica that still has the tombstone shows %+v", got.Siblings)
	}
}

// A new incarnation begins at 1.
func TestFloorIsOfOneIncarnation(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	var o vclock.Object
	for i := range 9 {
		o, _ = o.Put(5, o.Clock, vclock.Sibling{Tombstone: true, Time: uint64(i + 1)})
	}
	merge(t, s, key, o)
	collect(t, s, classOf(s, key), 100)
	if dot := update(t, s, key, vclock.Sibling{Value: []byte("v")}).Siblings[0].Dot; dot != (vclock.Dot{Actor: s.Incarnation(), Counter: 1}) {
		t.Fatalf("the first dot is %v", dot)
	}
}

// Where objects have vanished from a leaf nothing is refused as collected: it may be what is missing. The class is distrusted.
func TestNothingIsCalledCollectedWhereObjectsHaveVanished(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: -1})
	defer mustClose(t, s)
	key := testKey(1)
	o := update(t, s, key, vclock.Sibling{Value: []byte("v"), Time: 10})
	collect(t, s, classOf(s, key), 20)
	if err := s.db.Delete(appendDataKey(nil, key), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(key, encoded(o)); err != nil {
		t.Fatal(err)
	}
	wantSiblings(t, s, key, "v")
	if got := s.Marks(classOf(s, key)[0]); got.Watermark != 0 || got.Released != 0 || got.Fence != 20 {
		t.Fatalf("marks %+v, want only the fence", got)
	}
	if got := s.Stats().WrongLeaves; got != 1 {
		t.Fatalf("%d wrong leaves", got)
	}
}

// Where another object of the leaf is damaged nobody knows what is missing.
func TestDamageProvesNothing(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), CacheBytes: -1})
	defer s.Close()
	key := testKey(1)
	neighbour := sameLeaf(t, key)
	gone := update(t, s, key, vclock.Sibling{Tombstone: true, Time: 10})
	update(t, s, neighbour, vclock.Sibling{Value: []byte("v"), Time: 11})
	if got := collect(t, s, classOf(s, key), 20); got != 1 {
		t.Fatal("not collected")
	}
	wantPurged(t, s.Merge(key, encoded(gone)))
	if err := s.db.Put(appendDataKey(nil, neighbour), append(make([]byte, digestLen), object1...), nil); err != nil {
		t.Fatal(err)
	}
	var late interface{ Purged() bool }
	if err := s.Merge(key, encoded(gone)); !errors.Is(err, ErrCorrupt) || errors.As(err, &late) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
	if o := stored(t, s, key); !o.Empty() {
		t.Fatalf("%+v is back", o)
	}
}

// sameLeaf finds another key in the leaf of a key.
func sameLeaf(t *testing.T, key ring.Key) ring.Key {
	for i := range 50_000_000 {
		if k := ring.NewKey(key.Bucket, fmt.Sprint("n", i)); ring.Leaf(k.Token) == ring.Leaf(key.Token) {
			return k
		}
	}
	t.Fatal("no key found")
	return ring.Key{}
}

// While trees are being computed a late version is neither taken nor called collected: it is to come again.
func TestLateVersionsWaitForUnsoundTrees(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	class := classOf(s, key)
	gone := update(t, s, key, vclock.Sibling{Tombstone: true, Time: 10})
	collect(t, s, class, 20)
	s.trees.sound[class[0].Partition].Store(false)
	var late interface {
		Purged() bool
		NotApplied() bool
	}
	if err := s.Merge(key, encoded(gone)); !errors.Is(err, ErrUnsound) || !errors.As(err, &late) || late.Purged() || !late.NotApplied() {
		t.Fatalf("got %v, want ErrUnsound", err)
	}
	fresh, _ := vclock.Object{}.Put(5, vclock.Clock{}, vclock.Sibling{Value: []byte("new"), Time: 21})
	merge(t, s, key, fresh)
	wantSiblings(t, s, key, "new")
	for what, err := range map[string]error{
		"fence": s.SetFence(class, 30), "watermark": s.SetWatermark(class, 30), "purge": func() error { _, _, err := s.Purge(class[0], 1); return err }(),
	} {
		if !errors.Is(err, ErrUnsound) {
			t.Errorf("%s: %v, want ErrUnsound", what, err)
		}
	}
	s.trees.sound[class[0].Partition].Store(true)
	wantConsistent(t, s)
}

// A store that was set back to a state from before a delete holds what was deleted. The delete, though collected elsewhere and below the
// watermark here, is taken.
func TestLateDeleteOfWhatIsStillHereIsTaken(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	key := testKey(1)
	o := update(t, s, key, vclock.Sibling{Value: []byte("v"), Time: 10})
	deleted, _ := o.Put(5, o.Clock, vclock.Sibling{Tombstone: true, Time: 15})
	collect(t, s, classOf(s, key), 20)
	merge(t, s, key, deleted)
	wantSiblings(t, s, key, "-")
}
