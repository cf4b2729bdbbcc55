package ring

// LeafBits is how many top bits of a token name its leaf in a Merkle tree. It is the same in every cluster: a partition of 2^p in a
// cluster is the 2^(LeafBits-p) leaves below its own bits, so that the leaves outlive a split of partitions.
const LeafBits = 18

// Leaves is the number of leaves of the whole ring. It is a multiple of every partition count.
const Leaves = 1 << LeafBits

// Leaf is the leaf of a token. The tokens of a leaf, like those of a partition, are one contiguous range.
func Leaf(token uint64) int { return int(token >> (64 - LeafBits)) }

// LeafTokens is the first and the last token of a leaf.
func LeafTokens(leaf int) (first, last uint64) {
	first = uint64(leaf) << (64 - LeafBits)
	return first, first | (1<<(64-LeafBits) - 1)
}

// Class is the objects of one partition whose buckets have one replica count: what the same nodes own, and what one Merkle tree covers.
type Class struct {
	Partition int
	N         int // replica count of the bucket, as it is set, 1 to 7
}

// Compare orders classes by partition, then replica count.
func (c Class) Compare(o Class) int {
	if c.Partition != o.Partition {
		return c.Partition - o.Partition
	}
	return c.N - o.N
}
