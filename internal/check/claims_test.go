package check

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// What we claim, and what we do not. Each history is judged twice: as a register, where every read returns the last write
// (linearizable, which we never promise), and by our rules. Value "1" was acknowledged before each of them.
func TestClaims(t *testing.T) {
	one := put(0, "w", "1", Fresh, "t1")
	weak := func(o *Op) { o.Strict = false }
	unknown := func(o *Op) { o.Outcome, o.ContextOut = Unknown, "" }
	lasting := func(until int64) func(*Op) { return func(o *Op) { o.Return = until } }
	two := put(10, "w", "2", "t1", "t2")

	tests := []struct {
		name         string
		ops          []Op
		linearizable bool
		breaks       []Rule // of ours; nil = we promise nothing that this denies
	}{
		{"V1: during a write a read shows it, a later one does not", []Op{
			one, with(two, lasting(100)), get(20, "a", "t2", "2"), get(30, "b", "t1", "1"),
		}, false, []Rule{Backwards}}, // what a strict read has shown it has written back
		{"V1, weak reads", []Op{
			one, with(two, lasting(100)), with(get(20, "a", "t2", "2"), weak), with(get(30, "b", "t1", "1"), weak),
		}, false, nil},
		{"V1, weak reads of one session", []Op{
			one, with(two, lasting(100)),
			with(get(20, "a", "t2", "2"), func(o *Op) { o.Strict, o.Session = false, "s" }),
			with(get(30, "a", "t1", "1"), func(o *Op) { o.Strict, o.Session = false, "s" }),
		}, false, []Rule{Session}},
		{"V2: a write that timed out is seen, then not", []Op{
			one, with(two, unknown), get(20, "a", "t1", "1"), get(30, "b", "t2", "2"), get(40, "a", "t1", "1"),
		}, false, []Rule{Backwards}},
		{"V2b: a write that timed out appears late, and stays", []Op{
			one, with(two, unknown), get(20, "a", "t1", "1"), get(30, "b", "t2", "2"), get(40, "a", "t2", "2"),
		}, true, nil},
		{"V3: the last writer by a slow clock loses to an older write", []Op{
			one, two, get(20, "a", "t1", "1"),
		}, false, []Rule{Quorum}},
		{"V3, in the end, with a write that replaced nothing", []Op{
			one, put(10, "v", "2", Fresh, "t2"), final(with(get(20, "a", "t1", "1"), weak)),
		}, false, []Rule{Lost}},
		{"V3, as we do it: both are kept", []Op{
			one, put(10, "v", "2", Fresh, "t2"), get(20, "a", "t3", "2", "1"),
		}, false, nil},
		{"V4: a write acknowledged by stand-ins is missed by owners", []Op{
			one, with(two, weak), get(20, "a", "t1", "1"),
		}, false, nil},
		{"V4, once all is healed", []Op{
			one, with(two, weak), final(get(20, "a", "t1", "1")),
		}, false, []Rule{Lost, Stale}},
		{"V4, with the context of the write", []Op{
			one, with(two, weak), with(get(20, "a", "t1", "1"), func(o *Op) { o.ContextIn = "t2" }),
		}, false, []Rule{Session}},
		{"V5: concurrent writes, then reads that each show another one", []Op{
			one, put(10, "v", "2", "t1", "t2"), put(11, "w", "3", "t1", "t3"), get(20, "a", "t2", "2"), get(30, "b", "t3", "3"),
		}, false, []Rule{Quorum}},
		{"V5, as we do it: siblings", []Op{
			one, put(10, "v", "2", "t1", "t2"), put(11, "w", "3", "t1", "t3"), get(20, "a", "t4", "2", "3"), get(30, "b", "t4", "3", "2"),
		}, false, nil},
		{"V6: during a write one read shows it, and one that overlaps does not", []Op{
			one, with(two, lasting(100)), with(get(20, "a", "t2", "2"), lasting(40)), with(get(30, "b", "t1", "1"), lasting(50)),
		}, true, nil},
		{"V7: a write that was answered as failed is seen", []Op{
			one, with(two, func(o *Op) { o.Outcome, o.ContextOut = Fail, "" }), get(20, "a", "t2", "2"),
		}, false, []Rule{Rejected}},
		{"V8: two writes on the same version both succeed", []Op{
			one, put(10, "v", "2", "t1", "t2"), put(11, "w", "3", "t1", "t3"),
		}, true, nil}, // as plain writes; as compare-and-swap see below
		{"weak read of an old version", []Op{
			one, two, with(get(20, "a", "t1", "1"), weak),
		}, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(register(false), operations(t, tt.ops)); got != tt.linearizable {
				t.Errorf("linearizable: got %v, want %v", got, tt.linearizable)
			}
			r := History(tt.ops)
			if got := rules(r); !slices.Equal(got, tt.breaks) {
				t.Errorf("breaks %v, want %v\n%v", got, tt.breaks, r)
			}
		})
	}
}

// V8: a put with a context is no compare-and-swap. Both of two succeed, and both versions stay; no rule of ours is broken.
func TestPutIsNoCompareAndSwap(t *testing.T) {
	one := put(0, "w", "1", Fresh, "t1")
	both := []Op{one, put(10, "v", "2", "t1", "t2"), put(11, "w", "3", "t1", "t3")}
	if porcupine.CheckOperations(register(true), operations(t, both)) {
		t.Error("two compare-and-swaps from one version pass for one register's")
	}
	if r := History(both); len(r.Violations) > 0 {
		t.Error(r)
	}
	inTurn := []Op{one, put(10, "v", "2", "t1", "t2"), put(20, "w", "3", "t2", "t3")}
	if !porcupine.CheckOperations(register(true), operations(t, inTurn)) {
		t.Error("two compare-and-swaps, each from the last version, do not pass")
	}
}

// access is what an operation does to a register.
type access struct {
	write    bool
	value    string // of a write, or what a read showed; siblings are no value of a register
	expected string // of a compare-and-swap
}

// register is the model of one value. A write with a context is a compare-and-swap if swap says so.
func register(swap bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			a := input.(access)
			if !a.write {
				return a.value == state, state
			}
			return !swap || a.expected == state, a.value
		},
	}
}

// operations puts a history in porcupine's terms: a failed operation has not happened, and an unknown one ends never, as the
// only one of its client.
func operations(t *testing.T, ops []Op) []porcupine.Operation {
	t.Helper()
	clients := map[string]int{}
	values := map[string]string{} // by token
	var out []porcupine.Operation
	for _, o := range ops {
		if o.Outcome == Fail || o.Outcome == Unknown && o.Kind == Read {
			continue
		}
		a := access{write: o.write(), value: o.Value, expected: values[o.ContextIn]}
		if o.Kind == Read {
			a.value = fmt.Sprint(o.Values)
			if len(o.Values) == 1 {
				a.value = o.Values[0]
			}
		}
		if o.Kind == Put {
			values[o.ContextOut] = o.Value
		}
		name, end := o.Client, o.Return
		if o.Outcome == Unknown {
			name, end = fmt.Sprintf("unknown %d", o.ID), math.MaxInt64
		}
		if _, known := clients[name]; !known {
			clients[name] = len(clients)
		}
		out = append(out, porcupine.Operation{ClientId: clients[name], Input: a, Call: o.Invoke, Return: end})
	}
	return out
}
