package check

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestReceiptsDigestsAndSets(t *testing.T) {
	receipt := func(o Op, want, acked, wantDurable, durable int) Op {
		o.Want, o.Acked, o.WantDurable, o.Durable = want, acked, wantDurable, durable
		return o
	}
	digest := func(o Op, node, digest string) Op { o.Node, o.Digest = node, digest; return final(o) }
	weak := func(o Op) Op { o.Strict = false; return o }
	unknown := func(o Op) Op { o.Outcome, o.ContextOut = Unknown, ""; return o }
	a, b := add(0, "u", "a", Fresh, "1"), add(10, "u", "b", "1", "2") // b replaces a and carries it
	values := func(v ...string) []string { return v }
	tests := []struct {
		name string
		ops  []Op
		want []Rule
	}{
		{"a receipt as asked", []Op{receipt(put(0, "a", "x", Fresh, "1"), 2, 2, 1, 1)}, nil},
		{"a receipt beyond what was asked", []Op{receipt(put(0, "a", "x", Fresh, "1"), 2, 3, 1, 3)}, nil},
		{"too few replicas", []Op{receipt(put(0, "a", "x", Fresh, "1"), 2, 1, 0, 0)}, []Rule{Receipt}},
		{"too few replicas for a read", []Op{receipt(get(0, "a", "1"), 2, 1, 0, 0)}, []Rule{Receipt}},
		{"too few durable", []Op{receipt(put(0, "a", "x", Fresh, "1"), 2, 2, 2, 1)}, []Rule{Receipt}},
		{"too few durable for a delete", []Op{receipt(del(0, "a", Fresh, "1"), 2, 2, 2, 1)}, []Rule{Receipt}},
		{"too few, and not OK", []Op{unknown(receipt(put(0, "a", "x", Fresh, "1"), 2, 1, 2, 0))}, nil},
		{"a receipt below zero", []Op{receipt(put(0, "a", "x", Fresh, "1"), 0, -1, 0, 0)}, []Rule{Malformed, Receipt}},

		{"digests equal", []Op{digest(get(0, "f", ""), "n1", "d"), digest(get(10, "f", ""), "n2", "d")}, nil},
		{"digests differ", []Op{digest(get(0, "f", ""), "n1", "d"), digest(get(10, "f", ""), "n2", "e")}, []Rule{Diverged}},
		{"versions differ, and so do digests: said once", []Op{
			put(-10, "a", "x", Fresh, "1"), digest(get(0, "f", "", "x"), "n1", "d"), digest(weak(get(10, "f", "")), "n2", "e"),
		}, []Rule{Diverged}},
		{"no digest taken", []Op{digest(get(0, "f", ""), "n1", "d"), digest(get(10, "f", ""), "n2", "")}, nil},
		{"a digest before the end", []Op{with(get(0, "f", ""), func(o *Op) { o.Digest = "d" })}, []Rule{Malformed}},

		{"elements all there", []Op{a, b, show(20, "2", values("with b"), values("b", "a")), final(show(30, "2", values("with b"), values("a", "b")))}, nil},
		{"an element lost on the way", []Op{a, b, show(20, "2", values("with b"), values("b"))}, []Rule{LostElement}},
		{"in a weak read whose version covers it", []Op{a, b, weak(show(20, "2", values("with b"), values("b")))}, []Rule{LostElement}},
		{"a weak read may be old", []Op{a, b, weak(show(20, "1", values("with a"), values("a")))}, nil},
		{"a strict read may not", []Op{a, b, show(20, "1", values("with a"), values("a"))}, []Rule{LostElement, Quorum}},
		{"nor a final one, of a weak add", []Op{weak(a), final(weak(show(20, "", nil, nil)))}, []Rule{Lost, LostElement}},
		{"an add under way", []Op{a, show(3, "", nil, nil)}, nil},
		{"an unknown add may be missing", []Op{unknown(a), final(show(20, "", nil, nil))}, nil},
		{"an unknown add may be there", []Op{unknown(a), final(show(20, "1", values("with a"), values("a")))}, nil},
		{"blamed once", []Op{a, b, show(20, "2", values("with b"), values("b")), show(30, "2", values("with b"), values("b"))}, []Rule{LostElement}},
		{"a delete took it", []Op{a, del(10, "u", "1", "2"), show(20, "3", nil, nil)}, nil},
		{"an unknown delete may have taken it", []Op{a, unknown(del(10, "u", "1", "")), show(20, "3", nil, nil)}, nil},
		{"a delete that knew nothing of it took nothing", []Op{a, b, del(20, "u", "1", "3"), show(30, "4", values("with b"), values("a"))}, []Rule{LostElement}},
		{"a put without a context may have taken it", []Op{a, add(10, "v", "b", "", "2"), show(20, "2", values("with b"), values("b"))}, nil},
		{"a put of something else took it", []Op{a, put(10, "u", "x", "1", "2"), show(20, "2", values("x"), nil)}, nil},
		{"one that failed did not", []Op{a, with(put(10, "u", "x", "1", ""), func(o *Op) { o.Outcome = Fail }), show(20, "1", values("with a"), nil)}, []Rule{LostElement}},
		{"an element out of nowhere", []Op{a, show(20, "1", values("with a"), values("a", "z"))}, []Rule{Phantom}},
		{"an element of the future", []Op{show(0, "", nil, values("b")), add(10, "u", "b", Fresh, "2")}, []Rule{Phantom}},
		{"an element whose add failed", []Op{with(a, func(o *Op) { o.Outcome, o.ContextOut = Fail, "" }), show(20, "", nil, values("a"))}, []Rule{Rejected}},
		{"one element twice", []Op{a, with(add(10, "u", "a", "1", "2"), func(o *Op) { o.Value = "again" })}, []Rule{Malformed}},
		{"a read that adds", []Op{with(get(0, "a", ""), func(o *Op) { o.Element = "a" })}, []Rule{Malformed}},
		{"a put that shows", []Op{with(put(0, "a", "x", Fresh, "1"), func(o *Op) { o.Elements = values("a") })}, []Rule{Malformed}},
		{"elements of another key", []Op{a, with(show(20, "", nil, values("a")), func(o *Op) { o.Key = "other" })}, []Rule{Phantom}},

		{"a context given twice means what its sender was shown", []Op{
			put(0, "a", "x", Fresh, "1"), weak(get(10, "b", "t")), weak(get(20, "a", "t", "x")), put(30, "a", "y", "t", "2"), final(get(40, "f", "2", "y")),
		}, nil},
		{"older than its context, which it gives back", []Op{
			put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2"),
			with(get(20, "b", "2", "x"), func(o *Op) { o.Strict, o.ContextIn = false, "2" }),
		}, []Rule{Session}},
		{"the same by the client who wrote", []Op{
			put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2"),
			with(get(20, "a", "2", "x"), func(o *Op) { o.Strict, o.ContextIn = false, "2" }),
		}, []Rule{Session}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := History(slices.Clone(tt.ops))
			if got := rules(r); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v\n%v", got, tt.want, r)
			}
			if len(r.Violations) > max(len(tt.want), 1) {
				t.Errorf("said more than once: %v", r)
			}
		})
	}
}

func TestStandinsAndExpiry(t *testing.T) {
	standins := func(o Op, n int) Op { o.Sloppy, o.Standins, o.Strict = true, n, false; return o }
	sloppy := func(o Op) Op { o.Sloppy = true; return o }
	expires := func(o Op, at, skew int64) Op { o.Expires, o.Skew = at, skew; return o }
	unknown := func(o Op) Op { o.Outcome, o.ContextOut = Unknown, ""; return o }
	weak := func(o Op) Op { o.Strict = false; return o }
	digest := func(o Op, node, digest string) Op { o.Node, o.Digest = node, digest; return final(o) }
	x, y := put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2") // y replaces x
	tests := []struct {
		name string
		ops  []Op
		want []Rule
	}{
		{"stand-ins that were allowed", []Op{standins(x, 1), final(get(20, "f", "1", "x"))}, nil},
		{"stand-ins that nobody allowed", []Op{with(x, func(o *Op) { o.Standins, o.Strict = 1, false })}, []Rule{Receipt}},
		{"stand-ins in a read that allowed none", []Op{x, with(get(20, "b", "1", "x"), func(o *Op) { o.Standins, o.Strict = 1, false })}, []Rule{Receipt}},
		{"strict, with stand-ins", []Op{with(x, func(o *Op) { o.Standins, o.Sloppy = 1, true })}, []Rule{Malformed}},
		{"what stand-ins took may be missed", []Op{standins(x, 1), get(20, "b", "")}, nil},
		{"but not in the end", []Op{standins(x, 1), final(weak(get(20, "f", "")))}, []Rule{Lost}},
		{"a delete that stand-ins took may be missed", []Op{x, standins(del(10, "a", "1", "2"), 1), get(20, "b", "1", "x")}, nil},
		{"but not in the end either", []Op{x, standins(del(10, "a", "1", "2"), 1), final(get(20, "f", "1", "x"))}, []Rule{Zombie}},
		{"what stand-ins took and a quorum has shown may not be missed", []Op{standins(x, 1), get(20, "b", "1", "x"), get(30, "c", "")}, []Rule{Backwards}},
		{"what stand-ins have shown may be", []Op{standins(x, 1), standins(get(20, "b", "1", "x"), 1), get(30, "c", "")}, nil},
		{"stand-ins show no phantom", []Op{standins(get(20, "b", "1", "x"), 1)}, []Rule{Phantom}},
		{"nor two versions of which one replaced the other", []Op{x, y, standins(get(20, "b", "2", "y", "x"), 1)}, []Rule{Stale}},
		{"nor what is older than the context", []Op{standins(x, 1), standins(with(get(20, "b", ""), func(o *Op) { o.ContextIn = "1" }), 1)}, []Rule{Session}},
		{"allowed, and none was needed: as strict as ever", []Op{sloppy(x), sloppy(get(20, "b", ""))}, []Rule{Quorum}},

		{"shown before it expires", []Op{expires(x, 100, 10), get(80, "b", "1", "x")}, nil},
		{"missing before it expires", []Op{expires(x, 100, 10), get(80, "b", "")}, []Rule{Quorum}},
		{"either, around that time", []Op{expires(x, 100, 10), get(91, "b", ""), get(101, "b", "1", "x")}, nil},
		{"shown afterwards", []Op{expires(x, 100, 10), get(111, "b", "1", "x")}, []Rule{Expired}},
		{"shown afterwards, by a weak read", []Op{expires(x, 100, 10), weak(get(111, "b", "1", "x"))}, []Rule{Expired}},
		{"a read that began before may show it", []Op{expires(x, 100, 10), with(get(110, "b", "1", "x"), func(o *Op) { o.Return = 200 })}, nil},
		{"missing afterwards, in the end", []Op{expires(x, 100, 10), final(get(120, "f", ""))}, nil},
		{"lost before, in the end", []Op{expires(x, 100, 10), final(weak(get(50, "f", "")))}, []Rule{Lost}},
		{"one that nobody knows of is never too late", []Op{unknown(expires(x, 100, 10)), get(500, "b", "1", "x")}, nil},
		{"what it replaced does not come back", []Op{x, expires(y, 100, 10), final(weak(get(120, "f", "1", "x")))}, []Rule{Stale}},
		{"what it replaced is not missed with it", []Op{x, expires(y, 100, 10), final(get(120, "f", ""))}, nil},
		{"what was beside it is", []Op{x, expires(put(10, "a", "z", Fresh, "3"), 100, 10), final(weak(get(120, "f", "")))}, []Rule{Lost}},
		{"what replaced it stays", []Op{expires(x, 100, 10), y, final(weak(get(120, "f", "")))}, []Rule{Lost}},
		{"a session may miss it afterwards", []Op{expires(x, 100, 10), with(weak(get(120, "b", "")), func(o *Op) { o.ContextIn = "1" })}, nil},
		{"and not before", []Op{expires(x, 100, 10), with(weak(get(20, "b", "")), func(o *Op) { o.ContextIn = "1" })}, []Rule{Session}},
		{"two final reads, it expires between them", []Op{expires(x, 100, 10), final(get(90, "f", "1", "x")), final(get(108, "g", ""))}, nil},
		{"two final reads, before it expires", []Op{expires(x, 100, 10), final(get(20, "f", "1", "x")), final(weak(get(30, "g", "")))}, []Rule{Diverged}},
		{"two replicas hold different objects, it expires between", []Op{
			expires(x, 100, 10), digest(weak(get(96, "f", "1", "x")), "n1", "d"), digest(weak(get(101, "f", "")), "n2", "e"),
		}, []Rule{Diverged}},
		{"a failed one never was", []Op{with(expires(x, 100, 10), func(o *Op) { o.Outcome, o.ContextOut = Fail, "" }), get(20, "b", "1", "x")}, []Rule{Rejected}},
		{"a read that expires", []Op{expires(get(0, "a", ""), 100, 0)}, []Rule{Malformed}},
		{"a skew below zero", []Op{expires(x, 100, -1)}, []Rule{Malformed}},
		{"a skew beyond all times", []Op{expires(x, 100, math.MaxInt64), get(20, "b", ""), get(30, "b", "1", "x")}, nil},
		{"elements of what has expired", []Op{expires(add(0, "u", "a", Fresh, "1"), 50, 5), show(60, "", nil, nil)}, nil},
		{"elements of what has not", []Op{expires(add(0, "u", "a", Fresh, "1"), 50, 5), show(20, "", nil, nil)}, []Rule{LostElement, Quorum}},

		{"deleted, and forgotten by all", []Op{x, del(10, "a", "1", "2"), get(20, "b", ""), digest(get(30, "f", ""), "n1", "nothing"), digest(get(40, "f", ""), "n2", "nothing")}, nil},
		{"deleted, and forgotten by one", []Op{x, del(10, "a", "1", "2"), digest(get(30, "f", ""), "n1", "nothing"), digest(get(40, "f", ""), "n2", "d")}, []Rule{Diverged}},
		{"deleted, forgotten and written again with the old context", []Op{
			x, del(10, "a", "1", "2"), get(20, "b", ""), put(30, "a", "z", "2", "3"), final(get(40, "f", "3", "z")),
		}, nil},
		{"and brought back by a late copy", []Op{x, del(10, "a", "1", "2"), get(20, "b", ""), get(30, "b", "1", "x")}, []Rule{Zombie}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rules(History(slices.Clone(tt.ops))); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v\n%v", got, tt.want, History(tt.ops))
			}
		})
	}
}

func TestLoadNamesTheLine(t *testing.T) {
	var b bytes.Buffer
	if err := Save(&b, []Op{put(0, "a", "x", Fresh, "1"), get(10, "a", "1", "x"), get(20, "a", "1", "x")}); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	lines := strings.SplitAfter(text, "\n")
	tests := []struct{ name, text, want string }{
		{"the last line cut", text[:len(text)-9], "line 3, the last one, was cut"},
		{"a line in the middle", lines[0] + "{\"id\":\n" + lines[2], "line 2:"},
		{"an unknown field", lines[0] + "\n" + `{"what":1}` + "\n", "line 3: json: unknown field"},
		{"two on one line", strings.TrimSpace(lines[0]) + lines[1], "line 1: more than one operation"},
		{"something else", "hello\n", "line 1:"},
	}
	for _, tt := range tests {
		ops, err := Load(strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || ops != nil {
			t.Errorf("%s: got %v, %v; want no operation and %q", tt.name, ops, err, tt.want)
		}
	}
	if ops, err := Load(strings.NewReader("\n" + strings.TrimSuffix(text, "\n"))); err != nil || len(ops) != 3 {
		t.Errorf("without its last newline: %d operations, %v", len(ops), err)
	}
}

// Where the clock stands still, the order of events is still that in which they were recorded.
func TestRecorderInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Recorder
		w := r.Invoke(Op{Client: "a", Key: "k", Kind: Put, Value: "x", ContextIn: Fresh, Strict: true})
		r.Return(w, func(o *Op) { o.Outcome, o.ContextOut = OK, "1" })
		w = r.Invoke(Op{Client: "a", Key: "k", Kind: Put, Value: "y", ContextIn: "1", Strict: true})
		r.Return(w, func(o *Op) { o.Outcome, o.ContextOut = OK, "2" })
		g := r.Invoke(Op{Client: "b", Key: "k", Kind: Read, Strict: true})
		r.Return(g, func(o *Op) { o.Outcome, o.Values = OK, []string{"x"} })
		if got, want := rules(History(r.History())), []Rule{Quorum}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
