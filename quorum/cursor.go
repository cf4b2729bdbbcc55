package quorum

import (
	"encoding/base64"

	"github.com/rondodb/rondo/ring"
)

// position is a place in the order of all keys of a bucket: after the name in the partition, "" being before all of it.
type position struct {
	partition int
	name      string
}

// before tells whether p comes first.
func (p position) before(q position) bool {
	if p.partition != q.partition {
		return p.partition < q.partition
	}
	return p.name < q.name
}

// maxName bounds the names in cursors and listings: api.md allows keys of 1,024 bytes.
const maxName = 1 << 16

// encodeCursor seals a position for the walk of one bucket and prefix. Partitions are fixed for the life of a cluster, so a
// cursor stays good through any change of the ring.
func encodeCursor(bucket, prefix string, p position) string {
	var w writer
	w.byte(wireVersion)
	w.fixed(ring.Digest([]byte(bucket)))
	w.fixed(ring.Digest([]byte(prefix)))
	w.number(uint64(p.partition))
	w.text(p.name)
	return base64.RawURLEncoding.EncodeToString(w.b)
}

// decodeCursor opens a cursor: false where it is none, or of another bucket or prefix.
func decodeCursor(bucket, prefix, cursor string, partitions int) (position, bool) {
	if cursor == "" {
		return position{}, true
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) > maxName {
		return position{}, false
	}
	r := scanner{b: b}
	r.version(wireVersion)
	if r.fixed() != ring.Digest([]byte(bucket)) || r.fixed() != ring.Digest([]byte(prefix)) {
		r.fail("another walk")
	}
	p := position{partition: r.small(partitions - 1)}
	p.name = r.text()
	return p, r.end() == nil
}
