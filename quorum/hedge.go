package quorum

import (
	"sync/atomic"
	"time"
)

const (
	hedgeShare = 50     // thousandths of a hedge that each read earns: 5 %
	hedgeCost  = 1000   // thousandths that a hedge costs
	hedgeMost  = 10_000 // thousandths that can be saved up
)

// Silence of this length is taken for a failure of that replica in this read, so that the next one is asked without a
// hedge: by then it is no longer a guess.
const (
	silenceFloor  = 300 * time.Millisecond
	silenceFactor = 8 // times the replica's 95th percentile
)

// hedgeBudget keeps hedges within a share of the reads, so that a cluster that is slow as a whole is not asked twice for
// everything. Safe for concurrent use.
type hedgeBudget struct{ saved atomic.Int64 }

// earn is called once for each read.
func (b *hedgeBudget) earn() {
	if b.saved.Add(hedgeShare) > hedgeMost {
		b.saved.Store(hedgeMost)
	}
}

// spend tells whether a hedge may be sent, and pays for it.
func (b *hedgeBudget) spend() bool {
	for {
		have := b.saved.Load()
		if have < hedgeCost {
			return false
		}
		if b.saved.CompareAndSwap(have, have-hedgeCost) {
			return true
		}
	}
}

// silenceAfter is how long a replica with this percentile may say nothing before it counts as failed.
func silenceAfter(p95 time.Duration) time.Duration { return max(silenceFactor*p95, silenceFloor) }
