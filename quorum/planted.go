package quorum

// sameDigest is the digest of the first object that is known, else the one given: what the planted bug of stale digests takes
// every digest for. Nothing else may call it.
func (t *readTally) sameDigest(digest uint64) uint64 {
	for i := range t.n {
		if s := &t.slots[i]; s.state == slotFull {
			return s.digest
		}
	}
	return digest
}
