package check

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

const second = int64(time.Second)

func at(invoke, ret int64, o Op) Op { o.Invoke, o.Return = invoke, ret; return o }

func TestSummarize(t *testing.T) {
	weak := func(o *Op) { o.Strict = false }
	ops := []Op{
		with(at(0, second/2, put(1, "a", "x", Fresh, "1")), func(o *Op) { o.Node = "n1" }),
		with(at(second, 3*second/2, put(2, "a", "y", "1", "2")), func(o *Op) { o.Node = "n1" }),
		with(at(second, 2*second, get(3, "b", "r")), func(o *Op) { o.Node, o.Outcome = "n2", Unknown }),  // gave up
		with(at(2*second, 0, del(4, "c", "2", "")), func(o *Op) { o.Node, o.Outcome = "n2", Unknown }),   // still open
		with(at(2*second, 5*second/2, put(5, "d", "z", Fresh, "")), func(o *Op) { o.Outcome = Fail }),    // nowhere
		with(at(6*second, 7*second, with(get(6, "b", "1", "x"), weak)), func(o *Op) { o.Key = "other" }), // a phantom: not for us to judge
		with(at(9*second, 9*second+1, with(get(7, "b", "s", "y"), weak)), func(o *Op) { o.Session = "mine" }),
		at(20*second, 21*second, final(get(8, "f", "s", "y"))),
	}
	got := Summarize(ops)
	want := Summary{
		Ops: 8, Finals: 1, Keys: 2, Clients: 5, Span: 9*time.Second + 1,
		All: Count{OK: 4, Fail: 1, Unknown: 1, Open: 1, Available: 4.0 / 6},
		Kinds: map[Kind]Count{
			Put: {OK: 2, Fail: 1, Available: 2.0 / 3}, Read: {OK: 2, Unknown: 1, Available: 2.0 / 3}, Delete: {Open: 1},
		},
		Nodes:   map[string]Count{"n1": {OK: 2, Available: 1}, "n2": {Unknown: 1, Open: 1}},
		Silence: 5*time.Second + 500*time.Millisecond,
		// Seconds 0 and 1 have the puts, 7 has the read of the other key; the nanosecond after 9 s is no whole second.
		SilentSeconds: 6,
		Reads:         Quantiles{N: 2, P50: 1, P99: time.Second, Max: time.Second},
		Writes:        Quantiles{N: 2, P50: time.Second / 2, P99: time.Second / 2, Max: time.Second / 2},
		Staleness:     Staleness{Reads: 2},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	text := got.String()
	for _, part := range []string{
		"8 operations by 5 clients on 2 keys in 9.000000001s, 1 final reads among them",
		"all: 66.67 % available: 4 ok, 1 failed, 1 unknown, 1 still open",
		"node n2: 0.00 % available", "without a success: 5.5s; whole seconds without one: 6",
		"write latency: p50 500ms, p99 500ms, at most 500ms", "stale: 0 of 2 weak reads",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the text lacks %q:\n%s", part, text)
		}
	}
	line, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var back Summary
	if err := json.Unmarshal(line, &back); err != nil || !reflect.DeepEqual(back, got) {
		t.Errorf("came back from JSON as %+v: %v", back, err)
	}
}

func TestStaleness(t *testing.T) {
	read := func(at int64, values ...string) Op {
		return with(get(at, "r", "", values...), func(o *Op) { o.Strict = false })
	}
	writes := []Op{put(0, "a", "x", Fresh, "1"), put(100, "a", "y", "1", "2"), put(200, "a", "z", "2", "3"), put(201, "b", "s", Fresh, "4")}
	tests := []struct {
		name  string
		read  Op
		reads int
		age   time.Duration // -1 = not stale
	}{
		{"all there", read(1000, "z", "s"), 1, -1},
		{"a sibling missed", read(1000, "z"), 1, 1000 - 206},
		{"one version behind", read(1000, "y", "s"), 1, 1000 - 205},
		{"two versions behind", read(1000, "x", "s"), 1, 1000 - 105},
		{"nothing there", read(1000), 1, 1000 - 5},
		{"during the last writes", read(203, "y"), 1, -1},
		{"at the very moment of the acknowledgement", read(205, "y"), 1, -1},
		{"just after", read(207, "y", "s"), 1, 2},
		{"strict", with(read(1000), func(o *Op) { o.Strict = true }), 0, -1},
		{"final", with(read(1000), func(o *Op) { o.Final = true }), 0, -1},
		{"with a context", with(read(1000), func(o *Op) { o.ContextIn = "3" }), 0, -1},
		{"unanswered", with(read(1000), func(o *Op) { o.Outcome = Unknown }), 0, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := Staleness{Reads: tt.reads}
			if tt.age >= 0 {
				want.Stale, want.Age = 1, Quantiles{N: 1, P50: tt.age, P99: tt.age, Max: tt.age}
			}
			if got := Summarize(append([]Op{tt.read}, writes...)).Staleness; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// A read does not name the deletes that it knows of, so one that shows nothing may be new.
func TestStalenessAfterDeletes(t *testing.T) {
	got := Summarize([]Op{
		put(0, "a", "x", Fresh, "1"), del(10, "a", "1", "2"),
		with(get(20, "b", ""), func(o *Op) { o.Strict = false }),
		put(30, "a", "y", "2", "3"),
		with(get(40, "b", ""), func(o *Op) { o.Strict = false }),
	}).Staleness
	if want := (Staleness{Reads: 2, Stale: 1, Age: Quantiles{N: 1, P50: 5, P99: 5, Max: 5}}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// add and show make histories of sets by hand.
func add(at int64, client, element, in, out string) Op {
	return with(put(at, client, "with "+element, in, out), func(o *Op) { o.Element = element })
}

func show(at int64, out string, values, elements []string) Op {
	return with(get(at, "r", out, values...), func(o *Op) { o.Elements = elements })
}

func TestSetStability(t *testing.T) {
	a := add(0, "w", "a", Fresh, "1") // known at 5
	with1 := func(at int64) Op { return show(at, "", []string{"with a"}, []string{"a"}) }
	without := func(at int64) Op { return show(at, "", nil, nil) }
	unknown := with(a, func(o *Op) { o.Outcome = Unknown })
	one := func(d time.Duration) Set {
		return Set{Elements: 1, Stable: Quantiles{N: 1, P50: d, P99: d, Max: d}}
	}
	tests := []struct {
		name string
		ops  []Op
		want Set
	}{
		{"at once", []Op{a, with1(10)}, one(0)},
		{"missed twice", []Op{a, without(10), with1(20), without(30), with1(40), with1(50)}, one(25)},
		{"missed before it was known", []Op{a, without(2), with1(10)}, one(0)},
		{"known by a read", []Op{unknown, without(1), with1(10), without(20), with1(30)}, one(5)},
		{"lost", []Op{a, with1(10), without(20)}, Set{Elements: 1, Lost: 1}},
		{"nobody has read since", []Op{a, without(2)}, Set{Elements: 1, Unread: 1}},
		{"nobody knows it", []Op{unknown, without(10)}, Set{}},
		{"no set", []Op{put(0, "a", "x", Fresh, "1"), get(10, "b", "1", "x")}, Set{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Summarize(tt.ops).Set; got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	var all []time.Duration
	for i := 100; i > 0; i-- {
		all = append(all, time.Duration(i))
	}
	for n, want := range map[int]Quantiles{0: {}, 1: {1, 1, 1, 1}, 2: {2, 1, 2, 2}, 99: {99, 50, 99, 99}, 100: {100, 50, 99, 100}} {
		if got := quantiles(append([]time.Duration(nil), all[100-n:]...)); got != want {
			t.Errorf("of %d: got %+v, want %+v", n, got, want)
		}
	}
}
