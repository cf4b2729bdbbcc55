package antientropy

import (
	"encoding/binary"
	"slices"

	"github.com/rondodb/rondo/ring"
)

// rootsRequest asks which of these classes differ.
type rootsRequest struct {
	first, end int // where end is not 0: these are all classes of the partitions from first to before end that the asker would compare; tell of others
	classes    []classRoot
}

// classRoot is what one node knows of one class.
type classRoot struct {
	class     ring.Class
	root      uint64 // 0 = empty
	released  uint64 // Marks.Released
	watermark uint64 // Marks.Watermark; requests only
	unsound   bool   // as rootsAnswer.unsound; answers only
}

// Marks of one class are close to those of the one before, mostly the same: what is sent is the difference.
func (w *writer) step(v, from uint64) { w.b = binary.AppendVarint(w.b, int64(v-from)) }

func (r *scanner) step(from uint64) uint64 {
	v, n := binary.Varint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return from + uint64(v)
}

func (m rootsRequest) encode() []byte {
	w := head(kindRoots)
	w.number(uint64(m.first))
	w.number(uint64(m.end))
	w.number(uint64(len(m.classes)))
	var order classes
	last := uint64(0)
	for _, c := range m.classes {
		order.append(w, c.class)
		w.fixed(c.root)
		w.step(c.released, last)
		w.step(c.watermark, c.released)
		last = c.released
	}
	return w.b
}

func decodeRootsRequest(payload []byte) (rootsRequest, error) {
	r := open(payload)
	m := rootsRequest{first: r.small(ring.MaxPartitions + 1), end: r.small(ring.MaxPartitions + 1)}
	m.classes = make([]classRoot, r.count(2+8+2))
	var order classes
	last := uint64(0)
	for i := range m.classes {
		c := &m.classes[i]
		c.class, c.root = order.read(r), r.fixed()
		c.released = r.step(last)
		c.watermark = r.step(c.released)
		last = c.released
	}
	return m, r.end()
}

// rootsAnswer tells, class by class as they were asked, what the other side has.
type rootsAnswer struct {
	differ   bitmap
	unsound  bitmap   // the other side's trees do not tell what it holds: that a class is equal proves nothing
	released []uint64 // the other side's Marks.Released where it is above the asker's watermark, else 0
	others   []classRoot
}

func newRootsAnswer(n int) rootsAnswer {
	return rootsAnswer{differ: newBitmap(n), unsound: newBitmap(n), released: make([]uint64, n)}
}

func (m rootsAnswer) encode() []byte {
	w := &writer{}
	w.b = append(append(w.b, m.differ...), m.unsound...)
	ahead := 0
	for _, at := range m.released {
		if at != 0 {
			ahead++
		}
	}
	w.number(uint64(ahead))
	last := 0
	for i, at := range m.released {
		if at != 0 {
			w.number(uint64(i - last))
			w.fixed(at)
			last = i
		}
	}
	w.number(uint64(len(m.others)))
	var order classes
	for _, c := range m.others {
		order.append(w, c.class)
		w.fixed(c.root)
		w.number(c.released)
		w.bool(c.unsound)
	}
	return w.b
}

func decodeRootsAnswer(b []byte, asked int) (rootsAnswer, error) {
	r := &scanner{b: b}
	m := rootsAnswer{differ: r.bitmap(asked), unsound: r.bitmap(asked), released: make([]uint64, asked)}
	last := 0
	for i := range r.count(1 + 8) {
		step := r.small(asked)
		last += step
		if last >= asked || i > 0 && step == 0 {
			r.fail("marks of classes that were not asked")
			break
		}
		if m.released[last] = r.fixed(); m.released[last] == 0 {
			r.fail("a mark of zero")
		}
	}
	m.others = make([]classRoot, r.count(2+8+1+1))
	var order classes
	for i := range m.others {
		c := &m.others[i]
		c.class, c.root, c.released, c.unsound = order.read(r), r.fixed(), r.number(), r.bool()
	}
	return m, r.end()
}

// nodesRequest asks below which nodes something differs.
type nodesRequest struct{ groups []nodeGroup }

// nodeGroup is the children of one inner node.
type nodeGroup struct {
	class    ring.Class
	level    int // 0 = the root's children
	node     int
	children []uint64
}

const maxLevels = (ring.LeafBits + maxFan - 1) / maxFan

func (m nodesRequest) encode() []byte {
	w := head(kindNodes)
	w.number(uint64(len(m.groups)))
	for _, g := range m.groups {
		w.class(g.class)
		w.byte(byte(g.level))
		w.number(uint64(g.node))
		w.number(uint64(len(g.children)))
		there := newBitmap(len(g.children))
		for i, h := range g.children {
			if h != 0 {
				there.set(i)
			}
		}
		w.b = append(w.b, there...)
		for _, h := range g.children {
			if h != 0 {
				w.fixed(h)
			}
		}
	}
	return w.b
}

func decodeNodesRequest(payload []byte) (nodesRequest, error) {
	r := open(payload)
	m := nodesRequest{groups: make([]nodeGroup, r.count(2+1+1+1+1))}
	for i := range m.groups {
		g := &m.groups[i]
		g.class, g.level, g.node = r.class(), int(r.byte()), r.small(ring.Leaves)
		n := r.small(1<<maxFan + 1)
		if g.level >= maxLevels {
			r.fail("level out of range")
		}
		there := r.bitmap(n)
		if r.err != nil {
			return nodesRequest{}, r.err
		}
		g.children = make([]uint64, n)
		for k := range g.children {
			if there.has(k) {
				if g.children[k] = r.fixed(); g.children[k] == 0 {
					r.fail("an empty node that is said to hold something")
				}
			}
		}
	}
	return m, r.end()
}

// nodesAnswer tells which children differ, group by group as they were asked.
type nodesAnswer struct {
	differ  []bitmap
	unsound bitmap // groups of classes whose tree, on the other side, does not tell what it holds
}

func (m nodesAnswer) encode() []byte {
	w := &writer{b: slices.Clone(m.unsound)}
	for _, b := range m.differ {
		w.b = append(w.b, b...)
	}
	return w.b
}

func decodeNodesAnswer(b []byte, asked []nodeGroup) (nodesAnswer, error) {
	r := &scanner{b: b}
	m := nodesAnswer{differ: make([]bitmap, len(asked)), unsound: r.bitmap(len(asked))}
	for i, g := range asked {
		m.differ[i] = r.bitmap(len(g.children))
	}
	return m, r.end()
}
