package storage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

var (
	nodeA = ring.NodeID(strings.Repeat("a", 32))
	nodeB = ring.NodeID(strings.Repeat("b", 32))
)

// heldHint is a Hint to keep.
type heldHint struct {
	Hint
	values []string
}

func hintsOf(t testing.TB, s *Store, target ring.NodeID, after *ring.Key) (out []heldHint) {
	t.Helper()
	err := s.Hints(target, after, func(h Hint) bool {
		out = append(out, heldHint{h, values(t, h.Object)})
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustHint(t testing.TB, s *Store, target ring.NodeID, key ring.Key, object []byte) {
	t.Helper()
	if err := s.Hint(target, key, object); err != nil {
		t.Fatal(err)
	}
}

func TestKeptHintsAreJoined(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k := ring.NewKey("b", "k\x00\xff")
	mustHint(t, s, nodeA, k, object(1, 1, "one"))
	first := hintsOf(t, s, nodeA, nil)[0]
	mustHint(t, s, nodeA, k, object(2, 2, "two"))
	mustHint(t, s, nodeB, k, object(1, 2, "one more"))
	a, b := hintsOf(t, s, nodeA, nil), hintsOf(t, s, nodeB, nil)
	if len(a) != 1 || a[0].Key != k || a[0].Own || !slices.Equal(a[0].values, []string{"two", "one"}) || a[0].Version == first.Version {
		t.Errorf("a is to get %+v", a)
	}
	if len(b) != 1 || !slices.Equal(b[0].values, []string{"one more"}) {
		t.Errorf("b is to get %+v", b)
	}
	all, digest, err := s.HintFor(k)
	if err != nil || digest != ring.Digest(all) || !slices.Equal(values(t, all), []string{"two", "one more"}) {
		t.Errorf("for all: %q, %v", values(t, all), err)
	}
	if none, digest, err := s.HintFor(testKey(1)); none != nil || digest != 0 || err != nil {
		t.Errorf("nothing is kept: %x, %x, %v", none, digest, err)
	}
	if object, _, err := s.Get(k); object != nil || err != nil {
		t.Errorf("what is kept for others is read as an object: %x, %v", object, err)
	}
	if err := s.DropHint(nodeA, k, first.Version); err != nil || len(hintsOf(t, s, nodeA, nil)) != 1 {
		t.Errorf("a hint that has changed was dropped (%v)", err)
	}
	for range 2 {
		if err := s.DropHint(nodeA, k, a[0].Version); err != nil || len(hintsOf(t, s, nodeA, nil)) != 0 || len(hintsOf(t, s, nodeB, nil)) != 1 {
			t.Errorf("the wrong hints are left (%v)", err)
		}
	}
	if what := s.miscounted(t); what != "" {
		t.Error(what)
	}
}

// A hint of an own object is the object as it is when it is handed over.
func TestOwnHintsAreReferences(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k := testKey(1)
	mustHint(t, s, nodeA, k, nil)
	if got := hintsOf(t, s, nodeA, nil); len(got) != 1 || !got[0].Own || got[0].Object != nil {
		t.Errorf("of nothing: %+v", got)
	}
	mustPut(t, s, k, "v")
	mustPut(t, s, k, "w")
	before := hintsOf(t, s, nodeA, nil)[0]
	if !before.Own || !slices.Equal(before.values, []string{"w"}) {
		t.Errorf("got %+v", before)
	}
	if object, _, err := s.HintFor(k); object != nil || err != nil {
		t.Errorf("an own object is kept for others: %x, %v", object, err)
	}
	mustPut(t, s, k, "x")
	mustHint(t, s, nodeA, k, nil)
	if err := s.DropHint(nodeA, k, before.Version); err != nil || len(hintsOf(t, s, nodeA, nil)) != 1 {
		t.Errorf("a write since was forgotten (%v)", err)
	}
	s.background.Wait() // what an earlier run left is counted by then
	if n, known := s.HintsIn(partitionOf(k.Token, testPartitions)); n != 0 || !known {
		t.Errorf("%d kept hints (%v)", n, known)
	}
}

// One that was a stand-in and is an owner now, or the other way round, forgets nothing of either.
func TestOwnAndKeptHintsOfOneKey(t *testing.T) {
	for _, keptFirst := range []bool{true, false} {
		s := mustOpen(t, Config{Dir: t.TempDir()})
		k := testKey(1)
		mustPut(t, s, k, "own")
		steps := []func(){func() { mustHint(t, s, nodeA, k, object(9, 1, "kept")) }, func() { mustHint(t, s, nodeA, k, nil) }}
		if !keptFirst {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			step()
		}
		got := hintsOf(t, s, nodeA, nil)
		if len(got) != 1 || got[0].Own {
			t.Fatalf("got %+v", got)
		}
		if slices.Sort(got[0].values); !slices.Equal(got[0].values, []string{"kept", "own"}) {
			t.Errorf("kept first %v: a is to get %q", keptFirst, got[0].values)
		}
		if what := s.miscounted(t); what != "" {
			t.Error(what)
		}
		mustClose(t, s)
	}
}

func TestHintsGoOnAfterAKey(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	for i := range 50 {
		mustHint(t, s, nodeA, testKey(i), object(1, 1, "v"))
		mustHint(t, s, nodeB, testKey(i), nil)
	}
	all := hintsOf(t, s, nodeA, nil)
	if len(all) != 50 || !slices.IsSortedFunc(all, func(a, b heldHint) int { return bytes.Compare(appendDataKey(nil, a.Key), appendDataKey(nil, b.Key)) }) {
		t.Fatalf("%d hints, or out of order", len(all))
	}
	for i, h := range all {
		rest := hintsOf(t, s, nodeA, &h.Key)
		if len(rest) != 49-i || len(rest) > 0 && rest[0].Key != all[i+1].Key {
			t.Fatalf("%d hints after the %d-th", len(rest), i)
		}
	}
	gone := ring.Key{Bucket: "b", Name: "none", Token: all[20].Key.Token}
	if rest := hintsOf(t, s, nodeA, &gone); len(rest) < 29 {
		t.Errorf("%d hints after a key that is gone", len(rest))
	}
	n := 0
	if err := s.Hints(nodeA, nil, func(Hint) bool { n++; return n < 7 }); err != nil || n != 7 {
		t.Errorf("stopped after %d (%v)", n, err)
	}
}

// Over the limit a hint is refused, and what it was about is marked as divergent until somebody has mended it.
func TestHintLimit(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	cfg.HintLimit = 2000
	s := mustOpen(t, cfg)
	value := strings.Repeat("v", 3000)
	mustHint(t, s, nodeA, testKey(1), object(1, 1, value)) // the first always
	for i, o := range [][]byte{nil, object(1, 1, "v")} {
		if err := s.Hint(nodeA, testKey(2+i), o); !errors.Is(err, ErrHintLimit) {
			t.Errorf("got %v, want ErrHintLimit", err)
		}
	}
	if err := s.Hint(nodeA, testKey(1), object(2, 1, "more")); !errors.Is(err, ErrHintLimit) {
		t.Errorf("a hint that grows: %v", err)
	}
	mustHint(t, s, nodeA, testKey(1), object(1, 2, "")) // less
	mustHint(t, s, nodeB, testKey(1), nil)
	for i := range 12 {
		mustHint(t, s, nodeA, testKey(100+i), nil)
	}
	var want []int
	for i := 1; i <= 3; i++ {
		if p := partitionOf(testKey(i).Token, testPartitions); !slices.Contains(want, p) {
			want = append(want, p)
		}
	}
	slices.Sort(want)
	for range 2 {
		s.background.Wait()
		stats, known := s.HintStats()
		if !known || len(stats) != 2 || stats[0].Count != 13 || !slices.Equal(stats[0].Divergent, want) || stats[1].Divergent != nil {
			t.Fatalf("%+v (%v), want %v to be divergent", stats, known, want)
		}
		if what := s.miscounted(t); what != "" {
			t.Error(what)
		}
		mustClose(t, s)
		s = mustOpen(t, cfg)
	}
	for _, p := range append(want, 15) {
		if err := errors.Join(s.Undiverge(nodeA, p), s.Undiverge(nodeB, p)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	if stats, _ := s.HintStats(); len(stats) > 0 && stats[0].Divergent != nil {
		t.Errorf("still divergent: %+v", stats)
	}
}

func TestHintsNeedThePartitionCount(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	for what, err := range map[string]error{"hint": s.Hint(nodeA, testKey(1), nil), "drop": s.DropHint(nodeA, testKey(1), 1)} {
		if !errors.Is(err, ErrPartitions) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, known := s.HintStats(); known {
		t.Error("the hints are known")
	}
}

func TestHintAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, small(t, memdisk.New()))
		began := time.Now().UnixNano()
		for i := range 5 {
			mustHint(t, s, nodeA, testKey(i), nil)
			time.Sleep(10 * time.Minute)
		}
		mustHint(t, s, nodeA, testKey(0), nil) // as old as it was
		for i := range 5 {
			stats, _ := s.HintStats()
			if want := began + int64(i)*int64(10*time.Minute); stats[0].Oldest != want || stats[0].Count != int64(5-i) {
				t.Errorf("%d dropped: %+v, want the oldest of %d", i, stats, want)
			}
			for _, h := range hintsOf(t, s, nodeA, nil) {
				if h.Key == testKey(i) {
					if err := s.DropHint(nodeA, h.Key, h.Version); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if stats, known := s.HintStats(); len(stats) != 0 || !known {
			t.Errorf("nothing is left: %+v", stats)
		}
		mustClose(t, s)
		time.Sleep(2 * time.Second) // a goroutine of goleveldb
	})
}

// What an earlier run left is counted while hints come and go.
func TestHintsAreCountedBesideWrites(t *testing.T) {
	cfg := small(t, memdisk.New())
	s := mustOpen(t, cfg)
	for i := range 2000 {
		o := object(1, 1, "v")
		if i%3 == 0 {
			o = nil
		}
		mustHint(t, s, nodeA, testKey(i), o)
	}
	for range 5 {
		mustClose(t, s)
		s = mustOpen(t, cfg)
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := w; i < 200; i += 4 {
					key, target := testKey(i*7), nodeA
					if i%5 == 0 {
						target = nodeB
					}
					if err := s.Hint(target, key, object(2, 1, "w")); err != nil {
						t.Error(err)
					}
					if i%2 == 0 {
						for _, h := range hintsOf(t, s, target, nil)[:1] {
							if err := s.DropHint(target, h.Key, h.Version); err != nil {
								t.Error(err)
							}
						}
					}
				}
			})
		}
		writers.Wait()
		if what := s.miscounted(t); what != "" {
			t.Fatal(what)
		}
	}
	mustClose(t, s)
}

// oneValuePerDot makes an object of one history fit those of others: as in a real cluster, a dot names one version.
func oneValuePerDot(o vclock.Object) vclock.Object {
	for i := range o.Siblings {
		s := &o.Siblings[i]
		s.Time, s.Tombstone, s.Value = uint64(s.Dot.Actor)*1000+s.Dot.Counter, s.Dot.Counter%3 == 0, nil
		if !s.Tombstone {
			s.Value = fmt.Append(nil, s.Dot)
		}
	}
	slices.SortFunc(o.Siblings, func(a, b vclock.Sibling) int { return cmp.Compare(b.Time, a.Time) })
	return o
}

// modelHint is what should be kept.
type modelHint struct {
	own     bool
	object  vclock.Object
	version uint64
}

func TestHintsAreTheModel(t *testing.T) {
	test := t
	rapid.Check(t, func(rt *rapid.T) {
		cfg := small(t, memdisk.New())
		s := mustOpen(t, cfg)
		defer func() { mustClose(test, s) }()
		model := map[ring.NodeID]map[ring.Key]modelHint{nodeA: {}, nodeB: {}}
		target := rapid.SampledFrom([]ring.NodeID{nodeA, nodeB})
		look := func(t *rapid.T) {
			for id, want := range model {
				n := 0
				err := s.Hints(id, nil, func(h Hint) bool {
					n++
					m, there := want[h.Key]
					if !there || h.Own != m.own {
						t.Fatalf("hint of %q: own %v, want %+v (%v)", h.Key.Name, h.Own, m, there)
					}
					o := m.object
					if h.Own {
						object, _, err := s.Get(h.Key)
						if err != nil || !bytes.Equal(object, h.Object) {
							t.Fatalf("own object %x, %v; handed over %x", object, err, h.Object)
						}
					} else if !bytes.Equal(h.Object, vclock.AppendObject(nil, o)) {
						t.Fatalf("kept %x, want %x", h.Object, vclock.AppendObject(nil, o))
					}
					m.version = h.Version
					want[h.Key] = m
					return true
				})
				if err != nil || n != len(want) {
					t.Fatalf("%d hints, %v; want %d", n, err, len(want))
				}
			}
			if what := s.miscounted(test); what != "" {
				t.Fatal(what)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				if _, err := put(s, drawKey(t), fmt.Sprint(rapid.Int().Draw(t, "value"))); err != nil {
					t.Fatal(err)
				}
			},
			"own": func(t *rapid.T) {
				id, k := target.Draw(t, "target"), drawKey(t)
				if err := s.Hint(id, k, nil); err != nil {
					t.Fatal(err)
				}
				m, there := model[id][k]
				if !there || m.own {
					m.own = true
				} else if object, _, err := s.Get(k); err != nil {
					t.Fatal(err)
				} else if object != nil {
					o, err := vclock.DecodeObject(object)
					if err != nil {
						t.Fatal(err)
					}
					m.object = vclock.Merge(m.object, o)
				}
				model[id][k] = m
			},
			"keep": func(t *rapid.T) {
				id, k, o := target.Draw(t, "target"), drawKey(t), oneValuePerDot(history(t)[0])
				err := s.Hint(id, k, vclock.AppendObject(nil, o))
				if o.Empty() {
					if err == nil {
						t.Fatal("an empty object was kept")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				m := model[id][k]
				if m.own {
					if object, _, err := s.Get(k); err != nil {
						t.Fatal(err)
					} else if object != nil {
						if m.object, err = vclock.DecodeObject(object); err != nil {
							t.Fatal(err)
						}
					}
				}
				m.own, m.object = false, vclock.Merge(o, m.object)
				model[id][k] = m
			},
			"drop": func(t *rapid.T) {
				id, k := target.Draw(t, "target"), drawKey(t)
				m, there := model[id][k]
				wrong := rapid.Bool().Draw(t, "another version")
				if wrong {
					m.version++
				}
				if err := s.DropHint(id, k, m.version); err != nil {
					t.Fatal(err)
				}
				if there && !wrong {
					delete(model[id], k)
				}
			},
			"for": func(t *rapid.T) {
				k := drawKey(t)
				var want vclock.Object
				for _, id := range []ring.NodeID{nodeA, nodeB} {
					if m, there := model[id][k]; there && !m.own {
						want = vclock.Merge(want, m.object)
					}
				}
				got, digest, err := s.HintFor(k)
				switch {
				case err != nil:
					t.Fatal(err)
				case want.Empty() && (got != nil || digest != 0):
					t.Fatalf("nothing is kept, got %x", got)
				case !want.Empty() && (!bytes.Equal(got, vclock.AppendObject(nil, want)) || digest != ring.Digest(got)):
					t.Fatalf("got %x, want %x", got, vclock.AppendObject(nil, want))
				}
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "seldom") == 0 {
					mustClose(test, s)
					s = mustOpen(test, cfg)
				}
			},
			"": look,
		})
	})
}
