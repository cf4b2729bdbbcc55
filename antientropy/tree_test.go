package antientropy

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
)

func TestShapes(t *testing.T) {
	for bits := range ring.LeafBits + 1 {
		s := shapeOf(1 << bits)
		if got, want := s.nodes(s.levels()), 1<<bits; got != want {
			t.Errorf("%d bits: %d leaves, want %d", bits, got, want)
		}
		if got, want := s.levels(), (bits+maxFan-1)/maxFan; got != want || got > maxLevels {
			t.Errorf("%d bits: %d levels, want %d", bits, got, want)
		}
		if len(s.fans) > 0 && (slices.Max(s.fans) > maxFan || slices.Max(s.fans)-slices.Min(s.fans) > 1 || slices.Min(s.fans) < 1) {
			t.Errorf("%d bits: fans %v", bits, s.fans)
		}
	}
	if got, want := shapeOf(1024).fans, []uint8{5, 5}; !slices.Equal(got, want) {
		t.Errorf("256 partitions: got %v, want %v", got, want)
	}
}

// Nodes differ exactly above the leaves that differ, and empty is 0 at every level.
func TestTreeShowsWhereLeavesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(2, 12).Draw(t, "bits")
		s := shapeOf(1 << bits)
		leaf := rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(1, 3))
		a := rapid.SliceOfN(leaf, 1<<bits, 1<<bits).Draw(t, "leaves")
		b := slices.Clone(a)
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = leaf.Draw(t, "leaf")
		}
		var x, y tree
		y.build(s, a) // room that was used before changes nothing
		x.build(s, a)
		y.build(s, b)
		for level := 0; level <= s.levels(); level++ {
			width := len(a) / s.nodes(level)
			for n := range s.nodes(level) {
				under, other := a[n*width:(n+1)*width], b[n*width:(n+1)*width]
				if got, want := x.level[level][n] == y.level[level][n], slices.Equal(under, other); got != want {
					t.Fatalf("level %d node %d: equal %v, want %v", level, n, got, want)
				}
				if got, want := x.level[level][n] == 0, slices.Max(under) == 0; got != want {
					t.Fatalf("level %d node %d: empty %v, want %v", level, n, got, want)
				}
			}
		}
		if x.root() != x.level[0][0] || len(x.level[0]) != 1 {
			t.Fatal("there is one root")
		}
		for level := range s.levels() {
			for n := range s.nodes(level) {
				if hashNode(x.children(level, n)) != x.level[level][n] {
					t.Fatalf("level %d node %d is not the hash of its children", level, n)
				}
			}
		}
	})
}

func randomLeaves(n int) []uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	leaves := make([]uint64, n)
	for i := range leaves {
		leaves[i] = r.Uint64()
	}
	return leaves
}

func BenchmarkBuildTree(b *testing.B) {
	leaves := randomLeaves(1024)
	s := shapeOf(len(leaves))
	var t tree
	b.ReportAllocs()
	b.SetBytes(int64(8 * len(leaves)))
	for b.Loop() {
		t.build(s, leaves)
	}
}
