package antientropy

import (
	"github.com/rondodb/rondo/ring"
)

// order is one step of collection, for some classes: FENCE, COMMIT or RELEASE.
type order struct {
	kind    byte
	at      uint64 // hybrid time, nanoseconds since 1970
	session uint64 // COMMIT: the receiver's session, as its FENCE answer named it
	classes []ring.Class
	// released is, for a FENCE, up to where the sender has released each class: who is behind that with its watermark was set back.
	released []uint64
}

func (m order) encode() []byte {
	w := head(m.kind)
	w.fixed(m.at)
	if m.kind == kindCommit {
		w.fixed(m.session)
	}
	w.number(uint64(len(m.classes)))
	var sorted classes
	for i, c := range m.classes {
		sorted.append(w, c)
		if m.kind == kindFence {
			w.number(m.released[i])
		}
	}
	return w.b
}

func decodeOrder(kind byte, payload []byte) (order, error) {
	r := open(payload)
	m := order{kind: kind, at: r.fixed()}
	if kind == kindCommit {
		m.session = r.fixed()
	}
	n := r.count(2)
	m.classes = make([]ring.Class, n)
	if kind == kindFence {
		m.released = make([]uint64, n)
	}
	var sorted classes
	for i := range n {
		m.classes[i] = sorted.read(r)
		if kind == kindFence {
			m.released[i] = r.number()
		}
		if r.err != nil {
			return order{}, r.err
		}
	}
	return m, r.end()
}

// assent is the answer to an order.
type assent struct {
	session uint64   // names this start of the receiver's Repairer
	classes []answer // as in the order
}

// answer is what one member says to an order about one class.
type answer struct {
	refusal string // "" = done, and on disk
	marks   Marks  // afterwards
}

func (m assent) encode() []byte {
	w := &writer{}
	w.fixed(m.session)
	for _, a := range m.classes {
		w.why(a.refusal)
		w.number(a.marks.Fence)
		w.number(a.marks.Watermark)
		w.number(a.marks.Released)
	}
	return w.b
}

// decodeAssent reads the answer to an order of n classes.
func decodeAssent(b []byte, n int) (assent, error) {
	r := &scanner{b: b}
	m := assent{session: r.fixed()}
	if n > len(r.b) {
		r.fail("cut short")
		return assent{}, r.err
	}
	m.classes = make([]answer, n)
	for i := range m.classes {
		m.classes[i] = answer{refusal: r.text(), marks: Marks{Fence: r.number(), Watermark: r.number(), Released: r.number()}}
	}
	return m, r.end()
}
