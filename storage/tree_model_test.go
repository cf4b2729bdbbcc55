package storage

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// treeModel is a store with what it should hold, and everything that was ever said of its keys.
type treeModel struct {
	test  *testing.T
	disk  *memdisk.Disk
	cfg   Config
	s     *Store
	clock *testClock
	n     map[string]int // settings: replica counts

	want       map[ring.Key]vclock.Object
	sent       map[ring.Key][]vclock.Object // objects that this store held, or another: they may come once more
	minted     map[string]bool
	watermarks [maxReplicas + 1]uint64 // of all classes, by n
	others     uint64                  // dots of other actors
	crashes    uint64
}

func (m *treeModel) key(t *rapid.T) ring.Key {
	return ring.NewKey(rapid.SampledFrom([]string{"a", "b", "five"}).Draw(t, "bucket"), rapid.SampledFrom([]string{"k", "l", "m\x00"}).Draw(t, "name"))
}

func (m *treeModel) watermark(k ring.Key) uint64 { return m.watermarks[m.n[k.Bucket]] }

func (m *treeModel) time() uint64 { return uint64(m.clock.nanos.Add(10)) }

func (m *treeModel) hold(k ring.Key, o vclock.Object) {
	m.want[k] = o
	m.sent[k] = append(m.sent[k], o)
}

// version draws a value, one that expires, or a tombstone.
func (m *treeModel) version(t *rapid.T, at uint64) vclock.Sibling {
	v := vclock.Sibling{Time: at}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		v.Tombstone = true
		return v
	case 1:
		v.Expiry = at + uint64(rapid.IntRange(0, 60).Draw(t, "ttl"))
	}
	v.Value = fmt.Append(nil, at)
	return v
}

func (m *treeModel) update(t *rapid.T) {
	k := m.key(t)
	blind := rapid.Bool().Draw(t, "blind")
	v := m.version(t, 0)
	var given vclock.Object
	object, digest, err := m.s.Update(k, func(o vclock.Object, after uint64) (vclock.Object, error) {
		given = o
		if v.Time = max(m.time(), o.MaxTime()+1, after+1); after < m.watermark(k) {
			t.Fatalf("minted after %d, and the watermark is %d", after, m.watermark(k))
		}
		if v.Expiry > 0 {
			v.Expiry += v.Time
		}
		ctx := o.Clock
		if blind {
			ctx = vclock.Clock{}
		}
		out, dot := o.Put(m.s.Incarnation(), ctx, v)
		name := fmt.Sprint(k, dot)
		if m.minted[name] {
			t.Fatalf("dot %v of %q was issued twice", dot, k.Name)
		}
		m.minted[name] = true
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !given.Clock.Covers(m.want[k].Clock) || !slices.EqualFunc(given.Siblings, m.want[k].Siblings, func(a, b vclock.Sibling) bool { return same(&a, &b) }) {
		t.Fatalf("update of %q was given %+v, the store held %+v", k.Name, given, m.want[k])
	}
	o := mustDecode(m.test, object)
	if digest != ring.Digest(object) {
		t.Fatal("wrong digest")
	}
	m.hold(k, o)
}

// merge has another actor's version come, written over what it knew of the key.
func (m *treeModel) merge(t *rapid.T) {
	k := m.key(t)
	var base vclock.Object
	if sent := m.sent[k]; len(sent) > 0 && rapid.Bool().Draw(t, "knows") {
		base = sent[rapid.IntRange(0, len(sent)-1).Draw(t, "what")]
	}
	m.others++
	o, _ := base.Put(vclock.Actor(m.others), base.Clock, m.version(t, max(m.time(), base.MaxTime()+1)))
	m.arrive(t, k, o)
}

// again has something come that came before, or that was here.
func (m *treeModel) again(t *rapid.T) {
	k := m.key(t)
	if sent := m.sent[k]; len(sent) > 0 {
		m.arrive(t, k, sent[rapid.IntRange(0, len(sent)-1).Draw(t, "what")])
	}
}

func (m *treeModel) arrive(t *rapid.T, k ring.Key, o vclock.Object) {
	old := m.want[k]
	left := vclock.Object{Clock: o.Clock}
	for _, v := range o.Siblings {
		if v.Time > m.watermark(k) || old.Clock.Contains(v.Dot) {
			left.Siblings = append(left.Siblings, v)
		}
	}
	err := m.s.Merge(k, vclock.AppendObject(nil, o))
	var purged interface{ Purged() bool }
	switch {
	case errors.As(err, &purged) && purged.Purged():
		if len(left.Siblings) > 0 {
			t.Fatalf("%+v was refused as collected, and %+v is left of it", o, left)
		}
	case err != nil:
		t.Fatal(err)
	case len(left.Siblings) == 0:
		t.Fatalf("%+v was taken, and all of it was collected (watermark %d, stored %+v)", o, m.watermark(k), old)
	default:
		m.hold(k, vclock.Merge(old, left))
	}
}

// collect is a round with everything up to now, or to a little while ago; some time after the watermark, or never, this store purges.
func (m *treeModel) collect(t *rapid.T) {
	at := m.clock.now() - uint64(rapid.IntRange(0, 50).Draw(t, "ago"))
	classes := m.classes()
	if err := m.s.SetFence(classes, at); err != nil {
		t.Fatal(err)
	}
	if err := m.s.SetWatermark(classes, at); err != nil {
		t.Fatal(err)
	}
	for _, n := range m.n {
		m.watermarks[n] = max(m.watermarks[n], at)
	}
	if rapid.Bool().Draw(t, "released") {
		if err := m.s.SetReleased(classes, at); err != nil {
			t.Fatal(err)
		}
		m.purge(classes)
	}
}

func (m *treeModel) purge(classes []ring.Class) {
	purgeAll(m.test, m.s, classes)
	for k, o := range m.want {
		if at, ok := o.Collectable(); ok && at <= m.s.Marks(m.s.class(k)).Released {
			delete(m.want, k)
		}
	}
}

func (m *treeModel) classes() (out []ring.Class) {
	used := map[ring.Class]bool{}
	for _, n := range m.n {
		for p := range testPartitions {
			used[ring.Class{Partition: p, N: n}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(used), ring.Class.Compare)
}

func (m *treeModel) forget(t *rapid.T) {
	k := m.key(t)
	_, digest, err := m.s.Get(k)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := m.want[k].Collectable(); !ok || at > m.watermark(k) { // nobody would ask for it
		digest++
	}
	dropped, err := m.s.Forget(k, digest)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := m.want[k].Collectable(); dropped != (ok && at <= m.watermark(k)) {
		t.Fatalf("forgotten: %v, held %+v", dropped, m.want[k])
	}
	if dropped {
		delete(m.want, k)
	}
}

func (m *treeModel) settings(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "seldom") > 0 {
		return
	}
	// A bucket's replica count changes while it holds no key, and what was collected before is not sent any more.
	bucket := rapid.SampledFrom([]string{"b", "five"}).Draw(t, "bucket")
	for k := range m.want {
		if k.Bucket == bucket {
			return
		}
	}
	for k := range m.sent {
		if k.Bucket == bucket {
			delete(m.sent, k)
		}
	}
	m.n[bucket] = rapid.IntRange(1, 7).Draw(t, "n")
}

func (m *treeModel) reopen() {
	mustClose(m.test, m.s)
	m.s = mustOpen(m.test, m.cfg)
}

// crash cuts the power. What was not synced may be gone; what is there must agree with itself.
func (m *treeModel) crash(t *rapid.T) {
	m.crashes++
	if rapid.Bool().Draw(t, "synced") {
		if err := wait(m.s); err != nil {
			t.Fatal(err)
		}
	}
	residue := memdisk.Residue(rapid.IntRange(0, 2).Draw(t, "residue"))
	after := m.disk.Crash(residue, rand.New(rand.NewPCG(m.crashes, rapid.Uint64().Draw(t, "seed"))))
	mustClose(m.test, m.s)
	m.disk = after
	m.cfg = m.config(after)
	m.s = mustOpen(m.test, m.cfg)
	m.s.background.Wait()
	for n, want := range m.watermarks {
		if got := m.s.Marks(ring.Class{Partition: 1, N: n}).Watermark; got != want {
			t.Fatalf("the watermark of n=%d was %d and is %d", n, want, got)
		}
	}
	m.want = map[ring.Key]vclock.Object{}
	if err := m.s.Scan(0, math.MaxUint64, func(k ring.Key, object []byte) bool {
		m.hold(k, mustDecode(m.test, slices.Clone(object)))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	// What was not on disk was on no other owner either, as far as this test goes; but a watermark promises that what is older was here.
	m.sent = map[ring.Key][]vclock.Object{}
	for k, o := range m.want {
		m.sent[k] = []vclock.Object{o}
	}
}

func (m *treeModel) config(disk *memdisk.Disk) Config {
	cfg := small(m.test, disk)
	cfg.Now, cfg.Replicas = m.clock.Now, func(bucket string) int { return m.n[bucket] }
	return cfg
}

func (m *treeModel) check(t *rapid.T) {
	if bad := inconsistent(m.s); bad != "" {
		t.Fatal(bad)
	}
	for _, bucket := range []string{"a", "b", "five"} {
		for _, name := range []string{"k", "l", "m\x00"} {
			k := ring.NewKey(bucket, name)
			if got, want := fmt.Sprintf("%+v", stored(m.test, m.s, k)), fmt.Sprintf("%+v", m.want[k]); got != want {
				t.Fatalf("%q holds %s, want %s", name, got, want)
			}
		}
	}
}

func TestTreesAreTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &treeModel{
			test: t, disk: memdisk.New(), clock: newTestClock(), n: map[string]int{"a": 3, "b": 2, "five": 5},
			want: map[ring.Key]vclock.Object{}, sent: map[ring.Key][]vclock.Object{}, minted: map[string]bool{}, others: 100,
		}
		m.cfg = m.config(m.disk)
		m.s = mustOpen(t, m.cfg)
		defer func() { mustClose(t, m.s) }()
		rt.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"update":  m.update,
			"update2": m.update,
			"merge":   m.merge,
			"again":   m.again,
			"collect": m.collect,
			"purge":   func(*rapid.T) { m.purge(m.classes()) },
			"forget":  m.forget,
			"later":   func(t *rapid.T) { m.clock.nanos.Add(int64(rapid.IntRange(1, 80).Draw(t, "by"))) },
			"settings": func(t *rapid.T) {
				m.settings(t)
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "seldom") == 0 {
					m.reopen()
				}
			},
			"crash": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "seldom") == 0 {
					m.crash(t)
				}
			},
			"verify": func(t *rapid.T) {
				p := rapid.IntRange(0, testPartitions-1).Draw(t, "partition")
				got, err := m.s.VerifyPartition(p, func(int) error { return nil })
				if err != nil || got.Damaged > 0 || got.WrongLeaves > 0 {
					t.Fatalf("%+v, %v", got, err)
				}
			},
		})
	})
}
