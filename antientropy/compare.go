package antientropy

import (
	"fmt"
	"slices"

	"github.com/rondodb/rondo/ring"
)

const rootsAtOnce = 1 << 15 // classes in one message

// shared tells whether both nodes own a class.
func shared(l *ring.Layout, c ring.Class, a, b ring.NodeID) bool {
	if c.Partition < 0 || c.Partition >= l.Partitions() {
		return false
	}
	owners := l.Owners(c.Partition, c.N)
	return slices.Contains(owners, a) && slices.Contains(owners, b)
}

// listed are the classes of some partitions that this node would compare with another one: those that both own, and that hold
// anything, held something that was collected, or have no vote.
func (r *Repairer) listed(l *ring.Layout, peer ring.NodeID, first, end int) []ring.Class {
	self := r.config.Membership.Self()
	known := append(r.config.Store.Classes(), r.config.Store.Unsynced()...)
	for p := first; p < end; p++ {
		for n := 1; n <= maxReplicas; n++ {
			if c := (ring.Class{Partition: p, N: n}); r.config.Store.Marks(c).Released > 0 {
				known = append(known, c)
			}
		}
	}
	known = slices.DeleteFunc(known, func(c ring.Class) bool {
		return c.Partition < first || c.Partition >= end || !shared(l, c, self, peer)
	})
	slices.SortFunc(known, ring.Class.Compare)
	return slices.Compact(known)
}

// compareRoots asks which classes differ. Where all is true it learns of classes that only the other node holds, too.
func (x *exchange) compareRoots(all bool) error {
	mine := x.classes
	if !all {
		for len(mine) > 0 {
			n := min(len(mine), rootsAtOnce)
			if err := x.askRoots(rootsRequest{}, len(x.classes)-len(mine), n); err != nil {
				return err
			}
			mine = mine[n:]
		}
		return nil
	}
	// Whole partitions are asked, so that the other side can tell what is missing between the classes that are listed.
	count, partitions := len(x.classes), x.layout.Partitions()
	for first, from := 0, 0; first < partitions; {
		end, n := partitions, count-from
		if n > rootsAtOnce {
			n = rootsAtOnce
			end = x.classes[from+n].class.Partition
			for x.classes[from+n-1].class.Partition == end {
				n--
			}
		}
		if err := x.askRoots(rootsRequest{first: first, end: end}, from, n); err != nil {
			return err
		}
		first, from = end, from+n
	}
	return nil
}

// askRoots compares the n classes from one place on.
func (x *exchange) askRoots(m rootsRequest, from, n int) error {
	m.classes = make([]classRoot, n)
	for i := range m.classes {
		c := x.classes[from+i].class
		if err := x.read(from + i); err != nil {
			return err
		}
		marks := x.config.Store.Marks(c)
		m.classes[i] = classRoot{class: c, root: x.reader.tree.root(), released: marks.Released, watermark: marks.Watermark}
	}
	b, err := x.ask(m.encode())
	if err != nil {
		return err
	}
	answer, err := decodeRootsAnswer(b, n)
	if err != nil {
		return fmt.Errorf("compare roots: %w", err)
	}
	var ahead []classRoot
	for i := range m.classes {
		at, c := from+i, m.classes[i].class
		if released := answer.released[i]; released > 0 {
			ahead = append(ahead, classRoot{class: c, released: released})
		}
		x.comparedRoot(at, answer.differ.has(i), answer.unsound.has(i))
	}
	self := x.config.Membership.Self()
	for _, o := range answer.others {
		if o.class.Partition < m.first || o.class.Partition >= m.end || !shared(x.layout, o.class, self, x.peer) {
			return fmt.Errorf("compare roots: %w: a class that was not asked", errWire)
		}
		ahead = append(ahead, o)
		x.step.Total++
		x.classes = append(x.classes, comparison{class: o.class})
		if err := x.read(len(x.classes) - 1); err != nil {
			return err
		}
		x.comparedRoot(len(x.classes)-1, x.reader.tree.root() != o.root, o.unsound)
	}
	x.told()
	return x.compareMarks(x.peer, ahead)
}

// read builds this node's tree of a class.
func (x *exchange) read(at int) error {
	sound, err := x.reader.read(x.classes[at].class)
	if err == nil && !sound {
		x.unsound(at, x.config.Membership.Self())
	}
	return err
}

// unsound notes that a tree of a class is not known to tell what is stored. It proves nothing; what it shows as different is exchanged
// all the same.
func (x *exchange) unsound(at int, node ring.NodeID) {
	x.fail(at, "the Merkle tree of %s is being computed anew", x.config.Name(node))
}

// comparedRoot takes note of how the roots of a class compare.
func (x *exchange) comparedRoot(at int, differs, unsound bool) {
	x.classes[at].compared = true
	if unsound {
		x.unsound(at, x.peer)
	}
	if !differs {
		x.step.Compared++
		return
	}
	x.step.Different++
	x.add(at)
	x.nodes = append(x.nodes, nodeRef{at: at})
}

// compareNodes asks for one message's worth of nodes which of their children differ.
func (x *exchange) compareNodes() error {
	var (
		m    nodesRequest
		refs []nodeRef
		room = maxMessage
		read = -1 // the class whose tree is built
	)
	for len(x.nodes) > 0 && room > 0 {
		ref := x.nodes[len(x.nodes)-1]
		x.nodes = x.nodes[:len(x.nodes)-1]
		c := x.classes[ref.at].class
		if ref.at != read {
			if err := x.read(ref.at); err != nil {
				return err
			}
			read = ref.at
		}
		children := slices.Clone(x.reader.tree.children(ref.level, ref.node))
		m.groups = append(m.groups, nodeGroup{class: c, level: ref.level, node: ref.node, children: children})
		refs = append(refs, ref)
		room -= 8*len(children) + 16
	}
	b, err := x.ask(m.encode())
	if err != nil {
		return err
	}
	answer, err := decodeNodesAnswer(b, m.groups)
	if err != nil {
		return fmt.Errorf("compare nodes: %w", err)
	}
	leaves := ring.Leaves / x.layout.Partitions()
	for i, ref := range refs {
		if answer.unsound.has(i) {
			x.unsound(ref.at, x.peer)
		}
		for k := range m.groups[i].children {
			if !answer.differ[i].has(k) {
				continue
			}
			x.add(ref.at)
			child := ref.node<<x.reader.shape.fans[ref.level] + k
			if ref.level+1 < x.reader.shape.levels() {
				x.nodes = append(x.nodes, nodeRef{at: ref.at, level: ref.level + 1, node: child})
			} else {
				x.leaves = append(x.leaves, leafRef{at: ref.at, leaf: m.groups[i].class.Partition*leaves + child})
			}
		}
		x.done(ref.at)
	}
	x.told()
	return nil
}

// answerRoots compares the asker's roots with this node's.
func (r *Repairer) answerRoots(from ring.NodeID, l *ring.Layout, m rootsRequest) ([]byte, error) {
	if m.end > l.Partitions() || m.first > m.end {
		return nil, fmt.Errorf("%w: partitions out of range", errWire)
	}
	self := r.config.Membership.Self()
	answer, reader := newRootsAnswer(len(m.classes)), r.leafReader(l)
	var ahead []classRoot
	for i, c := range m.classes {
		if !shared(l, c.class, self, from) {
			return nil, fmt.Errorf("%w: partition %d with n=%d is not owned by both", errWire, c.class.Partition, c.class.N)
		}
		sound, err := reader.read(c.class)
		if err != nil {
			return nil, err
		}
		if reader.tree.root() != c.root {
			answer.differ.set(i)
		}
		if !sound {
			answer.unsound.set(i)
		}
		if released := r.config.Store.Marks(c.class).Released; released > c.watermark {
			answer.released[i] = released
		}
		if c.released > 0 {
			ahead = append(ahead, c)
		}
	}
	if m.end > 0 {
		for _, c := range r.listed(l, from, m.first, m.end) {
			if _, asked := slices.BinarySearchFunc(m.classes, c, func(r classRoot, c ring.Class) int { return r.class.Compare(c) }); asked {
				continue
			}
			sound, err := reader.read(c)
			if err != nil {
				return nil, err
			}
			answer.others = append(answer.others, classRoot{class: c, root: reader.tree.root(), released: r.config.Store.Marks(c).Released, unsound: !sound})
		}
	}
	if err := r.compareMarks(from, ahead); err != nil {
		return nil, err
	}
	return answer.encode(), nil
}

// answerNodes compares the asker's nodes with this node's.
func (r *Repairer) answerNodes(from ring.NodeID, l *ring.Layout, m nodesRequest) ([]byte, error) {
	self := r.config.Membership.Self()
	answer, reader := nodesAnswer{unsound: newBitmap(len(m.groups))}, r.leafReader(l)
	shape, sound := reader.shape, false
	var read ring.Class // the class whose tree is built; none has N 0
	for i, g := range m.groups {
		switch {
		case !shared(l, g.class, self, from):
			return nil, fmt.Errorf("%w: partition %d with n=%d is not owned by both", errWire, g.class.Partition, g.class.N)
		case g.level >= shape.levels() || g.node >= shape.nodes(g.level) || len(g.children) != 1<<shape.fans[g.level]:
			return nil, fmt.Errorf("%w: no such node", errWire)
		}
		if g.class != read {
			var err error
			if sound, err = reader.read(g.class); err != nil {
				return nil, err
			}
			read = g.class
		}
		if !sound {
			answer.unsound.set(i)
		}
		differ := newBitmap(len(g.children))
		for k, h := range reader.tree.children(g.level, g.node) {
			if h != g.children[k] {
				differ.set(k)
			}
		}
		answer.differ = append(answer.differ, differ)
	}
	return answer.encode(), nil
}
