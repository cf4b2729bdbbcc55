package load

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// chooser picks the keys of a run. It is shared by all connections; each brings its own random source.
type chooser struct {
	kind string
	keys uint64        // that exist when the run starts
	next atomic.Uint64 // Latest: number of keys so far
	zipf *zipf
}

func newChooser(kind string, keys int) *chooser {
	c := &chooser{kind: kind, keys: uint64(keys)}
	c.next.Store(uint64(keys))
	if kind != Uniform {
		c.zipf = newZipf(uint64(keys))
	}
	return c
}

// read picks the number of a key to read.
func (c *chooser) read(r *rand.Rand) uint64 {
	switch c.kind {
	case Zipf:
		return c.zipf.next(r)
	case Latest:
		return c.next.Load() - 1 - c.zipf.next(r)
	}
	return r.Uint64N(c.keys)
}

// write picks the number of a key to write.
func (c *chooser) write(r *rand.Rand) uint64 {
	switch c.kind {
	case Zipf:
		return c.zipf.next(r)
	case Latest:
		return c.next.Add(1) - 1
	}
	return r.Uint64N(c.keys)
}

// zipfTheta is how skewed hot keys are: the constant of YCSB. math/rand's Zipf cannot go below 1.
const zipfTheta = 0.99

// zipf draws ranks 0..n-1 with probability falling as 1/(rank+1)^theta ("Quickly Generating Billion-Record Synthetic
// Databases", Gray et al. 1994, section 3). Read-only after it was made.
type zipf struct {
	n                        float64
	zeta, alpha, eta, second float64
}

func newZipf(n uint64) *zipf {
	zeta := 0.0
	for i := uint64(1); i <= n; i++ {
		zeta += 1 / math.Pow(float64(i), zipfTheta)
	}
	second := 1 + math.Pow(0.5, zipfTheta)
	z := &zipf{n: float64(n), zeta: zeta, alpha: 1 / (1 - zipfTheta), second: second}
	z.eta = (1 - math.Pow(2/z.n, 1-zipfTheta)) / (1 - second/zeta)
	return z
}

func (z *zipf) next(r *rand.Rand) uint64 {
	u := r.Float64()
	switch uz := u * z.zeta; {
	case uz < 1:
		return 0
	case uz < z.second && z.n > 1:
		return 1
	}
	rank := z.n * math.Pow(z.eta*u-z.eta+1, z.alpha)
	return uint64(min(max(rank, 0), z.n-1))
}
