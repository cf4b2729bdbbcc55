package vclock

import (
	"fmt"
	"testing"
)

func value(time uint64, v string) Sibling {
	return Sibling{Time: time, ContentType: TypeText, Value: []byte(v)}
}

func tombstone(time uint64) Sibling { return Sibling{Time: time, Tombstone: true} }

// shown is the siblings in their order, as text.
func shown(o Object) string {
	out := ""
	for _, s := range o.Siblings {
		if s.Tombstone {
			out += "-"
		} else {
			out += string(s.Value)
		}
	}
	return out
}

func TestPutAndMerge(t *testing.T) {
	const a, b = Actor(1), Actor(2)
	var none Clock
	first, d1 := Object{}.Put(a, none, value(10, "x"))
	second, d2 := first.Put(a, none, value(20, "y"))          // concurrent with x
	other, d3 := Object{}.Put(b, none, value(15, "z"))        // concurrent with both
	replaced, _ := second.Put(a, clockOf(d2), value(30, "Y")) // knows y, not x
	deleted, _ := second.Put(b, second.Clock, tombstone(40))
	foreign, _ := other.Put(b, second.Clock, value(50, "w")) // the context of another replica

	tests := []struct {
		name   string
		object Object
		want   string
	}{
		{"never written", Object{}, ""},
		{"one", first, "x"},
		{"concurrent writes stay, newest first", second, "yx"},
		{"what the context covers goes, the rest stays", replaced, "Yx"},
		{"a delete leaves a tombstone", deleted, "-"},
		{"merge keeps what the other has not seen", Merge(second, other), "yzx"},
		{"merge drops what the other has replaced", Merge(second, replaced), "Yx"},
		{"merge drops what the other has deleted", Merge(deleted, replaced), "-Y"},
		{"a context covers what the replica has yet to hear of", Merge(foreign, second), "wz"},
		{"merge with nothing", Merge(Object{}, second), "yx"},
		{"last writer", Merge(second, other).LastWriter(), "y"},
		{"last writer of one", first.LastWriter(), "x"},
		{"last writer may be a delete", Merge(deleted, replaced).LastWriter(), "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := shown(tt.object); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, d := range []struct{ got, want Dot }{{d1, dot(a, 1)}, {d2, dot(a, 2)}, {d3, dot(b, 1)}} {
		if d.got != d.want {
			t.Errorf("minted %v, want %v", d.got, d.want)
		}
	}
	if got, want := Merge(second, other).MaxTime(), uint64(20); got != want {
		t.Errorf("MaxTime: got %d, want %d", got, want)
	}
}

// The counter goes on from whatever the key's clock or the context has seen: a dot is never minted twice.
func TestPutMintsANewDot(t *testing.T) {
	const a = Actor(7)
	o, _ := Object{}.Put(a, Clock{}, value(1, "x"))
	tests := []struct {
		name   string
		object Object
		ctx    Clock
		want   uint64
	}{
		{"first", Object{}, Clock{}, 1},
		{"second", o, Clock{}, 2},
		{"context ahead of the object", o, clockOf(dot(a, 5)), 6},
		{"object ahead of the context", Object{Clock: clockOf(dot(a, 9))}, clockOf(dot(a, 1)), 10},
		{"another actor", o, clockOf(dot(a+1, 40)), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, d := tt.object.Put(a, tt.ctx, value(2, "y"))
			if want := dot(a, tt.want); d != want || !got.Clock.Contains(want) || !got.Clock.Covers(tt.ctx) {
				t.Errorf("got %v in %+v, want %v", d, got.Clock, want)
			}
		})
	}
}

func TestState(t *testing.T) {
	live, _ := Object{}.Put(1, Clock{}, value(1, "x"))
	dead, _ := live.Put(1, live.Clock, tombstone(2))
	mixed := Merge(dead, func() Object { o, _ := Object{}.Put(2, Clock{}, value(3, "y")); return o }())
	tests := []struct {
		object Object
		state  State
		name   string
		values int
		empty  bool
	}{
		{Object{}, Absent, "absent", 0, true},
		{live, Live, "live", 1, false},
		{dead, Deleted, "deleted", 0, false},
		{mixed, Mixed, "mixed", 1, false},
		{Object{Clock: clockOf(dot(1, 1))}, Deleted, "deleted", 0, false},
	}
	for _, tt := range tests {
		if got := tt.object.State(); got != tt.state || got.String() != tt.name {
			t.Errorf("state of %+v: got %v, want %v", tt.object, got, tt.name)
		}
		if got := tt.object.Values(); got != tt.values {
			t.Errorf("values of %+v: got %d, want %d", tt.object, got, tt.values)
		}
		if got := tt.object.Empty(); got != tt.empty {
			t.Errorf("empty %+v: got %v, want %v", tt.object, got, tt.empty)
		}
	}
}

func TestExpiry(t *testing.T) {
	expires := func(time, expiry uint64) Sibling { return Sibling{Time: time, Expiry: expiry, Value: []byte("x")} }
	object := func(siblings ...Sibling) Object {
		var o Object
		for i, s := range siblings {
			one, _ := Object{}.Put(Actor(i+1), Clock{}, s)
			o = Merge(o, one)
		}
		return o
	}
	tests := []struct {
		name   string
		object Object
		states map[uint64]State
		at     uint64 // collectable from, 0 = never
	}{
		{"never written", Object{}, map[uint64]State{0: Absent, 99: Absent}, 0},
		{"value", object(value(5, "x")), map[uint64]State{0: Live, 99: Live}, 0},
		{"tombstone", object(tombstone(5)), map[uint64]State{0: Deleted, 99: Deleted}, 5},
		{"value that expires", object(expires(5, 9)), map[uint64]State{8: Live, 9: Deleted, 10: Deleted}, 9},
		{"expired when it was written", object(expires(5, 3)), map[uint64]State{2: Live, 3: Deleted}, 5},
		{"two that expire", object(expires(5, 9), expires(6, 7)), map[uint64]State{6: Live, 7: Mixed, 8: Mixed, 9: Deleted}, 9},
		{"one that expires", object(expires(5, 9), value(6, "y")), map[uint64]State{8: Live, 9: Mixed, 99: Mixed}, 0},
		{"tombstone beside one that expires", object(expires(5, 9), tombstone(12)), map[uint64]State{8: Mixed, 9: Deleted}, 12},
		{"tombstone beside a value", object(value(5, "y"), tombstone(12)), map[uint64]State{99: Mixed}, 0},
		{"a clock alone", Object{Clock: clockOf(dot(1, 1))}, map[uint64]State{0: Deleted}, 0},
	}
	for _, tt := range tests {
		for now, want := range tt.states {
			if got := tt.object.StateAt(now); got != want {
				t.Errorf("%s, at %d: got %v, want %v", tt.name, now, got, want)
			}
		}
		if got, ok := tt.object.Collectable(); got != tt.at || ok != (tt.at > 0) {
			t.Errorf("%s: collectable from %d (%v), want %d", tt.name, got, ok, tt.at)
		}
	}
}

// Merging what is known already is free: reads of replicas that agree, and messages that come twice.
func TestMergeOfKnownStatesDoesNotAllocate(t *testing.T) {
	old, _ := Object{}.Put(1, Clock{}, value(1, "x"))
	now, _ := old.Put(2, old.Clock, value(2, "y"))
	for _, pair := range [][2]Object{{now, now}, {now, old}, {old, now}, {Object{}, now}, {now, Object{}}} {
		if n := testing.AllocsPerRun(100, func() { Merge(pair[0], pair[1]) }); n != 0 {
			t.Errorf("Merge(%s, %s) allocates %v times", shown(pair[0]), shown(pair[1]), n)
		}
		if got := shown(Merge(pair[0], pair[1])); got != "y" {
			t.Errorf("Merge(%s, %s) = %s, want y", shown(pair[0]), shown(pair[1]), got)
		}
	}
}

func TestContextsAreCutToFitAToken(t *testing.T) {
	s := NewSealer("c")
	for _, actors := range []int{1, 100, 169, 170, 250, 400, 5000} {
		t.Run(fmt.Sprint(actors), func(t *testing.T) {
			var o Object
			for i := range actors {
				o, _ = o.Put(Actor(i)<<40+1, o.Clock, value(uint64(i), "old"))
			}
			for i := range 100 {
				o, _ = o.Put(Actor(i)<<50+2, Clock{}, value(uint64(actors+i), "new"))
			}
			c := o.Context()
			for _, sib := range o.Siblings {
				if !c.Clock.Contains(sib.Dot) {
					t.Errorf("the context does not cover sibling %v", sib.Dot)
				}
			}
			if !o.Clock.Covers(c.Clock) {
				t.Error("the context covers what was not shown")
			}
			token := s.Seal("b", "k", c)
			if len(token) > MaxToken {
				t.Fatalf("token of %d bytes", len(token))
			}
			got, err := s.Open("b", "k", token)
			if err != nil || !got.Clock.Equal(c.Clock) || got.Time != o.MaxTime() {
				t.Fatalf("opened as %+v, %v, want %+v", got, err, c)
			}
			// And on: a chain of writes by ever new actors, none of which reads again.
			for i := range 400 {
				d := dot(Actor(i)<<44+3, 1<<60)
				if c = c.With(d, c.Time+1); !c.Clock.Contains(d) {
					t.Fatalf("the context of the writer lacks %v", d)
				}
				if n := len(s.Seal("b", "k", c)); n > MaxToken {
					t.Fatalf("token of %d bytes after %d writes", n, i+1)
				}
			}
		})
	}
}
