package ring

import "github.com/cespare/xxhash/v2"

// NodeID is a node's identity: 128 random bits as 32 lower-case hexadecimal digits, minted with its data directory and kept
// there. Names and addresses may change; the id does not.
type NodeID string

// Key is one key of one bucket with its place on the ring. Bucket and Name are opaque bytes here (limits: httpapi).
type Key struct {
	Bucket string
	Name   string
	Token  uint64 // xxhash64(bucket, 0, name); see NewKey
}

// NewKey computes the key's token.
func NewKey(bucket, name string) Key {
	var space [256]byte
	if len(bucket)+1+len(name) > len(space) { // longer keys are hashed in pieces, without an allocation
		var d xxhash.Digest
		d.Reset()
		d.WriteString(bucket)
		d.Write(space[:1])
		d.WriteString(name)
		return Key{Bucket: bucket, Name: name, Token: d.Sum64()}
	}
	b := append(space[:0], bucket...)
	b = append(b, 0)
	b = append(b, name...)
	return Key{Bucket: bucket, Name: name, Token: xxhash.Sum64(b)}
}

// Digest is the 64-bit hash by which replicas compare encoded objects and the store checks them: xxhash64. It finds
// accidents, not forgeries.
func Digest(b []byte) uint64 { return xxhash.Sum64(b) }
