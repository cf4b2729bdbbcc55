package check

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func checkWidth(t *testing.T, picture string) {
	t.Helper()
	for line := range strings.Lines(picture) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > timelineColumns {
			t.Fatalf("a line of %d columns: %q", n, line)
		}
	}
}

func TestTimeline(t *testing.T) {
	lasting := func(o Op, until int64) Op { o.Return = until; return o }
	got := Timeline([]Op{
		lasting(put(1000, "ann", "x", Fresh, "1"), 9000),
		lasting(get(2000, "bob", "r"), 4000),
		with(put(5000, "bob", "y", Fresh, ""), func(o *Op) { o.Outcome, o.Element = Unknown, "e" }),
		with(del(6000, "cy", "1", ""), func(o *Op) { o.Outcome, o.Return = Fail, 9500 }),
		with(get(10_000, "bob", "s", "x", "y"), func(o *Op) { o.Strict, o.Elements = false, []string{"e"} }),
		lasting(put(10_001, "bob", "a value that is far too long, and \n not plain", Fresh, "3"), 10_500),
		final(get(20_000, "cy", "t", "x")),
	})
	want := `    0s        4µs           9µs                           19µs
ann [put x ok---]
bob  [read = ][put y +e ?~~~[weak read = x,y {e}]
bob                          [put a value that is far… ok]
cy             [delete fail]                              [final = x]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Two operations overlap in the picture exactly where they do in time, and every operation is in it.
func TestTimelineShowsOverlaps(t *testing.T) {
	for seed := range uint64(200) {
		m := newModel(seed)
		everything(m)
		ops := m.run(150)
		ops = ops[:min(len(ops), timelineOps)]
		p := newPicture(ops)
		p.place()
		for i, a := range ops {
			for j, b := range ops[i+1:] {
				j += i + 1
				if p.begin[i] >= p.begin[j] {
					t.Fatalf("seed %d: operation %d begins in column %d, and %d in %d", seed, i, p.begin[i], j, p.begin[j])
				}
				if a.Outcome == Unknown {
					continue
				}
				if got, want := p.begin[j] < p.end[i], b.Invoke < a.Return; got != want {
					t.Fatalf("seed %d: operations %d and %d overlap in the picture: %v, in time: %v", seed, i, j, got, want)
				}
			}
		}
		picture := p.draw()
		checkWidth(t, picture)
		checkLabels(t, picture, p.labels)
		if got := strings.Count(picture, "["); got != len(ops) {
			t.Fatalf("seed %d: %d brackets for %d operations\n%s", seed, got, len(ops), picture)
		}
	}
}

// checkLabels finds each label in the picture, in one piece, as often as there are operations that have it.
func checkLabels(t *testing.T, picture string, labels []string) {
	t.Helper()
	for _, label := range labels {
		want := 0
		for _, other := range labels {
			if strings.HasPrefix(other, label) {
				want++
			}
		}
		if got := strings.Count(picture, "["+label); got != want {
			t.Fatalf("%q is there %d times, want %d, in\n%s", label, got, want, picture)
		}
	}
}

// Operations that take no time, at one instant, as virtual time has them.
func TestTimelineOfOneInstant(t *testing.T) {
	var ops []Op
	var labels []string
	for i := range 5 {
		ops = append(ops, with(put(7, "a", fmt.Sprint(i), Fresh, "t"), func(o *Op) { o.Return = 7 }))
		labels = append(labels, ops[i].label())
	}
	checkLabels(t, Timeline(ops), labels)
}

func TestTimelineIsBounded(t *testing.T) {
	var ops []Op
	for i := range 1000 {
		ops = append(ops, put(int64(10*i), fmt.Sprintf("a client with a long name %d", i%3), fmt.Sprint(i), Fresh, "t"))
	}
	got := Timeline(ops)
	checkWidth(t, got)
	if !strings.HasSuffix(got, "and 800 later operations\n") {
		t.Errorf("the end is %q", got[max(0, len(got)-100):])
	}
	if got := Timeline(nil); strings.TrimSpace(got) != "" {
		t.Errorf("the picture of nothing is %q", got)
	}
}
