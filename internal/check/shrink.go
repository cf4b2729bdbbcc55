package check

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// shrinkWork bounds what Shrink may judge, in operations, counted over all its attempts.
const shrinkWork = 2_000_000

// Shrink is a short part of a history that still shows v, one of History's findings on ops: operations on v.Key in the order of
// invocation, as they were, except that reads outside of the evidence forget a context whose giver is gone. It still breaks
// v.Rule with the same evidence, and it is well-formed if ops is. The puts of all values that the evidence shows are in it, and
// givers of all contexts that its writes sent. Judge nothing else by it: other operations may look guilty, since what explained
// them is gone.
//
// No single operation can be dropped from it, unless the history is so long that the work, which is bounded to some seconds,
// ended before. The same arguments give the same result. If ops do not break v, it is all operations on v.Key.
func Shrink(ops []Op, v Violation) []Op {
	var all []Op
	for _, o := range ops {
		if o.Key == v.Key {
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, func(a, b Op) int { return cmp.Compare(a.Invoke, b.Invoke) })
	s := newShrinking(all, v)
	if !s.shows(all) {
		return all
	}
	rest := s.forget(all)
	if near := s.near(rest); s.shows(near) {
		rest = near
	}
	for size := max(1, len(rest)/2); size > 1; size /= 2 {
		rest, _ = s.sweep(rest, size)
	}
	for again := true; again; {
		rest, again = s.sweep(rest, 1)
	}
	return s.remember(rest, all)
}

// shrinking is what Shrink knows of the violation that is to stay.
type shrinking struct {
	is       string          // the violation
	evidence map[string]bool // its operations, by identity
	had      map[string]bool // all violations of the whole history, by identity
	work     int             // operations that may still be judged
}

func newShrinking(ops []Op, v Violation) *shrinking {
	s := &shrinking{is: v.identity(), evidence: map[string]bool{}, had: map[string]bool{}, work: shrinkWork}
	for _, o := range v.Ops {
		s.evidence[o.identity()] = true
	}
	for _, w := range History(ops).Violations {
		s.had[w.identity()] = true
	}
	return s
}

// shows tells whether this part of the history still shows the violation, makes sense, and holds the puts of what the evidence
// shows. Elements of sets are no matter: every one has a put, and none of these says anything about the violation.
func (s *shrinking) shows(ops []Op) bool {
	s.work -= len(ops)
	if s.work < 0 {
		return false
	}
	found := false
	for _, w := range History(ops).Violations {
		switch is := w.identity(); {
		case is == s.is:
			found = true
		case s.had[is]:
		case w.Rule == Malformed:
			return false
		case w.Rule == Phantom && s.evidence[w.Ops[0].identity()] && !strings.HasPrefix(w.Detail, "element "):
			return false
		}
	}
	return found
}

// forget takes the contexts from reads that are no evidence, if the violation shows without them. Such a read is held against
// less, and covers what it did.
func (s *shrinking) forget(ops []Op) []Op {
	out := slices.Clone(ops)
	for i, o := range out {
		if o.Kind == Read && !s.evidence[o.identity()] {
			out[i].ContextIn = ""
		}
	}
	if !s.shows(out) {
		return ops
	}
	return out
}

// remember gives those contexts back whose giver is still there.
func (s *shrinking) remember(part, all []Op) []Op {
	were := map[string]string{}
	for _, o := range all {
		were[o.identity()] = o.ContextIn
	}
	for i, o := range part {
		part[i].ContextIn = were[o.identity()]
		if part[i].ContextIn != o.ContextIn && !s.shows(part) {
			part[i].ContextIn = o.ContextIn
		}
	}
	return part
}

// near is the evidence, the puts of what it shows, and the givers of all contexts sent by any of these, and so on.
func (s *shrinking) near(ops []Op) []Op {
	keep := make([]bool, len(ops))
	shown := map[string]bool{}
	for i, o := range ops {
		if keep[i] = s.evidence[o.identity()]; keep[i] {
			for _, v := range o.Values {
				shown[v] = true
			}
		}
	}
	for i := len(ops) - 1; i >= 0; i-- { // a context comes from an operation that began before
		o := ops[i]
		keep[i] = keep[i] || o.Kind == Put && shown[o.Value]
		if !keep[i] || !o.sendsToken() {
			continue
		}
		gave := func(p Op) bool { return p.Outcome == OK && p.ContextOut == o.ContextIn && p.Return <= o.Invoke }
		from := slices.IndexFunc(ops[:i], gave)
		for j := i - 1; j > from; j-- {
			if ops[j].Client == o.Client && gave(ops[j]) {
				from = j
				break
			}
		}
		if from >= 0 {
			keep[from] = true
		}
	}
	var out []Op
	for i, o := range ops {
		if keep[i] {
			out = append(out, o)
		}
	}
	return out
}

// sweep tries to drop each group of so many operations, from the last to the first, since those that came later rest on the
// earlier ones, and then from the first to the last. It tells whether it dropped any.
func (s *shrinking) sweep(ops []Op, size int) ([]Op, bool) {
	before := len(ops)
	for at := len(ops) - size; at > -size; at -= size {
		ops = s.without(ops, max(at, 0), at+size)
	}
	for at := 0; at < len(ops); {
		n := len(ops)
		if ops = s.without(ops, at, min(at+size, n)); len(ops) == n {
			at += size
		}
	}
	return ops, len(ops) < before
}

// without is ops without those from one place up to another, the evidence excepted, if that still shows the violation; else
// it is ops.
func (s *shrinking) without(ops []Op, from, to int) []Op {
	part := slices.Clone(ops[:from])
	for _, o := range ops[from:to] {
		if s.evidence[o.identity()] {
			part = append(part, o)
		}
	}
	part = append(part, ops[to:]...)
	if len(part) == len(ops) || !s.shows(part) {
		return ops
	}
	return part
}

// identity tells one violation of a history from another.
func (v Violation) identity() string {
	var b strings.Builder
	b.WriteString(string(v.Rule) + " " + v.Detail)
	for _, o := range v.Ops {
		b.WriteString("; " + o.identity())
	}
	return b.String()
}

// identity tells one operation of a history from another.
func (o Op) identity() string {
	return strconv.Itoa(o.ID) + " " + strconv.FormatInt(o.Invoke, 10) + " " + o.Client
}
