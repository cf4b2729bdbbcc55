package storage

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestNeverWrittenIsEmptyNotAnError(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	for range 2 { // from disk, then from the cache
		object, digest, err := s.Get(testKey(1))
		if object != nil || digest != 0 || err != nil {
			t.Fatalf("got %x, %x, %v, want nothing", object, digest, err)
		}
	}
	if _, _, ok := s.TryGet(testKey(1)); !ok {
		t.Fatal("the absence of the key was not cached")
	}
	mustPut(t, s, testKey(1), "v")
	wantValues(t, s, testKey(1), "v")
}

func TestObjectsOfEveryShapeSurviveReopening(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := mustOpen(t, cfg)
	names := []string{"", "\x00", "\x00\x00", "a", "a\x00", "a\x00b", "a\xff", "\xff", "\xff\xff\xff", strings.Repeat("k", 2000), "snow ☃", "\xc3\x28"}
	written := map[ring.Key][]byte{}
	for _, bucket := range []string{"b", "bb", "\xff", "b\xff"} {
		for _, name := range names {
			k := ring.NewKey(bucket, name)
			written[k] = mustPut(t, s, k, "value of "+bucket+"/"+name)
		}
	}
	for i, size := range []int{64 << 10, 66 << 10, 1 << 20, 4 << 20, 40 << 20} { // around the cache's limit and past the write buffer
		k := testKey(i)
		mustPut(t, s, k, "small before")
		written[k] = mustPut(t, s, k, strings.Repeat("x", size))
	}
	check := func() {
		t.Helper()
		for k, want := range written {
			got, digest, err := s.Get(k)
			if err != nil || !bytes.Equal(got, want) || digest != ring.Digest(want) {
				t.Fatalf("%.20q: got %d bytes, digest %x, error %v; want %d bytes, digest %x", k.Name, len(got), digest, err, len(want), ring.Digest(want))
			}
		}
	}
	check()
	mustClose(t, s)
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	check()

	got := map[string]int{}
	err := s.List("b", "", allPartitions(), -1, "", func(p int, name string, st vclock.State) bool {
		if want := partitionOf(ring.NewKey("b", name).Token, testPartitions); p != want || st != vclock.Live {
			t.Errorf("%.20q listed in partition %d as %v, want %d, live", name, p, st, want)
		}
		got[name]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(names)+5 {
		t.Fatalf("listed %d keys, want %d", len(got), len(names)+5)
	}
	var last uint64
	n := 0
	err = s.Scan(0, math.MaxUint64, func(k ring.Key, object []byte) bool {
		if !bytes.Equal(object, written[k]) || k.Token < last {
			t.Errorf("scan gave %.20q wrongly or out of order", k.Name)
		}
		last = k.Token
		n++
		return true
	})
	if err != nil || n != len(written) {
		t.Fatalf("scanned %d objects, %v; want %d", n, err, len(written))
	}
	n = 0
	k := testKey(3)
	if err := s.Scan(k.Token, k.Token, func(got ring.Key, _ []byte) bool { n++; return got == k }); err != nil || n != 1 {
		t.Fatalf("a scan of one token gave %d objects, %v", n, err)
	}
}

func allPartitions() []int {
	var out []int
	for p := range testPartitions {
		out = append(out, p)
	}
	return out
}

func TestMergeOfTheSameWritesNothing(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k := testKey(1)
	newer, older := object(7, 2, "new"), object(7, 1, "old")
	for _, o := range [][]byte{newer, newer, older} {
		if err := s.Merge(k, o); err != nil {
			t.Fatal(err)
		}
	}
	wantValues(t, s, k, "new")
	if got := s.Stats().Unchanged; got != 2 {
		t.Fatalf("%d merges changed nothing, want 2", got)
	}
	if err := s.Merge(k, []byte{9, 9}); !errors.Is(err, vclock.ErrCorrupt) {
		t.Fatalf("bytes that are no object: %v", err)
	}
	wantValues(t, s, k, "new")
}

func TestUpdateFailureChangesNothing(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	k, mine := testKey(1), errors.New("mine")
	mustPut(t, s, k, "v")
	_, _, err := s.Update(k, func(o vclock.Object, _ uint64) (vclock.Object, error) { return vclock.Object{}, mine })
	if err != mine {
		t.Fatalf("got %v, want the error as it is", err)
	}
	if _, _, err := s.Update(k, func(vclock.Object, uint64) (vclock.Object, error) { return vclock.Object{}, nil }); err == nil {
		t.Fatal("an update made a key that was written into one that never was")
	}
	wantValues(t, s, k, "v")
	object, digest, err := s.Update(k, func(o vclock.Object, _ uint64) (vclock.Object, error) { return o, nil })
	if err != nil || ring.Digest(object) != digest {
		t.Fatalf("an update that changes nothing: digest %x of an object with %x, %v", digest, ring.Digest(object), err)
	}
}

func TestLastWriteWinsKeepsOne(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), LastWriteWins: func(b string) bool { return b == "lww" }})
	defer mustClose(t, s)
	a, b := object(1, 1, "a"), object(2, 2, "b") // concurrent; b is later
	var both vclock.Object
	for _, enc := range [][]byte{a, b} {
		o, _ := vclock.DecodeObject(enc)
		both = vclock.Merge(both, o)
	}
	for _, order := range [][][]byte{{a, b}, {b, a}, {vclock.AppendObject(nil, both)}} {
		for bucket, want := range map[string][]string{"lww": {"b"}, "other": {"b", "a"}} {
			k := ring.NewKey(bucket, time.Now().String())
			for _, o := range order {
				if err := s.Merge(k, o); err != nil {
					t.Fatal(err)
				}
			}
			wantValues(t, s, k, want...)
		}
	}
	k := ring.NewKey("lww", "k")
	if err := s.Merge(k, a); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Update(k, func(o vclock.Object, _ uint64) (vclock.Object, error) {
		o, _ = o.Put(9, vclock.Clock{}, vclock.Sibling{Time: 5, Value: []byte("c")})
		return o, nil
	}); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s, k, "c")
}

func TestMetaIsThereAfterPowerLoss(t *testing.T) {
	disk := memdisk.New()
	s := mustOpen(t, small(t, disk))
	defer mustClose(t, s)
	if v, err := s.GetMeta("x"); v != nil || err != nil {
		t.Fatalf("absent meta: %x, %v", v, err)
	}
	for _, step := range []struct{ name, value string }{{"x", "1"}, {"partitions", "mine"}, {"y", "2"}, {"x", ""}} {
		if err := s.PutMeta(step.name, []byte(step.value)); err != nil {
			t.Fatal(err)
		}
	}
	again := mustOpen(t, small(t, disk.Crash(memdisk.Nothing, nil)))
	defer mustClose(t, again)
	for name, want := range map[string]string{"x": "", "partitions": "mine", "y": "2"} {
		if v, err := again.GetMeta(name); string(v) != want || err != nil {
			t.Errorf("meta %s is %q, %v; want %q", name, v, err, want)
		}
	}
}

func TestPartitionCountIsForEver(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(testKey(1), object(1, 1, "v")); !errors.Is(err, ErrPartitions) {
		t.Fatalf("merge before the partition count is known: %v", err)
	}
	if err := s.List("b", "", []int{0}, -1, "", nil); !errors.Is(err, ErrPartitions) {
		t.Fatalf("list before the partition count is known: %v", err)
	}
	for _, n := range []int{0, -1, 3, 1 << 17} {
		if err := s.SetPartitions(n); !errors.Is(err, ErrPartitions) {
			t.Fatalf("%d partitions: %v", n, err)
		}
	}
	if err := s.SetPartitions(256); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if s, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	if err := s.SetPartitions(128); !errors.Is(err, ErrPartitions) {
		t.Fatalf("another count: %v", err)
	}
	if err := s.Merge(testKey(1), object(1, 1, "v")); err != nil {
		t.Fatalf("the count is known from before: %v", err)
	}
}

func TestPartitionOfIsTheTopBits(t *testing.T) {
	for _, c := range []struct {
		token      uint64
		partitions int
		want       int
	}{{math.MaxUint64, 1, 0}, {math.MaxUint64, 256, 255}, {1 << 63, 2, 1}, {1<<63 - 1, 2, 0}, {0, 65536, 0}, {math.MaxUint64, 65536, 65535}} {
		if got := partitionOf(c.token, c.partitions); got != c.want {
			t.Errorf("token %x of %d partitions is in %d, want %d", c.token, c.partitions, got, c.want)
		}
	}
}

func TestClosedStoreRefusesEverything(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	mustPut(t, s, testKey(1), "v")
	mustClose(t, s)
	_, _, getErr := s.Get(testKey(1))
	_, _, updateErr := s.Update(testKey(1), nil)
	_, metaErr := s.GetMeta("x")
	_, _, hintErr := s.HintFor(testKey(1))
	for what, err := range map[string]error{
		"get": getErr, "update": updateErr, "merge": s.Merge(testKey(1), nil), "sync": wait(s), "meta": metaErr, "hints": hintErr,
		"list": s.List("b", "", nil, 0, "", nil), "scan": s.Scan(0, 1, nil), "put meta": s.PutMeta("x", nil), "close": s.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	if _, _, ok := s.TryGet(testKey(1)); ok {
		t.Error("a closed store answered from its cache")
	}
	s.Stats() // answers without the database
}
