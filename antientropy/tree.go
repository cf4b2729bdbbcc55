package antientropy

import (
	"encoding/binary"
	"math/bits"

	"github.com/rondodb/rondo/ring"
)

// maxFan is the most bits of a leaf's number that one level of a tree decides: a node has at most 64 children.
const maxFan = 6

// shape is how the tree of a class is cut into levels. It follows from the number of leaves alone, so that all nodes of a cluster cut
// alike: as few levels as there can be, of about the same width.
type shape struct {
	fans []uint8 // bits that each level decides, root first; the sum is log2 of the leaves
}

// shapeOf cuts a tree of a power of two of leaves.
func shapeOf(leaves int) shape {
	depth := bits.TrailingZeros(uint(leaves))
	levels := (depth + maxFan - 1) / maxFan
	fans := make([]uint8, levels)
	for i := range fans {
		fan := (depth + levels - i - 1) / (levels - i)
		fans[i], depth = uint8(fan), depth-fan
	}
	return shape{fans: fans}
}

// levels is how many levels of nodes stand above the leaves.
func (s shape) levels() int { return len(s.fans) }

// nodes is the number of nodes of a level; the root alone is level 0, the leaves are level levels().
func (s shape) nodes(level int) int {
	n := 0
	for _, fan := range s.fans[:level] {
		n += int(fan)
	}
	return 1 << n
}

// tree is the whole tree above leaves that were read once. The zero tree has room for none.
type tree struct {
	shape shape
	level [][]uint64 // level[0] is the root alone, the last one the leaves
}

// build computes all inner nodes. It keeps leaves, and takes its room from the tree that was built before.
func (t *tree) build(s shape, leaves []uint64) {
	if len(t.level) != s.levels()+1 {
		t.level = make([][]uint64, s.levels()+1)
	}
	t.shape = s
	t.level[s.levels()] = leaves
	for l := s.levels() - 1; l >= 0; l-- {
		n, fan := s.nodes(l), s.fans[l]
		if cap(t.level[l]) < n {
			t.level[l] = make([]uint64, n)
		}
		t.level[l] = t.level[l][:n]
		for i := range n {
			t.level[l][i] = hashNode(t.level[l+1][i<<fan : (i+1)<<fan])
		}
	}
}

// root is 0 where all leaves are empty.
func (t *tree) root() uint64 { return t.level[0][0] }

// children are the hashes below one node.
func (t *tree) children(level, node int) []uint64 {
	fan := t.shape.fans[level]
	return t.level[level+1][node<<fan : (node+1)<<fan]
}

// hashNode is the hash of a node with these children, at most 64: 0 where all of them are 0, so that empty is the same at every level.
func hashNode(children []uint64) uint64 {
	var space [8 << maxFan]byte
	any := uint64(0)
	b := space[:0]
	for _, h := range children {
		any |= h
		b = binary.BigEndian.AppendUint64(b, h)
	}
	if any == 0 {
		return 0
	}
	return max(ring.Digest(b), 1)
}
