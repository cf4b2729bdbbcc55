package vclock

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func dot(a Actor, n uint64) Dot { return Dot{a, n} }

// clockOf adds the dots in this order.
func clockOf(dots ...Dot) Clock {
	var c Clock
	for _, d := range dots {
		c = c.With(d)
	}
	return c
}

func TestClockFoldsGaps(t *testing.T) {
	tests := []struct {
		name          string
		dots          []Dot
		vector, cloud int
	}{
		{"empty", nil, 0, 0},
		{"contiguous", []Dot{dot(1, 1), dot(1, 2)}, 1, 0},
		{"backwards", []Dot{dot(1, 2), dot(1, 1)}, 1, 0},
		{"gap at the start", []Dot{dot(1, 2)}, 0, 1},
		{"gap inside", []Dot{dot(1, 1), dot(1, 3)}, 1, 1},
		{"gap closed, the rest follows", []Dot{dot(1, 1), dot(1, 3), dot(1, 4), dot(1, 6), dot(1, 2)}, 1, 1},
		{"two actors", []Dot{dot(2, 1), dot(1, 2), dot(1, 1), dot(3, 9)}, 2, 1},
		{"twice", []Dot{dot(1, 1), dot(1, 1), dot(1, 3), dot(1, 3)}, 1, 1},
		{"zero names nothing", []Dot{dot(1, 0)}, 0, 0},
		{"as high as can be", []Dot{dot(1, math.MaxUint64), dot(1, math.MaxUint64-1)}, 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := clockOf(tt.dots...)
			if len(c.vector) != tt.vector || len(c.cloud) != tt.cloud {
				t.Errorf("got %+v, want %d entries and %d in the cloud", c, tt.vector, tt.cloud)
			}
			if got, want := c.Len(), tt.vector+tt.cloud; got != want {
				t.Errorf("Len: got %d, want %d", got, want)
			}
			if got, want := c.Empty(), tt.vector+tt.cloud == 0; got != want {
				t.Errorf("Empty: got %v, want %v", got, want)
			}
		})
	}
}

func TestClockDots(t *testing.T) {
	c := clockOf(dot(1, 1), dot(1, 2), dot(1, 5), dot(2, 1))
	var got []any
	for d, contiguous := range c.Dots {
		got = append(got, d, contiguous)
	}
	want := []any{dot(1, 2), true, dot(2, 1), true, dot(1, 5), false}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	for range c.Dots {
		break // stopping early is allowed, in the vector and in the cloud
	}
	for _, contiguous := range c.Dots {
		if !contiguous {
			break
		}
	}
}

func drawDots(t *rapid.T, label string) dotSet {
	m := dotSet{}
	for range rapid.IntRange(0, 24).Draw(t, label+" size") {
		a := rapid.IntRange(1, 4).Draw(t, label+" actor")
		m[dot(Actor(a), uint64(rapid.IntRange(1, 8).Draw(t, label+" counter")))] = true
	}
	return m
}

// A clock is a set of dots: every operation agrees with a plain set, and equal sets have one representation.
func TestClockAgainstPlainSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, n := drawDots(t, "a"), drawDots(t, "b")
		a, b := m.clock(drawn(t)), n.clock(drawn(t))
		if again := m.clock(drawn(t)); !again.Equal(a) || string(AppendClock(nil, again)) != string(AppendClock(nil, a)) {
			t.Fatalf("two orders, two clocks: %+v, %+v", a, again)
		}
		if got, want := a.Equal(b), m.covers(n) && n.covers(m); got != want {
			t.Fatalf("Equal(%+v, %+v): got %v, want %v", a, b, got, want)
		}
		if got, want := a.Covers(b), m.covers(n); got != want {
			t.Fatalf("Covers(%+v, %+v): got %v, want %v", a, b, got, want)
		}
		if got, want := a.Join(b), m.union(n).clock(drawn(t)); !got.Equal(want) {
			t.Fatalf("Join(%+v, %+v): got %+v, want %+v", a, b, got, want)
		}
		highest := uint64(0)
		for d := range m {
			highest = max(highest, d.Counter)
		}
		if got := a.highest(); got != highest {
			t.Fatalf("highest of %+v: got %d, want %d", a, got, highest)
		}
		for actor := Actor(0); actor <= 5; actor++ {
			if got, want := a.Next(actor), m.next(actor); got != want {
				t.Fatalf("Next(%d) of %+v: got %d, want %d", actor, a, got, want)
			}
			for n := uint64(0); n <= 10; n++ {
				if got, want := a.Contains(dot(actor, n)), m[dot(actor, n)]; got != want {
					t.Fatalf("Contains(%d:%d) of %+v: got %v, want %v", actor, n, a, got, want)
				}
				upTo := dotSet{}
				for i := range n {
					upTo[dot(actor, i+1)] = true
				}
				if got, want := a.Seen(dot(actor, n)), m.union(upTo).clock(drawn(t)); !got.Equal(want) {
					t.Fatalf("Seen(%d:%d) of %+v: got %+v, want %+v", actor, n, a, got, want)
				}
			}
		}
	})
}

func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawDots(t, "a").clock(drawn(t)), drawDots(t, "b").clock(drawn(t)), drawDots(t, "c").clock(drawn(t))
		if !a.Join(b).Equal(b.Join(a)) {
			t.Fatalf("not commutative: %+v, %+v", a, b)
		}
		if !a.Join(b).Join(c).Equal(a.Join(b.Join(c))) {
			t.Fatalf("not associative: %+v, %+v, %+v", a, b, c)
		}
		if !a.Join(a).Equal(a) || !a.Join(Clock{}).Equal(a) {
			t.Fatalf("not idempotent: %+v", a)
		}
		if j := a.Join(b); !j.Covers(a) || !j.Covers(b) {
			t.Fatalf("the join of %+v and %+v forgot a dot", a, b)
		}
	})
}

// Clocks are values: whatever is made from one, it stays as it was.
func TestClocksDoNotChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDots(t, "a").clock(drawn(t)), drawDots(t, "b").clock(drawn(t))
		before, other := string(AppendClock(nil, a)), string(AppendClock(nil, b))
		j := a.Join(b)
		joined := string(AppendClock(nil, j))
		for actor := Actor(1); actor <= 4; actor++ {
			for n := uint64(1); n <= 9; n++ {
				a.With(dot(actor, n))
				j.With(dot(actor, n)).Join(b)
			}
		}
		if string(AppendClock(nil, a)) != before || string(AppendClock(nil, b)) != other || string(AppendClock(nil, j)) != joined {
			t.Fatalf("a clock changed: %+v, %+v, %+v", a, b, j)
		}
	})
}
