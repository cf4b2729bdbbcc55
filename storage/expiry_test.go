package storage

import (
	"errors"
	"maps"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// The index entry tells the state that the object has, at any time, and is read as it was written.
func TestIndexEntryIsTheObjectsState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o vclock.Object
		for i := range rapid.IntRange(1, 4).Draw(t, "siblings") {
			v := vclock.Sibling{Time: uint64(i + 1), Tombstone: rapid.IntRange(0, 3).Draw(t, "delete") == 0}
			if !v.Tombstone && rapid.Bool().Draw(t, "expires") {
				v.Expiry = uint64(rapid.IntRange(1, 6).Draw(t, "expiry"))
			}
			one, _ := vclock.Object{}.Put(vclock.Actor(i+1), vclock.Clock{}, v)
			o = vclock.Merge(o, one)
		}
		e := entryOf(o)
		encoded := e.append(nil)
		again, err := parseEntry(encoded)
		if err != nil || again != e {
			t.Fatalf("%x of %+v is read as %+v, %v", encoded, e, again, err)
		}
		for now := range uint64(8) {
			if got, want := e.at(now), o.StateAt(now); got != want {
				t.Fatalf("at %d: got %v, want %v of %+v", now, got, want, o)
			}
		}
		if got, want := e.at(math.MaxUint64), o.StateAt(math.MaxUint64); got != want {
			t.Fatalf("at the end of time: got %v, want %v of %+v", got, want, o)
		}
	})
	for _, bad := range [][]byte{{}, {0}, {4}, {1, 0}, {2, 0, 0, 0, 0, 0, 0, 0, 9}, append([]byte{1}, make([]byte, 16)...), append([]byte{3}, make([]byte, 16)...)} {
		if e, err := parseEntry(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x is read as %+v, %v", bad, e, err)
		}
	}
}

func TestListHidesWhatHasExpired(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Dir: t.TempDir(), Now: clock.Now}
	s := mustOpen(t, cfg)
	defer func() { mustClose(t, s) }()
	start := clock.now()
	mustPut(t, s, testKey(0), "stays")
	update(t, s, testKey(1), vclock.Sibling{Value: []byte("v"), Time: start, Expiry: start + 10})
	update(t, s, testKey(2), vclock.Sibling{Value: []byte("v"), Time: start, Expiry: start + 10})
	beside, _ := vclock.Object{}.Put(5, vclock.Clock{}, vclock.Sibling{Value: []byte("beside"), Time: start, Expiry: start + 20})
	merge(t, s, testKey(2), beside)
	lasting, _ := vclock.Object{}.Put(5, vclock.Clock{}, vclock.Sibling{Value: []byte("lasting"), Time: start})
	update(t, s, testKey(3), vclock.Sibling{Value: []byte("v"), Time: start, Expiry: start + 10})
	merge(t, s, testKey(3), lasting)
	list := func() map[string]vclock.State {
		out := map[string]vclock.State{}
		if err := s.List("b", "", allPartitions(), -1, "", func(_ int, name string, state vclock.State) bool {
			out[name] = state
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := func(states ...vclock.State) {
		t.Helper()
		m := map[string]vclock.State{}
		for i, st := range states {
			m[testKey(i).Name] = st
		}
		if got := list(); !maps.Equal(got, m) {
			t.Fatalf("listed %v, want %v", got, m)
		}
	}
	const l, d, m = vclock.Live, vclock.Deleted, vclock.Mixed
	want(l, l, l, l)
	clock.nanos.Add(9)
	want(l, l, l, l)
	clock.nanos.Add(1)
	want(l, d, m, m)
	mustClose(t, s)
	s = mustOpen(t, cfg)
	want(l, d, m, m)
	clock.nanos.Add(10)
	want(l, d, d, m)
	update(t, s, testKey(1), vclock.Sibling{Value: []byte("again")}) // for good
	want(l, l, d, m)
	s.background.Wait()
	if got := s.Stats().LiveKeys; got != 4 {
		t.Fatalf("%d live keys, want 4: what has expired counts until it is collected", got)
	}
	collect(t, s, s.Classes(), clock.now())
	if got := s.Stats().LiveKeys; got != 3 {
		t.Fatalf("%d live keys after collection, want 3", got)
	}
	wantConsistent(t, s)
}

// Tombstones counts values when their time has come, and not before; over restarts; many of them.
func TestTombstonesCountWhatIsDue(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Dir: t.TempDir(), Now: clock.Now}
	s := mustOpen(t, cfg)
	defer func() { mustClose(t, s) }()
	start := clock.now()
	count := func() (n int64, oldest uint64) {
		t.Helper()
		wantConsistent(t, s) // which compares the counts
		oldest = math.MaxUint64
		for _, st := range s.Tombstones() {
			n += st.Count
			oldest = min(oldest, st.Oldest)
		}
		return n, oldest
	}
	want := func(n int64, oldest uint64) {
		t.Helper()
		if got, at := count(); got != n || n > 0 && at != oldest {
			t.Fatalf("%d wait since %d, want %d since %d", got, at, n, oldest)
		}
	}
	want(0, 0)
	const keys = 300
	for i := range keys {
		v := vclock.Sibling{Time: start, Value: []byte("v"), Expiry: start + uint64(i) + 1}
		if i%3 == 0 {
			v = vclock.Sibling{Time: start - 7, Tombstone: true}
		}
		update(t, s, testKey(i), v)
	}
	want(keys/3, start-7)
	clock.nanos.Add(150)
	want(keys/3+100, start-7)
	mustClose(t, s)
	s = mustOpen(t, cfg)
	want(keys/3+100, start-7)
	if got := collect(t, s, s.Classes(), start-1); got != keys/3 {
		t.Fatalf("%d collected", got)
	}
	want(100, start+2)
	for i := range keys {
		if i%3 == 1 {
			update(t, s, testKey(i), vclock.Sibling{Value: []byte("written again")})
		}
	}
	want(50, start+3)
	clock.nanos.Add(1000)
	want(100, start+3)
	if got := collect(t, s, s.Classes(), clock.now()); got != 100 {
		t.Fatalf("%d collected", got)
	}
	want(0, 0)
	clock.nanos.Add(-5000) // a clock that is set back counts nothing twice
	update(t, s, testKey(1), vclock.Sibling{Tombstone: true})
	if n := s.Tombstones(); len(n) != 0 {
		t.Fatalf("%v is due before its time", n)
	}
	clock.nanos.Add(50_000)
	want(1, s.Tombstones()[0].Oldest)
}

// A backlog that is large is counted in steps.
func TestLargeBacklogIsCounted(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Dir: t.TempDir(), Now: clock.Now}
	s := mustOpen(t, cfg)
	const keys = 40_000 // 2,500 in a partition
	for i := range keys {
		o, _ := vclock.Object{}.Put(5, vclock.Clock{}, vclock.Sibling{Time: uint64(i % 7), Tombstone: true})
		merge(t, s, testKey(i), o)
	}
	check := func() {
		t.Helper()
		s.background.Wait()
		n := int64(0)
		for range 5 {
			n = 0
			for _, st := range s.Tombstones() {
				n += st.Count
			}
		}
		if n != keys {
			t.Fatalf("%d counted, want %d", n, keys)
		}
	}
	check()
	mustClose(t, s)
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	check()
	c := s.Classes()[0]
	if err := errors.Join(s.SetFence([]ring.Class{c}, 100), s.SetWatermark([]ring.Class{c}, 100), s.SetReleased([]ring.Class{c}, 100)); err != nil {
		t.Fatal(err)
	}
	if n, more, err := s.Purge(c, 100); n != 100 || !more || err != nil {
		t.Fatalf("purged %d, more %v, %v", n, more, err)
	}
}
