package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

// Limits of a report for people.
const (
	maxKeys   = 5  // keys that are named
	maxEvents = 40 // things that happened to the nodes
)

// meanings say of each rule what its violation means for an application.
var meanings = map[check.Rule]string{
	check.Lost:        "A write that was confirmed is gone, and nothing replaced it: data loss.",
	check.Stale:       "A version is back, or still there, beside the one that replaced it: the application merges what it had settled already.",
	check.Zombie:      "Something that was deleted is back.",
	check.Phantom:     "An answer holds something that nobody has written: altered, or another key's.",
	check.Rejected:    "A write that was said not to have happened has happened: an application that wrote it again has it twice.",
	check.Duplicate:   "One version is shown twice.",
	check.Diverged:    "The replicas do not hold the same, though nothing is broken any more and all of them have been read.",
	check.Quorum:      "A quorum read did not see a write confirmed by a quorum before: the application reads old data where it was promised new.",
	check.Backwards:   "A quorum read saw less than one before it: what one user has seen already is not there for the next.",
	check.Session:     "A client that sent its context did not see what it had seen or written before.",
	check.Receipt:     "An answer says \"done\" and rests on fewer replicas than were asked for: the write is less safe, or the read less fresh, than promised.",
	check.LostElement: "Something added to a set and confirmed is missing from it, though every writer merged what it had read.",
	check.Expired:     "A value is shown after the time that it was given: the application acts on what should be gone.",
	check.Malformed:   "The history itself makes no sense: whoever recorded it has a bug, or the contexts in the answers are wrong.",
}

// printVerdict shows a result and turns it into an exit code.
func (s *session) printVerdict(r *verify.Result, output string) error {
	text := verifyText(r)
	if output == "json" {
		b, err := json.MarshalIndent(verifyDocument(r), "", "  ")
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		text = string(b) + "\n"
	}
	if err := s.print(text); err != nil {
		return err
	}
	switch {
	case len(r.Report.Violations) > 0:
		return statusError{code: exitFailure}
	case len(r.Problems) > 0:
		return statusError{code: exitUnavailable}
	}
	return nil
}

// verifyText is the result for people.
func verifyText(r *verify.Result) string {
	var b strings.Builder
	b.WriteString(verdictLine(r) + "\n\n" + verifyFigures(r))
	if len(r.Report.Violations) > 0 {
		b.WriteString("\n" + violationsText(r))
	}
	return b.String()
}

// verdictLine is the verdict in one sentence.
func verdictLine(r *verify.Result) string {
	if len(r.Report.Violations) > 0 {
		return r.Verdict() + ": " + byRule(r.Report.Violations) + "."
	}
	if len(r.Problems) > 0 {
		return r.Verdict() + "."
	}
	return fmt.Sprintf("%s: no promise was broken in %s.", r.Verdict(), plural(r.Report.Ops, "operation"))
}

// byRule counts violations, the gravest first: 2 lost, 1 zombie.
func byRule(all []check.Violation) string {
	count := map[check.Rule]int{}
	for _, v := range all {
		count[v.Rule]++
	}
	var parts []string
	for _, rule := range gravest {
		if n := count[rule]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", countText(n), rule))
		}
	}
	return strings.Join(parts, ", ")
}

// verifyFigures are the figures, a line each.
func verifyFigures(r *verify.Result) string {
	s, report := r.Summary, r.Report
	rows := [][2]string{
		{"Operations", fmt.Sprintf("%s on %s in %s", countText(s.Ops-s.Finals), plural(s.Keys, "key"), durationText(s.Span))},
		{"", fmt.Sprintf("%s acknowledged, %s with an unknown outcome", plural(report.Writes, "write"), countText(report.Unknown))},
		{"Answered", answeredText(s)},
		{"Latency", fmt.Sprintf("reads %s; writes %s", quantilesText(s.Reads), quantilesText(s.Writes))},
		{"Judged", fmt.Sprintf("%s, %s, final reads of %s", plural(report.StrictReads, "strict read"), plural(s.Set.Elements, "set element"), plural(report.Finals, "key"))},
	}
	if !r.Strict {
		rows = append(rows, [2]string{"", "r+w is not more than n: that quorum reads see quorum writes was not promised, and not judged"})
	}
	if n := s.Staleness.Reads; n > 0 {
		missed, age := "none", ""
		if s.Staleness.Stale > 0 {
			missed, age = countText(s.Staleness.Stale), "; age of what they missed: "+quantilesText(s.Staleness.Age)
		}
		text := fmt.Sprintf("%s of %s at r=1 without a context missed an acknowledged write%s", missed, plural(n, "read"), age)
		rows = append(rows, [2]string{"Staleness", text})
	}
	rows = append(rows, agreementRows(r)...)
	rows = append(rows, eventRows(r.Events)...)
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-12s %s\n", row[0], row[1])
	}
	return b.String()
}

func answeredText(s check.Summary) string {
	ended := s.All.OK + s.All.Fail + s.All.Unknown
	text := fmt.Sprintf("%.2f %% (%s of %s)", 100*s.All.Available, countText(s.All.OK), countText(ended))
	if s.All.OK < ended && s.All.Available > 0.9999 {
		text = fmt.Sprintf("over 99.99 %% (%s of %s)", countText(s.All.OK), countText(ended))
	}
	text += "; longest time without any success: " + durationText(s.Silence)
	if s.SilentSeconds > 0 {
		text += fmt.Sprintf(" (%s had none)", plural(s.SilentSeconds, "second"))
	}
	return text
}

func quantilesText(q check.Quantiles) string {
	if q.N == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s", durationText(q.P50), durationText(q.P99), durationText(q.Max))
}

// agreementRows say how the replicas came to agree. A history from a file does not tell.
func agreementRows(r *verify.Result) [][2]string {
	var rows [][2]string
	switch {
	case r.Converged:
		rows = append(rows, [2]string{"Convergence", fmt.Sprintf("all replicas held the same %s after the load", durationText(r.ConvergedIn))})
	case len(r.Unsettled) > 0:
		rows = append(rows, [2]string{"Convergence", "not within " + durationText(r.ConvergedIn) + ": " + keysText(r.Unsettled)})
	}
	if len(r.NotRead) > 0 {
		rows = append(rows, [2]string{"Not read", keysText(r.NotRead)})
	}
	return rows
}

func keysText(keys []string) string {
	text := strings.Join(keys[:min(len(keys), maxKeys)], ", ")
	if more := len(keys) - maxKeys; more > 0 {
		text += fmt.Sprintf(" and %s more", countText(more))
	}
	return text
}

// eventRows are what happened meanwhile, the last ones if there are many.
func eventRows(events []verify.Event) [][2]string {
	var rows [][2]string
	if more := len(events) - maxEvents; more > 0 {
		rows = append(rows, [2]string{"", fmt.Sprintf("       %s before", plural(more, "event"))})
		events = events[more:]
	}
	for _, e := range events {
		rows = append(rows, [2]string{"", eventLine(e)})
	}
	if len(rows) > 0 {
		rows[0][0] = "Meanwhile"
	}
	return rows
}

// violationsText shows one violation of each rule, the gravest first.
func violationsText(r *verify.Result) string {
	var b strings.Builder
	all := r.Report.Violations
	some := chosen(all)
	for i, v := range some {
		fmt.Fprintf(&b, "%d. %s: key %s\n   %s\n   Here %s.\n\n", i+1, v.Rule, shown(v.Key), meanings[v.Rule], v.Detail)
		short := check.Shrink(r.History, v)
		b.WriteString(indent(check.Timeline(short)) + "\n")
		for _, o := range short {
			b.WriteString(indent(o.String()))
		}
		b.WriteString("\n")
	}
	if more := len(all) - len(some); more > 0 {
		fmt.Fprintf(&b, "And %s of the same %s; -o json lists all.\n", countText(more), map[bool]string{true: "kind", false: "kinds"}[len(some) == 1])
	}
	return b.String()
}

// gravest orders the rules: what is gone for good comes first.
var gravest = []check.Rule{
	check.Lost, check.LostElement, check.Phantom, check.Zombie, check.Rejected, check.Receipt, check.Diverged, check.Quorum, check.Backwards, check.Session,
	check.Stale, check.Expired, check.Duplicate, check.Malformed,
}

// chosen is the first violation of each rule.
func chosen(all []check.Violation) []check.Violation {
	var out []check.Violation
	for _, rule := range gravest {
		if i := slices.IndexFunc(all, func(v check.Violation) bool { return v.Rule == rule }); i >= 0 {
			out = append(out, all[i])
		}
	}
	return out
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("   " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// verifyDocument is the result for programs. Times are in nanoseconds where a name ends in _ns.
func verifyDocument(r *verify.Result) map[string]any {
	type violation struct {
		Rule    check.Rule `json:"rule"`
		Key     string     `json:"key"`
		Detail  string     `json:"detail"`
		Meaning string     `json:"meaning"`
		Ops     []check.Op `json:"ops"`
	}
	violations := []violation{}
	for _, v := range r.Report.Violations {
		violations = append(violations, violation{v.Rule, v.Key, v.Detail, meanings[v.Rule], v.Ops})
	}
	word, _, _ := strings.Cut(r.Verdict(), ":")
	doc := map[string]any{
		"verdict": strings.ToLower(word), "sentence": verdictLine(r), "problems": list(r.Problems), "violations": violations,
		"writes_acknowledged": r.Report.Writes, "writes_unknown": r.Report.Unknown, "strict_reads": r.Report.StrictReads, "keys_final": r.Report.Finals,
		"strict": r.Strict, "summary": r.Summary,
	}
	if r.ConvergedIn > 0 { // a history from a file does not tell
		doc["converged"], doc["converged_in_ns"] = r.Converged, int64(r.ConvergedIn/time.Nanosecond)
		doc["unsettled"], doc["not_read"] = list(r.Unsettled), list(r.NotRead)
		doc["events"] = append([]verify.Event{}, r.Events...)
	}
	return doc
}

// list is never null in JSON.
func list(all []string) []string { return append([]string{}, all...) }
