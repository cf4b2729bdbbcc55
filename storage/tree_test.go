package storage

import (
	"encoding/binary"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// testClock is a wall clock that only tests move.
type testClock struct{ nanos atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.nanos.Store(1_000_000)
	return c
}

func (c *testClock) Now() time.Time { return time.Unix(0, c.nanos.Load()) }
func (c *testClock) now() uint64    { return uint64(c.nanos.Load()) }

// inconsistent compares everything that is computed from objects with the objects; "" = it agrees.
func inconsistent(s *Store) string {
	s.background.Wait()
	if n := s.unsound(); n > 0 {
		return fmt.Sprintf("%d partitions are unsound", n)
	}
	type leafOf struct {
		ring.Class
		leaf int
	}
	wantLeaves, wantIndex, wantDue := map[leafOf]uint64{}, map[string]string{}, map[string]bool{}
	backlog, live := map[ring.Class]int64{}, int64(0)
	bad := ""
	all := func(space byte, fn func(k, v []byte)) {
		it := s.db.NewIterator(util.BytesPrefix([]byte{space}), nil)
		defer it.Release()
		for it.Next() {
			fn(it.Key(), it.Value())
		}
		if it.Error() != nil {
			bad = it.Error().Error()
		}
	}
	all(spaceData, func(k, v []byte) {
		key, err1 := parseDataKey(k)
		object, digest, err2 := splitValue(v)
		if err1 != nil || err2 != nil {
			bad = fmt.Sprintf("object %x: %v, %v", k, err1, err2)
			return
		}
		o, err := vclock.DecodeObject(object)
		if err != nil {
			bad = err.Error()
		}
		c := s.class(key)
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], key.Token)
		binary.BigEndian.PutUint64(b[8:], digest)
		wantLeaves[leafOf{c, ring.Leaf(key.Token)}] ^= ring.Digest(b[:])
		wantIndex[string(appendIndexKey(nil, c.Partition, key.Bucket, key.Name))] = string(entryOf(o).append(nil))
		if at, ok := o.Collectable(); ok {
			wantDue[string(appendDueKey(nil, c, at, key.Bucket, key.Name))] = true
			if at <= s.now() {
				backlog[c]++
			}
		}
		live += holdsValue(o.State())
	})
	index, dues, leaves := map[string]string{}, map[string]bool{}, map[leafOf]uint64{}
	all(spaceIndex, func(k, v []byte) { index[string(k)] = string(v) })
	all(spaceDue, func(k, _ []byte) { dues[string(k)] = true })
	all(spaceTree, func(k, v []byte) {
		if c, rest, _ := parseClass(k); c.N > 0 {
			leaves[leafOf{c, int(binary.BigEndian.Uint32(rest))}] = binary.BigEndian.Uint64(v)
		}
	})
	held := map[leafOf]uint64{}
	var classes []ring.Class
	s.trees.each(func(t *merkleTree) {
		if t.filled.Load() == 0 {
			return // where it lies, leaves are missing
		}
		classes = append(classes, t.class)
		for i := range t.leaves {
			if h := t.leaves[i].Load(); h != 0 {
				held[leafOf{t.class, t.class.Partition*s.trees.width + i}] = h
			}
		}
	})
	counted := map[ring.Class]int64{}
	for _, st := range s.Tombstones() {
		counted[st.Class] = st.Count
	}
	gotLive, known := s.live.get()
	switch {
	case bad != "":
	case !maps.Equal(leaves, wantLeaves):
		bad = fmt.Sprintf("leaves on disk %v, want %v", leaves, wantLeaves)
	case !maps.Equal(held, wantLeaves):
		bad = fmt.Sprintf("leaves in memory %v, want %v", held, wantLeaves)
	case fmt.Sprint(s.Classes()) != fmt.Sprint(classes):
		bad = fmt.Sprintf("classes %v, want %v", s.Classes(), classes)
	case !maps.Equal(index, wantIndex):
		bad = fmt.Sprintf("index %q, want %q", index, wantIndex)
	case !maps.Equal(dues, wantDue):
		bad = fmt.Sprintf("to be collected %v, want %v", dues, wantDue)
	case !maps.Equal(counted, backlog):
		bad = fmt.Sprintf("counted as to be collected now %v, want %v", counted, backlog)
	case !known || gotLive != live:
		bad = fmt.Sprintf("%d live keys (%v), want %d", gotLive, known, live)
	}
	return bad
}

func wantConsistent(t testing.TB, s *Store) {
	t.Helper()
	if bad := inconsistent(s); bad != "" {
		t.Fatal(bad)
	}
}

// sibling writes one version over all that is there.
func update(t testing.TB, s *Store, key ring.Key, v vclock.Sibling) vclock.Object {
	t.Helper()
	object, _, err := s.Update(key, func(o vclock.Object, after uint64) (vclock.Object, error) {
		if v.Time == 0 {
			v.Time = max(o.MaxTime(), after) + 1
		}
		o, _ = o.Put(s.Incarnation(), o.Clock, v)
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := vclock.DecodeObject(object)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func merge(t testing.TB, s *Store, key ring.Key, o vclock.Object) {
	t.Helper()
	if err := s.Merge(key, vclock.AppendObject(nil, o)); err != nil {
		t.Fatal(err)
	}
}

// stored is the object that is stored under a key.
func stored(t testing.TB, s *Store, key ring.Key) vclock.Object {
	t.Helper()
	object, _, err := s.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	if object == nil {
		return vclock.Object{}
	}
	o, err := vclock.DecodeObject(object)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func classOf(s *Store, key ring.Key) []ring.Class { return []ring.Class{s.class(key)} }

// collect takes a round of collection at one owner, which all others are assumed to agree with, and returns how much was dropped.
func collect(t testing.TB, s *Store, classes []ring.Class, at uint64) (dropped int) {
	t.Helper()
	for _, step := range []func([]ring.Class, uint64) error{s.SetFence, s.SetWatermark, s.SetReleased} {
		if err := step(classes, at); err != nil {
			t.Fatal(err)
		}
	}
	return purgeAll(t, s, classes)
}

func purgeAll(t testing.TB, s *Store, classes []ring.Class) (dropped int) {
	t.Helper()
	for _, c := range classes {
		for more := true; more; {
			var n int
			var err error
			if n, more, err = s.Purge(c, 3); err != nil {
				t.Fatal(err)
			}
			dropped += n
		}
	}
	return dropped
}

func TestLeavesFollowTheObjects(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Replicas: func(b string) int { return len(b) }}
	s := mustOpen(t, cfg)
	for i := range 200 {
		key := ring.NewKey(strings.Repeat("b", 1+i%7), fmt.Sprint(i%90))
		update(t, s, key, vclock.Sibling{Value: []byte("v"), Tombstone: false})
		if i%5 == 0 {
			update(t, s, key, vclock.Sibling{Tombstone: true})
		}
	}
	wantConsistent(t, s)
	if got := len(s.Classes()); got < testPartitions {
		t.Fatalf("%d classes", got)
	}
	if got := s.Leaves(nil, ring.Class{Partition: 1, N: 3}); len(got) != ring.Leaves/testPartitions {
		t.Fatalf("%d leaves", len(got))
	}
	for _, c := range []ring.Class{{Partition: -1, N: 3}, {Partition: testPartitions, N: 3}, {Partition: 0, N: 0}, {Partition: 0, N: 8}} {
		if got := s.Leaves(nil, c); got != nil {
			t.Fatalf("leaves of %v", c)
		}
	}
	before := s.Leaves(nil, ring.Class{Partition: 1, N: 3})
	mustClose(t, s)
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	if got := s.Leaves(nil, ring.Class{Partition: 1, N: 3}); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Fatal("a restart changed the leaves")
	}
	wantConsistent(t, s)
}

// Stores with the same objects have the same leaves, in whatever order they came; and a difference shows in the leaf of its key only.
func TestEqualObjectsHaveEqualLeaves(t *testing.T) {
	a, b := mustOpen(t, Config{Dir: t.TempDir()}), mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, a)
	defer mustClose(t, b)
	const keys = 50
	for i := range keys {
		merge(t, a, testKey(i), mustDecode(t, object(7, i%3+1, "v")))
		j := keys - 1 - i
		merge(t, b, testKey(j), mustDecode(t, object(7, 1, "v")))
		merge(t, b, testKey(j), mustDecode(t, object(7, j%3+1, "v")))
	}
	differ := func() (out []int) {
		for p := range testPartitions {
			c := ring.Class{Partition: p, N: 3}
			la, lb := a.Leaves(nil, c), b.Leaves(nil, c)
			for i := range la {
				if la[i] != lb[i] {
					out = append(out, p*len(la)+i)
				}
			}
		}
		return out
	}
	if got := differ(); len(got) > 0 {
		t.Fatalf("leaves %v differ", got)
	}
	key := testKey(11)
	update(t, a, key, vclock.Sibling{Value: []byte("w")})
	if got := differ(); len(got) != 1 || got[0] != ring.Leaf(key.Token) {
		t.Fatalf("leaves %v differ, want %d", got, ring.Leaf(key.Token))
	}
}

func mustDecode(t testing.TB, object []byte) vclock.Object {
	t.Helper()
	o, err := vclock.DecodeObject(object)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// A start reads no object: what it reads does not grow with the values.
func TestStartReadsNoObject(t *testing.T) {
	reads := func(size int) int64 {
		live := memdisk.New()
		cfg := small(t, live)
		cfg.WriteBuffer = 1 << 20
		s := mustOpen(t, cfg)
		for i := range 200 {
			mustPut(t, s, testKey(i), strings.Repeat("x", size))
		}
		s.background.Wait()
		mustClose(t, s)
		mustClose(t, mustOpen(t, cfg)) // the journal becomes tables
		var n atomic.Int64
		defer live.Inject(func(op memdisk.Op, fd storage.FileDesc) error {
			if op == memdisk.OpRead && fd.Type == storage.TypeTable {
				n.Add(1)
			}
			return nil
		})()
		s = mustOpen(t, cfg)
		wantTrees := len(s.Classes())
		s.background.Wait()
		got := n.Load()
		if wantTrees == 0 {
			t.Fatal("there are no trees")
		}
		mustClose(t, s)
		return got
	}
	few, many := reads(10), reads(8<<10) // 1.6 MB in 200 blocks
	t.Logf("%d and %d reads", few, many)
	if many > few+60 {
		t.Fatalf("%d reads with large values, %d with small ones", many, few)
	}
}
