package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rule names a promise that a history broke.
type Rule string

// The rules.
const (
	Lost      Rule = "lost"      // an acknowledged put is neither among the final versions nor replaced
	Stale     Rule = "stale"     // a version is shown beside one that replaced it, or is final though it was replaced
	Zombie    Rule = "zombie"    // a version is final, or in a strict read, though an acknowledged delete covered it
	Phantom   Rule = "phantom"   // a value is shown that nobody had sent
	Rejected  Rule = "rejected"  // a value is shown whose write was answered "certainly not applied"
	Duplicate Rule = "duplicate" // one version is shown twice
	Diverged  Rule = "diverged"  // two final reads differ
	Quorum    Rule = "quorum"    // a strict read misses a strict write acknowledged before it
	Backwards Rule = "backwards" // a strict read misses what an earlier one included
	Session   Rule = "session"   // a read is older than its context, or than its session
	Malformed Rule = "malformed" // the history itself makes no sense
)

// Violation is one broken promise with its evidence.
type Violation struct {
	Rule   Rule
	Key    string
	Detail string
	Ops    []Op // as few operations as show it, in the order of invocation
}

// String is the violation with one line for each operation.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: key %q: %s", v.Rule, v.Key, v.Detail)
	for _, o := range v.Ops {
		b.WriteString("\n  " + o.String())
	}
	return b.String()
}

// Report is the verdict on a history, with what it rests on: a history without final or strict reads breaks few rules.
type Report struct {
	Ops, Keys   int
	Writes      int // acknowledged
	Unknown     int // writes whose outcome nobody knows
	StrictReads int
	Finals      int // keys with a final read
	Violations  []Violation
}

// String is the report on one line, followed by the violations.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations on %d keys: %d acknowledged writes, %d unknown, %d strict reads, %d keys with final reads: %d violations",
		r.Ops, r.Keys, r.Writes, r.Unknown, r.StrictReads, r.Finals, len(r.Violations))
	for _, v := range r.Violations {
		b.WriteString("\n" + v.String())
	}
	return b.String()
}

// History judges a history; operations may be in any order. Time and memory grow with operations times writes
// of one key, at a bit each.
func History(ops []Op) Report {
	r := Report{Ops: len(ops)}
	keys := map[string][]Op{}
	for _, o := range ops {
		keys[o.Key] = append(keys[o.Key], o)
	}
	r.Keys = len(keys)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		h := newHistory(keys[key])
		h.replay()
		h.judgeFinal()
		r.Violations = append(r.Violations, h.violations...)
		r.Writes += h.acknowledged
		r.Unknown += h.unknown
		r.StrictReads += h.strictReads
		if len(h.finals) > 0 {
			r.Finals++
		}
	}
	return r
}

// history is what is known of one key.
type history struct {
	key     string
	ops     []Op             // in order of invocation
	writes  []int            // indices of the writes in ops; a write's place here is its number in sets
	number  map[int]int      // of the write with this index in ops
	byValue map[string]int   // number of the put with this value
	byToken map[string][]int // indices of the operations that answered with this token, in order of their return
	past    []bounds         // what each write replaced, once it is invoked
	covers  []bounds         // what each operation's answer covers, once it has returned
	finals  []int

	acknowledged, unknown, strictReads int
	violations                         []Violation
}

func newHistory(ops []Op) *history {
	h := &history{
		key: ops[0].Key, ops: slices.Clone(ops),
		number: map[int]int{}, byValue: map[string]int{}, byToken: map[string][]int{},
		covers: make([]bounds, len(ops)),
	}
	slices.SortStableFunc(h.ops, func(a, b Op) int { return cmp.Compare(a.Invoke, b.Invoke) })
	for i, o := range h.ops {
		if err := o.validate(); err != nil {
			h.blame(Malformed, err.Error(), i)
		}
		if !o.write() {
			continue
		}
		n := len(h.writes)
		h.number[i] = n
		h.writes = append(h.writes, i)
		switch o.Outcome {
		case OK:
			h.acknowledged++
		case Unknown:
			h.unknown++
		}
		if o.Kind == Put {
			if other, twice := h.byValue[o.Value]; twice {
				h.blame(Malformed, "two puts of one value cannot be told apart", h.writes[other], i)
			}
			h.byValue[o.Value] = n
		}
	}
	h.past = make([]bounds, len(h.writes))
	return h
}

// blame adds a violation, with the operations at these indices as its evidence.
func (h *history) blame(rule Rule, detail string, evidence ...int) {
	slices.Sort(evidence)
	v := Violation{Rule: rule, Key: h.key, Detail: detail}
	for _, i := range slices.Compact(evidence) {
		v.Ops = append(v.Ops, h.ops[i])
	}
	h.violations = append(h.violations, v)
}

// name is a write as people call it.
func (h *history) name(n int) string {
	o := h.ops[h.writes[n]]
	if o.Kind == Delete {
		return fmt.Sprintf("delete #%d", o.ID)
	}
	return fmt.Sprintf("%q", o.Value)
}
