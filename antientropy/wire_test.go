package antientropy

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

var (
	drawClass = rapid.Custom(func(t *rapid.T) ring.Class {
		return ring.Class{Partition: rapid.IntRange(0, ring.MaxPartitions-1).Draw(t, "partition"), N: rapid.IntRange(1, maxReplicas).Draw(t, "n")}
	})
	drawKey = rapid.Custom(func(t *rapid.T) ring.Key {
		return ring.NewKey(rapid.StringN(1, 5, 20).Draw(t, "bucket"), rapid.StringN(0, 5, 20).Draw(t, "name"))
	})
	drawBytes = rapid.SliceOfN(rapid.Byte(), 0, 20)
)

func drawRoots(t *rapid.T, answers bool) (out []classRoot) {
	seen := map[ring.Class]bool{}
	for _, c := range rapid.SliceOfN(drawClass, 0, 9).Draw(t, "classes") {
		if seen[c] {
			continue
		}
		seen[c] = true
		r := classRoot{class: c, root: rapid.Uint64().Draw(t, "root"), released: rapid.OneOf(rapid.Just(uint64(7)), rapid.Uint64()).Draw(t, "released")}
		if answers {
			r.unsound = rapid.Bool().Draw(t, "unsound")
		} else {
			r.watermark = rapid.OneOf(rapid.Just(r.released), rapid.Uint64()).Draw(t, "watermark")
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b classRoot) int { return a.class.Compare(b.class) })
	return out
}

func drawBitmap(t *rapid.T, n int) bitmap {
	b := newBitmap(n)
	for i := range n {
		if rapid.Bool().Draw(t, "bit") {
			b.set(i)
		}
	}
	return b
}

// same compares messages; a slice of nothing is as good as none.
func same(t *rapid.T, got, want any, err error) {
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	if !reflect.DeepEqual(plain(reflect.ValueOf(got)), plain(reflect.ValueOf(want))) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// plain is a value without the difference between nil and empty slices.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		var out []any
		for i := range v.NumField() {
			out = append(out, plain(v.Field(i)))
		}
		return out
	case reflect.Slice:
		var out []any
		for i := range v.Len() {
			out = append(out, plain(v.Index(i)))
		}
		return out
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int:
		return v.Int()
	default:
		return v.Uint()
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roots := rootsRequest{first: rapid.IntRange(0, 9).Draw(t, "first"), end: rapid.IntRange(0, ring.MaxPartitions).Draw(t, "end"), classes: drawRoots(t, false)}
		gotRoots, err := decodeRootsRequest(roots.encode()[1:])
		same(t, gotRoots, roots, err)

		n := len(roots.classes)
		answer := newRootsAnswer(n)
		answer.differ, answer.unsound, answer.others = drawBitmap(t, n), drawBitmap(t, n), drawRoots(t, true)
		for i := range n {
			answer.released[i] = rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "ahead")
		}
		gotAnswer, err := decodeRootsAnswer(answer.encode(), n)
		same(t, gotAnswer, answer, err)

		var nodes nodesRequest
		var differ nodesAnswer
		for range rapid.IntRange(0, 4).Draw(t, "groups") {
			g := nodeGroup{class: drawClass.Draw(t, "class"), level: rapid.IntRange(0, maxLevels-1).Draw(t, "level"), node: rapid.IntRange(0, ring.Leaves-1).Draw(t, "node")}
			g.children = make([]uint64, 1<<rapid.IntRange(0, maxFan).Draw(t, "fan"))
			for i := range g.children {
				g.children[i] = rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "hash")
			}
			nodes.groups = append(nodes.groups, g)
			differ.differ = append(differ.differ, drawBitmap(t, len(g.children)))
		}
		differ.unsound = drawBitmap(t, len(nodes.groups))
		gotNodes, err := decodeNodesRequest(nodes.encode()[1:])
		same(t, gotNodes, nodes, err)
		gotDiffer, err := decodeNodesAnswer(differ.encode(), nodes.groups)
		same(t, gotDiffer, differ, err)

		lists := listsRequest{budget: rapid.IntRange(0, maxMessage).Draw(t, "budget")}
		var listedItems listsAnswer
		count := rapid.IntRange(0, 4).Draw(t, "items")
		for i := range count {
			it := listItem{class: drawClass.Draw(t, "class"), leaf: rapid.IntRange(0, ring.Leaves-1).Draw(t, "leaf")}
			it.from, it.to = ring.LeafTokens(it.leaf)
			if rapid.Bool().Draw(t, "part") {
				it.from = rapid.Uint64Range(it.from, it.to).Draw(t, "from")
				it.to = rapid.Uint64Range(it.from, it.to).Draw(t, "to")
			}
			for range rapid.IntRange(0, 4).Draw(t, "pairs") {
				it.pairs = append(it.pairs, pair{rapid.Uint64Range(it.from, it.to).Draw(t, "token"), rapid.Uint64().Draw(t, "digest")})
			}
			slices.SortFunc(it.pairs, func(a, b pair) int {
				if a.token < b.token {
					return -1
				}
				return 1
			})
			lists.items = append(lists.items, it)
			got := listed{unsound: rapid.Bool().Draw(t, "unsound")}
			if got.unsound {
				got.why = rapid.StringN(0, 10, maxText).Draw(t, "why")
			}
			if i == count-1 && it.to > it.from && rapid.Bool().Draw(t, "partial") {
				got.partial, got.resume = true, rapid.Uint64Range(it.from+1, it.to).Draw(t, "resume")
			}
			for k := range it.pairs {
				if rapid.Bool().Draw(t, "lacks") {
					got.lacks = append(got.lacks, k)
				}
			}
			listedItems.items = append(listedItems.items, got)
		}
		gotLists, err := decodeListsRequest(lists.encode()[1:])
		same(t, gotLists, lists, err)
		gotListed, err := decodeListsAnswer(listedItems.encode(), lists.items)
		same(t, gotListed, listedItems, err)

		var give pushRequest
		var became pushAnswer
		for range rapid.IntRange(0, 3).Draw(t, "objects") {
			give.objects = append(give.objects, pushed{n: rapid.IntRange(1, maxReplicas).Draw(t, "n"), key: drawKey.Draw(t, "key"), object: drawBytes.Draw(t, "object")})
			became.objects = append(became.objects, outcome(rapid.IntRange(0, int(outcomes)-1).Draw(t, "outcome")))
		}
		for range rapid.IntRange(0, 3).Draw(t, "forget") {
			give.forget = append(give.forget, collected{n: rapid.IntRange(1, maxReplicas).Draw(t, "n"), key: drawKey.Draw(t, "key"), digest: rapid.Uint64().Draw(t, "digest")})
			became.forget = append(became.forget, outcome(rapid.IntRange(0, int(outcomes)-1).Draw(t, "outcome")))
		}
		gotGive, err := decodePushRequest(give.encode()[1:])
		same(t, gotGive, give, err)
		gotBecame, err := decodePushAnswer(became.encode(), len(give.objects), len(give.forget))
		same(t, gotBecame, became, err)
	})
}

// The objects of an answer must be in the leaf that was asked.
func TestListsAnswerKeepsToWhatWasAsked(t *testing.T) {
	k := ring.NewKey("b", "k")
	leaf := ring.Leaf(k.Token)
	item := func(leaf int) listItem {
		it := listItem{class: ring.Class{N: 3}, leaf: leaf}
		it.from, it.to = ring.LeafTokens(leaf)
		return it
	}
	half := item(leaf)
	half.from = k.Token + 1
	answer := listsAnswer{items: []listed{{objects: []keyed{{key: k, object: []byte("x")}}}}}
	early := listsAnswer{items: []listed{{partial: true, resume: k.Token, objects: []keyed{{key: k}}}}}
	stuck := listsAnswer{items: []listed{{partial: true, resume: item(leaf).from}}}
	lacks := listsAnswer{items: []listed{{lacks: []int{0}}}}
	for name, test := range map[string]struct {
		answer listsAnswer
		asked  []listItem
		ok     bool
	}{
		"asked":            {answer, []listItem{item(leaf)}, true},
		"other leaf":       {answer, []listItem{item((leaf + 1) % ring.Leaves)}, false},
		"other part":       {answer, []listItem{half}, false},
		"after its resume": {early, []listItem{item(leaf)}, false},
		"no progress":      {stuck, []listItem{item(leaf)}, false},
		"lacks nothing":    {lacks, []listItem{item(leaf)}, false},
		"nothing":          {listsAnswer{}, []listItem{item(leaf)}, false},
		"more than asked":  {answer, nil, false},
	} {
		_, err := decodeListsAnswer(test.answer.encode(), test.asked)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, errWire) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestMessagesOfAnotherVersionAreRefused(t *testing.T) {
	b := rootsRequest{}.encode()
	b[1]++
	if _, err := decodeRootsRequest(b[1:]); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
}

// Whatever the bytes: no panic, no memory beyond a small multiple of them, and what is decoded encodes to the same bytes.
func FuzzWire(f *testing.F) {
	c := ring.Class{Partition: 3, N: 3}
	first, last := ring.LeafTokens(5)
	k := ring.NewKey("bucket", "name")
	roots := rootsRequest{end: 16, classes: []classRoot{{class: c, root: 1, released: 9, watermark: 9}, {class: ring.Class{Partition: 4, N: 1}, root: math.MaxUint64, released: 2}}}
	group := nodeGroup{class: c, level: 1, node: 3, children: []uint64{0, 1, 0, 7}}
	item := listItem{class: c, leaf: 5, from: first, to: last, pairs: []pair{{first, 1}, {first, 2}, {last, 3}}}
	rootsTold := newRootsAnswer(2)
	rootsTold.differ.set(1)
	rootsTold.released[1] = 8
	rootsTold.others = []classRoot{{class: c, root: 4, released: 5, unsound: true}}
	for _, b := range [][]byte{
		roots.encode(),
		nodesRequest{groups: []nodeGroup{group}}.encode(),
		listsRequest{budget: 9, items: []listItem{item}}.encode(),
		pushRequest{objects: []pushed{{3, k, []byte("object")}}, forget: []collected{{1, k, 7}}}.encode(),
		append([]byte{101}, rootsTold.encode()...),
		append([]byte{102}, nodesAnswer{differ: []bitmap{{1}}, unsound: bitmap{1}}.encode()...),
		append([]byte{103}, listsAnswer{items: []listed{{unsound: true, why: "why", lacks: []int{0, 2}}}}.encode()...),
		append([]byte{104}, pushAnswer{objects: []outcome{taken, purged}, forget: []outcome{failed}, why: "why"}.encode()...),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		kind, payload := b[0], b[1:]
		var again []byte
		var err error
		switch kind {
		case kindRoots:
			var m rootsRequest
			if m, err = decodeRootsRequest(payload); err == nil {
				again = m.encode()[1:]
			}
		case kindNodes:
			var m nodesRequest
			if m, err = decodeNodesRequest(payload); err == nil {
				again = m.encode()[1:]
			}
		case kindLists:
			var m listsRequest
			if m, err = decodeListsRequest(payload); err == nil {
				again = m.encode()[1:]
			}
		case kindPush:
			var m pushRequest
			if m, err = decodePushRequest(payload); err == nil {
				again = m.encode()[1:]
			}
		case 101:
			var m rootsAnswer
			if m, err = decodeRootsAnswer(payload, 2); err == nil {
				again = m.encode()
			}
		case 102:
			var m nodesAnswer
			if m, err = decodeNodesAnswer(payload, []nodeGroup{group}); err == nil {
				again = m.encode()
			}
		case 103:
			var m listsAnswer
			if m, err = decodeListsAnswer(payload, []listItem{item}); err == nil {
				again = m.encode()
			}
		case 104:
			var m pushAnswer
			if m, err = decodePushAnswer(payload, 2, 1); err == nil {
				again = m.encode()
			}
		default:
			return
		}
		if err != nil {
			if !errors.Is(err, errWire) {
				t.Fatalf("kind %d: %v", kind, err)
			}
			return
		}
		if !bytes.Equal(again, payload) {
			t.Fatalf("kind %d: %x encodes to %x", kind, payload, again)
		}
	})
}
