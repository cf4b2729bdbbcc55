package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/check"
)

// Below these a history shows nothing.
const (
	leastWrites = 50 // acknowledged
	leastReads  = 50 // strict, final ones included
)

// Result is what came out.
type Result struct {
	History []check.Op
	Report  check.Report
	Summary check.Summary
	Strict  bool // reads and writes were sure to share a replica; else the quorum rules promised nothing

	Converged   bool          // all replicas of every key held the same before Settle was over
	ConvergedIn time.Duration // from the call of Finish, or until it gave up
	Unsettled   []string      // keys whose replicas did not come to agree, or did not all answer

	Events   []Event
	NotRead  []string // keys of which a final read could not be had
	Problems []string // why the history does not show enough for a verdict
}

// conclude finds what keeps the history from showing anything.
func (r *Result) conclude(early bool) {
	say := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if early {
		say("it was ended before the final reads")
	}
	if n := len(r.Unsettled); n > 0 {
		say("the replicas of %s did not all answer and agree in time", plural(n))
	}
	if n := len(r.NotRead); n > 0 {
		say("%s could not be read at the end", plural(n))
	}
	r.Problems = append(r.Problems, thin(r.Report)...)
}

// thin says why a history is too short to show anything.
func thin(r check.Report) []string {
	switch {
	case r.Writes == 0:
		return []string{"no write was acknowledged"}
	case r.Finals == 0:
		return []string{"there are no final reads"}
	case r.Writes < leastWrites || r.StrictReads < leastReads:
		return []string{fmt.Sprintf("%d acknowledged writes and %d strict reads are too few", r.Writes, r.StrictReads)}
	}
	return nil
}

func plural(keys int) string {
	if keys == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", keys)
}

// Verdict is "PASS", "FAIL: …" with the number of violations, or "INCONCLUSIVE: …" with why.
func (r *Result) Verdict() string {
	switch n := len(r.Report.Violations); {
	case n == 1:
		return "FAIL: 1 violation"
	case n > 1:
		return fmt.Sprintf("FAIL: %d violations", n)
	case len(r.Problems) > 0:
		return "INCONCLUSIVE: " + strings.Join(r.Problems, "; ")
	}
	return "PASS"
}

// Judge is the result of a history that was made before, by whomever.
func Judge(ops []check.Op) *Result {
	r := &Result{History: ops, Report: check.History(ops), Summary: check.Summarize(ops)}
	r.Strict = slices.ContainsFunc(ops, func(o check.Op) bool { return o.Strict && !o.Final })
	r.Problems = thin(r.Report)
	return r
}
