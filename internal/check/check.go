package check

import (
	"cmp"
	"fmt"
	"iter"
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
	Phantom   Rule = "phantom"   // a value, or an element, is shown that nobody had sent
	Rejected  Rule = "rejected"  // a value, or an element, is shown whose write was answered "certainly not applied"
	Duplicate Rule = "duplicate" // one version is shown twice
	Diverged  Rule = "diverged"  // two final reads differ, or the digests of two replicas in final reads
	Quorum    Rule = "quorum"    // a strict read misses a strict write acknowledged before it
	Backwards Rule = "backwards" // a strict read misses what an earlier one included
	Session   Rule = "session"   // a read is older than its context, or than its session
	Receipt   Rule = "receipt"   // an operation is OK with fewer acknowledgements, or fewer durable ones, than it asked for
	Expired   Rule = "expired"   // a version is shown after it had expired
	Malformed Rule = "malformed" // the history itself makes no sense

	// LostElement: an acknowledged add is missing from a final read begun after it, from a strict read begun after it (if the
	// add was strict), or from any read whose versions cover the add. It holds a history to its side of the bargain: a put
	// that sends a context writes all elements that the answer which gave that context had shown or written, and its own; one
	// that sends Fresh writes its own. What a delete, a put without a context or a put without an Element may have replaced is
	// not demanded back.
	LostElement Rule = "lost element"
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
	Receipts    int // OK operations that say how many replicas they asked for
	Digests     int // final reads with a digest
	Elements    int // acknowledged adds to sets
	Violations  []Violation
}

// String is the report on one line, followed by the violations.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations on %d keys: %d acknowledged writes, %d unknown, %d strict reads, %d keys with final reads, "+
		"%d receipts, %d digests, %d elements: %d violations",
		r.Ops, r.Keys, r.Writes, r.Unknown, r.StrictReads, r.Finals, r.Receipts, r.Digests, r.Elements, len(r.Violations))
	for _, v := range r.Violations {
		b.WriteString("\n" + v.String())
	}
	return b.String()
}

// History judges a history; operations may be in any order. Time and memory grow with operations times writes
// of one key, at a bit each; the memory is that of one key at a time, besides a copy of ops.
func History(ops []Op) Report {
	r := Report{Ops: len(ops)}
	for _, h := range histories(ops) {
		h.replay()
		h.judgeFinal()
		r.Violations = append(r.Violations, h.violations...)
		r.Keys++
		r.Writes += h.acknowledged
		r.Unknown += h.unknown
		r.StrictReads += h.strictReads
		r.Receipts += h.receipts
		r.Digests += h.digests
		r.Elements += h.elements
		if len(h.finals) > 0 {
			r.Finals++
		}
	}
	return r
}

// histories yields the history of each key, in the order of keys.
func histories(ops []Op) iter.Seq2[string, *history] {
	keys := map[string][]Op{}
	for _, o := range ops {
		keys[o.Key] = append(keys[o.Key], o)
	}
	return func(yield func(string, *history) bool) {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !yield(key, newHistory(keys[key])) {
				return
			}
		}
	}
}

// history is what is known of one key.
type history struct {
	key       string
	ops       []Op           // in order of invocation
	writes    []int          // indices of the writes in ops; a write's place here is its number in sets
	number    []int          // of the write with this index in ops
	byValue   map[string]int // number of the put with this value
	byElement map[string]int // number of the put that adds this element
	byToken   map[string]givers
	past      []bounds // what each write replaced, once it is invoked
	covers    []bounds // what each operation's answer covers, once it has returned
	finals    []int

	lostElements set // adds that are blamed already

	acknowledged, unknown, strictReads, receipts, digests, elements int

	violations []Violation
}

// newHistory takes over ops, which are not empty and all of one key.
func newHistory(ops []Op) *history {
	h := &history{
		key: ops[0].Key, ops: ops, number: make([]int, len(ops)),
		byValue: map[string]int{}, byElement: map[string]int{}, byToken: map[string]givers{},
		covers: make([]bounds, len(ops)),
	}
	slices.SortStableFunc(h.ops, func(a, b Op) int { return cmp.Compare(a.Invoke, b.Invoke) })
	for i, o := range h.ops {
		if err := o.validate(); err != nil {
			h.blame(Malformed, err.Error(), i)
		}
		if o.Outcome == OK {
			h.judgeReceipt(i)
		}
		if o.write() {
			h.addWrite(i)
		}
	}
	h.past = make([]bounds, len(h.writes))
	return h
}

func (h *history) addWrite(i int) {
	o, n := h.ops[i], len(h.writes)
	h.number[i] = n
	h.writes = append(h.writes, i)
	switch o.Outcome {
	case OK:
		h.acknowledged++
		if o.Element != "" {
			h.elements++
		}
	case Unknown:
		h.unknown++
	}
	if o.Kind != Put {
		return
	}
	if other, twice := h.byValue[o.Value]; twice {
		h.blame(Malformed, "two puts of one value cannot be told apart", h.writes[other], i)
	}
	h.byValue[o.Value] = n
	if o.Element == "" {
		return
	}
	if other, twice := h.byElement[o.Element]; twice {
		h.blame(Malformed, "two adds of one element cannot be told apart", h.writes[other], i)
	}
	h.byElement[o.Element] = n
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
