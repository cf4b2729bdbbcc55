package check

import "fmt"

// judgeElements holds what a read shows of a set against the adds that had been acknowledged when it began, and when it ended.
func (h *history) judgeElements(op int, at floor, p *progress) {
	o := h.ops[op]
	var shown set
	for _, e := range o.Elements {
		n, sent := h.byElement[e]
		switch {
		case !sent:
			h.blame(Phantom, fmt.Sprintf("element %q was never added", e), op)
			continue
		case n >= p.invoked:
			h.blame(Phantom, fmt.Sprintf("element %q is shown before it was added", e), op, h.writes[n])
		case h.ops[h.writes[n]].Outcome == Fail:
			h.blame(Rejected, fmt.Sprintf("element %q is shown, and its add was answered as not applied", e), op, h.writes[n])
		}
		shown.add(n)
	}
	if len(h.byElement) == 0 {
		return
	}
	due := p.acknowledged.clone() // of these, what the versions shown cover
	due.meet(h.covers[op].least)
	if o.Strict {
		due.join(at.written)
	}
	if o.Final {
		due.join(at.acknowledged)
	}
	due.subtract(p.dropped)
	due.subtract(shown)
	due.subtract(h.lostElements) // one proof is enough
	for n := range due.all() {
		add := h.ops[h.writes[n]]
		if add.Element == "" {
			continue
		}
		h.lostElements.add(n)
		h.blame(LostElement, fmt.Sprintf("element %q was acknowledged, and this read does not show it", add.Element), op, h.writes[n])
	}
}

// drops tells whether a write may take elements away for good: it does not carry those of what it replaces.
func (o Op) drops() bool {
	return o.write() && o.Outcome != Fail && (o.Kind == Delete || o.ContextIn == "" || o.Element == "")
}
