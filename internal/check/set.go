package check

import (
	"iter"
	"math/bits"
)

// set is a set of writes of one key, by their place in the order of invocation. Sets grow as needed; sharing one that is
// added to is the caller's concern.
type set []uint64

func (s set) has(i int) bool { return i>>6 < len(s) && s[i>>6]&(1<<(i&63)) != 0 }

func (s *set) add(i int) {
	for len(*s) <= i>>6 {
		*s = append(*s, 0)
	}
	(*s)[i>>6] |= 1 << (i & 63)
}

func (s *set) join(o set) {
	for len(*s) < len(o) {
		*s = append(*s, 0)
	}
	for i, w := range o {
		(*s)[i] |= w
	}
}

// meet keeps what o has too.
func (s set) meet(o set) {
	for i := range s {
		if i < len(o) {
			s[i] &= o[i]
		} else {
			s[i] = 0
		}
	}
}

// subtract drops what o has.
func (s set) subtract(o set) {
	for i := range min(len(s), len(o)) {
		s[i] &^= o[i]
	}
}

// all yields the elements in ascending order.
func (s set) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

func (s set) clone() set { return append(set(nil), s...) }

// missing is the first element of s that o lacks.
func (s set) missing(o set) (int, bool) {
	for i, w := range s {
		if i < len(o) {
			w &^= o[i]
		}
		if w != 0 {
			return i<<6 + bits.TrailingZeros64(w), true
		}
	}
	return 0, false
}

// first is the set of the writes 0 to n-1.
func first(n int) set {
	var s set
	for i := range n {
		s.add(i)
	}
	return s
}

// bounds are what a write, or a token, covers: at least, and at most. They differ only through writes without a context
// and through deletes that a read did not name.
type bounds struct{ least, most set }

func (b *bounds) join(o bounds) {
	b.least.join(o.least)
	b.most.join(o.most)
}

func (b *bounds) add(i int) {
	b.least.add(i)
	b.most.add(i)
}

func (b bounds) clone() bounds { return bounds{b.least.clone(), b.most.clone()} }
