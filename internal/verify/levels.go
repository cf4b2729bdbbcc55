package verify

import (
	"strconv"

	"github.com/rondodb/rondo/internal/client"
)

// levels are what the requests ask for, as the API spells it.
type levels struct {
	n        int // replicas of a key by the bucket's settings; receipts know better where a cluster has fewer nodes
	r, w, dw string
}

// newLevels are what options ask for in a bucket with these settings.
func newLevels(o client.Options, b client.BucketSettings) levels {
	first := func(texts ...string) string {
		for _, t := range texts {
			if t != "" {
				return t
			}
		}
		return "quorum"
	}
	return levels{
		n:  max(b.N, 1),
		r:  first(o.R, o.Consistency, string(b.R)),
		w:  first(o.W, o.Consistency, string(b.W)),
		dw: first(o.DW, string(b.DW)),
	}
}

// count is a level as a number of n replicas. One that the API does not know counts as 0, so that it proves nothing.
func count(level string, n int) int {
	switch level {
	case "one":
		return 1
	case "quorum":
		return n/2 + 1
	case "all":
		return n
	}
	k, err := strconv.Atoi(level)
	if err != nil {
		return 0
	}
	return k
}

// of is the number of replicas that an answer counts, or where it does not say, what the bucket has.
func (l levels) of(n int) int {
	if n > 0 {
		return n
	}
	return l.n
}

func (l levels) reads(n int) int  { return count(l.r, l.of(n)) }
func (l levels) writes(n int) int { return count(l.w, l.of(n)) }

// durable is how many acknowledgements must be on disk: never more than there must be at all.
func (l levels) durable(n int) int { return min(count(l.dw, l.of(n)), l.writes(n)) }

// strict tells whether reads and writes are sure to share a replica.
func (l levels) strict(n int) bool { return l.reads(n)+l.writes(n) > l.of(n) }
