package check

import (
	"fmt"
	"slices"
)

// judgeReceipt holds an OK operation against what it asked for.
func (h *history) judgeReceipt(op int) {
	o := h.ops[op]
	if o.Want > 0 || o.WantDurable > 0 {
		h.receipts++
	}
	switch {
	case o.Acked < o.Want:
		h.blame(Receipt, fmt.Sprintf("it is OK with %d of the %d replicas that it asked for", o.Acked, o.Want), op)
	case o.Durable < o.WantDurable:
		h.blame(Receipt, fmt.Sprintf("it is OK with %d of the %d durable acknowledgements that it asked for", o.Durable, o.WantDurable), op)
	case o.Standins > 0 && !o.Sloppy:
		h.blame(Receipt, fmt.Sprintf("%d stand-ins took part, and it did not allow any", o.Standins), op)
	}
}

// judgeExpiry finds versions in a read that had certainly expired when it began.
func (h *history) judgeExpiry(op int) {
	o := h.ops[op]
	for _, v := range o.Values {
		if n, sent := h.byValue[v]; sent && h.ops[h.writes[n]].hidden(o.Invoke) {
			h.blame(Expired, fmt.Sprintf("%s is shown, and had expired before the read began", h.name(n)), op, h.writes[n])
			return // one proof is enough
		}
	}
}

// judgeQuorum holds a strict read against what was acknowledged, and what strict reads had included, when it began.
func (h *history) judgeQuorum(op int, at floor) {
	most := h.covers[op].most
	if n, missing := at.written.missing(most); missing {
		h.blame(Quorum, fmt.Sprintf("the read does not include %s, acknowledged before it began", h.name(n)), op, h.writes[n])
		return
	}
	for _, v := range h.ops[op].Values {
		// A read never names the deletes that it knows of, so this is how one that it does not know of shows.
		if n, sent := h.byValue[v]; sent && at.erased.has(n) {
			by := h.witnessOfDelete(n, h.ops[op].Invoke)
			h.blame(Zombie, fmt.Sprintf("%s is shown, and a delete acknowledged before the read began covered it", h.name(n)), op, h.writes[n], by)
			return
		}
	}
	if n, missing := at.included.missing(most); missing && !h.ops[op].Minority {
		earlier := h.witness(n, func(i int) bool {
			o := h.ops[i]
			return o.Kind == Read && o.Strict && !o.Minority && o.Return <= h.ops[op].Invoke
		})
		h.blame(Backwards, fmt.Sprintf("the read does not include %s, as a read before it did", h.name(n)), append(earlier, op, h.writes[n])...)
	}
}

// witnessOfDelete is the first strict delete acknowledged by that time which replaced write n.
func (h *history) witnessOfDelete(n int, by int64) int {
	i := slices.IndexFunc(h.writes, func(i int) bool {
		o := h.ops[i]
		return o.Kind == Delete && o.Strict && o.Outcome == OK && o.Return <= by && h.past[h.number[i]].least.has(n)
	})
	return h.writes[i]
}

// judgeContext holds a read against the context that it sent, which came from the answer of source; none = nobody's.
func (h *history) judgeContext(op, source int) {
	if !h.ops[op].sendsToken() {
		return
	}
	if source == none {
		h.blame(Malformed, "nobody had been given the context that it sent", op)
		return
	}
	if n, missing := h.covers[source].least.missing(h.covers[op].most); missing {
		h.blame(Session, fmt.Sprintf("the read does not include %s, which its context covers", h.name(n)), source, op, h.writes[n])
	}
}

// judgeSession holds a read against all that its session has read and written.
func (h *history) judgeSession(op int, past set) {
	n, missing := past.missing(h.covers[op].most)
	if !missing {
		return
	}
	name := h.ops[op].Session
	earlier := h.witness(n, func(i int) bool { return h.ops[i].Session == name && i != op })
	h.blame(Session, fmt.Sprintf("session %s has known %s before, and this read does not include it", name, h.name(n)), append(earlier, op, h.writes[n])...)
}

// witness is the first operation for which from holds and whose answer covers write n.
func (h *history) witness(n int, from func(i int) bool) []int {
	for i := range h.ops {
		if from(i) && h.covers[i].least.has(n) {
			return []int{i}
		}
	}
	return nil
}

// judgeFinal holds the final reads against all acknowledged writes: they agree, they show no version that was replaced,
// and whatever they do not show was replaced.
func (h *history) judgeFinal() {
	if len(h.finals) == 0 {
		return
	}
	slices.Sort(h.finals) // the one that began first
	one := h.finals[0]
	for _, other := range h.finals[1:] {
		if !h.sameVersions(other, one) {
			h.blame(Diverged, "two final reads show different versions", one, other)
		}
	}
	h.judgeDigests()
	for _, f := range h.finals {
		h.judgeVersions(f)
	}
	var covered set
	for _, f := range h.finals {
		covered.join(h.covers[f].most)
	}
	for n, i := range h.writes {
		o := h.ops[i]
		if o.Kind == Put && o.Outcome == OK && !covered.has(n) && o.Return <= h.ops[one].Invoke {
			h.blame(Lost, fmt.Sprintf("%s was acknowledged; it is not among the final versions, and nothing replaced it", h.name(n)), i, one)
		}
	}
}

// judgeDigests compares what single replicas hold in the end, where the versions that they show tell no difference.
func (h *history) judgeDigests() {
	first := none
	for _, f := range h.finals {
		switch o := h.ops[f]; {
		case o.Digest == "":
			continue
		case first == none:
			first = f
		case o.Digest != h.ops[first].Digest && h.sameVersions(f, first):
			h.blame(Diverged, "two replicas show the same versions and hold different objects", first, f)
		}
		h.digests++
	}
}

// sameVersions tells whether two reads show the same, but for versions that may have expired between them.
func (h *history) sameVersions(a, b int) bool {
	by := max(h.ops[a].Return, h.ops[b].Return)
	shown := func(o Op) []string {
		return slices.Sorted(func(yield func(string) bool) {
			for _, v := range o.Values {
				if n, sent := h.byValue[v]; sent && h.ops[h.writes[n]].Expires != 0 && h.ops[h.writes[n]].fades() <= by {
					continue
				}
				if !yield(v) {
					return
				}
			}
		})
	}
	return slices.Equal(shown(h.ops[a]), shown(h.ops[b]))
}

// judgeVersions finds versions in a final read that an acknowledged write has replaced.
func (h *history) judgeVersions(f int) {
	for _, v := range h.ops[f].Values {
		n, sent := h.byValue[v]
		if !sent {
			continue // a phantom, blamed already
		}
		for by, i := range h.writes {
			o := h.ops[i]
			if o.Outcome != OK || o.Return > h.ops[f].Invoke || !h.past[by].least.has(n) {
				continue
			}
			rule := Stale
			if o.Kind == Delete {
				rule = Zombie
			}
			h.blame(rule, fmt.Sprintf("%s is a final version, and the acknowledged %s replaced it", h.name(n), h.name(by)), f, h.writes[n], i)
			break // one proof is enough
		}
	}
}
