package quorum

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestReplicaRefusals(t *testing.T) {
	c := newCluster(t, 5)
	defer c.close()
	key := ring.NewKey("b", "k")
	owners := c.owners(key)
	good := vclock.AppendObject(nil, sample("a"))
	future, _ := vclock.Object{}.Put(9, vclock.Clock{}, vclock.Sibling{Time: latestTime + 1})
	tests := []struct {
		name   string
		node   *memNode
		layout uint64
		object []byte
		text   string
		stale  uint64
		class  string
	}{
		{"older layout", owners[0], 0, good, "the ring has changed", 1, outcomeStale},
		{"newer layout", owners[0], 2, good, "does not know the new ring yet", 0, outcomeStale},
		{"not an owner", owners[3], 1, good, "does not own partition", 0, outcomeError},
		{"corrupt", owners[0], 1, []byte("nonsense"), "corrupt", 0, outcomeError},
		{"empty", owners[0], 1, vclock.AppendObject(nil, vclock.Object{}), "empty object", 0, outcomeError},
		{"from the future", owners[0], 1, vclock.AppendObject(nil, future), "beyond the year 2250", 0, outcomeError},
	}
	for _, test := range tests {
		var got error
		test.node.coordinator.Replica().Write("peer", test.layout, key, test.object, true, false, func(err error) { got = err })
		if got == nil || !strings.Contains(got.Error(), test.text) || !notApplied(got) || staleLayout(got) != test.stale || outcomeOf(got) != test.class {
			t.Errorf("%s: got %v", test.name, got)
		}
		if !test.node.store.object(key).Empty() {
			t.Errorf("%s: it was stored", test.name)
		}
	}
	fast, _ := vclock.Object{}.Put(9, vclock.Clock{}, vclock.Sibling{Time: uint64(time.Now().Add(90 * time.Second).UnixNano())})
	owners[0].coordinator.Replica().Write("peer", 1, ring.NewKey("b", "k"), vclock.AppendObject(nil, fast), true, false, func(err error) {
		if err != nil {
			t.Errorf("a clock that is ahead: %v", err)
		}
	})
	if owners[0].events.count("clock_skew") != 1 {
		t.Error("the fast clock was not reported")
	}
	for i, n := range owners { // readers may look at the owners and the next two
		_, _, _, _, err := n.coordinator.Replica().TryRead("peer", 1, key, false)
		if (err == nil) != (i < 5) {
			t.Errorf("read of node %d in the preference list: %v", i, err)
		}
	}
	if _, _, _, _, err := owners[0].coordinator.Replica().TryRead("peer", 0, key, false); staleLayout(err) != 1 {
		t.Errorf("read with an old layout: %v", err)
	}
	owners[0].membership.layout.Store(nil)
	if _, _, _, err := owners[0].coordinator.Replica().Read("peer", 1, key, false); !notApplied(err) || outcomeOf(err) != outcomeStale {
		t.Errorf("read before there is a ring: %v", err)
	}
}

// The seam for ring changes: a coordinator with an old layout learns of the new one from a replica's refusal, and does the
// whole operation again under it.
func TestNewerLayoutIsAwaited(t *testing.T) {
	key := ring.NewKey("b", "k")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.close()
		next, err := c.layout.Next(c.layout.Members()[:3])
		if err != nil {
			t.Fatal(err)
		}
		owners := c.owners(key)
		node := owners[0]
		for _, n := range c.nodes {
			if n != node {
				n.membership.layout.Store(next)
			}
		}
		learn := func() {
			node.membership.layout.Store(c.layout)
			go func() { time.Sleep(300 * time.Millisecond); node.membership.layout.Store(next) }()
		}
		learn()
		began := time.Now()
		put, err := node.coordinator.Put(t.Context(), key, text("x"), WriteOptions{})
		if err != nil || put.Receipt.Ring != 2 {
			t.Fatalf("put: %+v, %v", put.Receipt, err)
		}
		if took := time.Since(began); took < 300*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("put took %v", took)
		}
		learn()
		got, err := node.coordinator.Get(t.Context(), key, ReadOptions{})
		if err != nil || got.Receipt.Ring != 2 || !slices.Equal(values(got.Object), []string{"x"}) {
			t.Fatalf("get: %+v, %v", got.Receipt, err)
		}
		learn()
		page, err := node.coordinator.List(t.Context(), "b", ListOptions{Limit: 10})
		if err != nil || !slices.Equal(page.Keys, []string{"k"}) {
			t.Fatalf("list: %+v, %v", page, err)
		}
		time.Sleep(time.Second)
		// It never comes: an error in bounded time.
		node.membership.layout.Store(c.layout)
		began = time.Now()
		_, err = node.coordinator.Get(t.Context(), key, ReadOptions{})
		errorOf(t, err, CodeUnavailable)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		// A replica that is behind catches up meanwhile.
		node.membership.layout.Store(next)
		for _, n := range c.nodes {
			if n != node {
				n.membership.layout.Store(c.layout)
			}
		}
		go func() {
			time.Sleep(100 * time.Millisecond)
			for _, n := range c.nodes {
				n.membership.layout.Store(next)
			}
		}()
		if _, err := node.coordinator.Put(t.Context(), key, text("y"), WriteOptions{}); err != nil {
			t.Errorf("replicas behind: %v", err)
		}
	})
}

func TestWireRoundTrips(t *testing.T) {
	past := sample("ab").Context()
	for _, o := range []WriteOptions{
		{}, {W: All, DW: None, Fresh: true, Sloppy: Yes}, {Sloppy: No, W: 2, DW: Quorum, Context: &past, ReturnValue: true, FullReceipt: true},
	} {
		for i, v := range []Value{{Delete: true}, text("x"), {ContentType: "", Bytes: []byte{}}, {TTL: -1}, {TTL: MinTTL}, {TTL: MaxTTL}} {
			key, anyway := ring.NewKey("b", "a/\x00\xff"), i%2 == 1
			k, gotV, gotO, gotAnyway, err := decodeForward(encodeForward(key, v, o, anyway))
			if err != nil || k != key || gotAnyway != anyway || gotV.TTL != v.TTL || gotV.ContentType != v.ContentType || !bytes.Equal(gotV.Bytes, v.Bytes) || gotV.Delete != v.Delete || !reflect.DeepEqual(gotO, o) {
				t.Errorf("got %+v %+v %+v, %v", k, gotV, gotO, err)
			}
		}
	}
	result := WriteResult{
		Context: past, Dot: vclock.Dot{Actor: 3, Counter: 9}, Expiry: 99, Object: sample("ab"),
		Receipt: Receipt{N: 3, Required: 2, Acked: 3, Durable: 2, Ring: 7, Coordinator: "n1", Replicas: []ReplicaReceipt{{Node: "n1", Zone: "z", Role: "owner", OK: true, Durable: true, Took: time.Second}, {Node: "n2", Role: "owner", Error: "gone"}}},
	}
	got, failure, _, err := decodeAnswer(encodeResult(result, true))
	if err != nil || failure != nil || !reflect.DeepEqual(got, result) {
		t.Errorf("got %+v, %v, %v", got, failure, err)
	}
	e := &Error{Code: CodeSiblings, Detail: "too many", Outcome: NotApplied, N: 3, Required: 2, Acked: 1, Context: &past, RetryAfter: time.Second, Replicas: result.Receipt.Replicas}
	_, failure, kind, err := decodeAnswer(encodeFailure(e, answerResyncing))
	if err != nil || kind != answerResyncing || !reflect.DeepEqual(failure, e) {
		t.Errorf("got %+v, %v", failure, err)
	}
	e.Err = errors.New("cause")
	if _, failure, _, _ = decodeAnswer(encodeFailure(e, answerError)); failure.Detail != "too many: cause" {
		t.Errorf("got %q", failure.Detail)
	}
	q := listRequest{"b", "p", position{3, "x"}, 11, 500, []int{3, 4, 9, 255}}
	if got, err := decodeListRequest(q.encode()); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("got %+v, %v", got, err)
	}
	a := listAnswer{false, position{4, "z"}, []listEntry{{position{3, "y"}, vclock.Live}, {position{4, "a"}, vclock.Mixed}}, []int{5, 9}}
	if got, err := decodeListAnswer(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// No bytes make a decoder panic or take memory beyond them; what decodes without a complaint encodes to the same bytes.
func FuzzWire(f *testing.F) {
	past := sample("ab").Context()
	q := listRequest{"b", "p", position{3, "x"}, 11, 500, []int{3, 4, 9, 255}}
	a := listAnswer{false, position{4, "z"}, []listEntry{{position{3, "y"}, vclock.Live}}, []int{5}}
	for _, seed := range [][]byte{
		encodeForward(ring.NewKey("b", "k"), text("x"), WriteOptions{Context: &past, Sloppy: Yes}, true),
		encodeResult(WriteResult{Object: sample("ab"), Receipt: Receipt{Replicas: []ReplicaReceipt{{Node: "n"}}}}, true),
		encodeFailure(&Error{Code: CodeSiblings, Context: &past}, answerElsewhere), encodeKeep("n", ring.NewKey("b", "k"), []byte("o"), true), encodeAsk(ring.NewKey("b", "k")), encodeKept([]byte("o"), 7),
		q.encode(), a.encode(), encodeBuckets(map[string]bucketEntry{"b": {settings: DefaultBucket, time: 1, node: "n"}, "c": {settings: Bucket{N: 1, R: 1, W: 1, DW: 1, TTL: time.Hour}, time: 1, node: "n"}}),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, v, o, anyway, err := decodeForward(b); err == nil && !bytes.Equal(encodeForward(k, v, o, anyway), b) {
			t.Error("forwarded write: another encoding")
		}
		if res, failure, _, err := decodeAnswer(b); err == nil && failure == nil && len(res.Object.Siblings) > 1000 {
			t.Log("large")
		}
		if m, err := decodeStandin(b); err == nil {
			again := encodeAsk(m.key)
			if m.target != "" {
				again = encodeKeep(m.target, m.key, m.object, m.sync)
			}
			if !bytes.Equal(again, b) {
				t.Error("message to a stand-in: another encoding")
			}
		}
		if object, digest, err := decodeKept(b); err == nil && !bytes.Equal(encodeKept(object, digest), b) {
			t.Error("answer of a stand-in: another encoding")
		}
		if q, err := decodeListRequest(b); err == nil && !bytes.Equal(q.encode(), b) {
			t.Error("list request: another encoding")
		}
		if a, err := decodeListAnswer(b); err == nil && len(a.entries) > len(b) {
			t.Error("list answer: more entries than bytes")
		}
		if entries, err := decodeBuckets(b); err == nil && !bytes.Equal(encodeBuckets(entries), b) {
			t.Error("buckets: another encoding")
		}
		if p, ok := decodeCursor("b", "p", string(b), 256); ok && len(b) > 0 && encodeCursor("b", "p", p) != string(b) {
			t.Error("cursor: another encoding")
		}
	})
}
