//go:build planted

package vclock

import (
	"cmp"
	"math/rand/v2"
	"testing"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
)

// The model of full causal histories finds the bugs of this package.
func TestPlanted(t *testing.T) {
	find := func(t *testing.T) error {
		const seeds = 300
		var first error
		found := 0
		for seed := range uint64(seeds) {
			if err := newHistory(genuine(), rand.New(rand.NewPCG(seed, 2)).IntN).run(40); err != nil {
				first = cmp.Or(first, err)
				found++
			}
		}
		t.Logf("found in %d of %d histories", found, seeds)
		return first
	}
	for _, b := range []plant.Bug{plant.FlattenedContext, plant.LWWTieBreak, plant.MergeNotIdempotent} {
		planttest.Catches(t, b, find)
	}
}
