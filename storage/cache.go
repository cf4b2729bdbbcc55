package storage

import (
	"encoding/binary"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/rondodb/rondo/ring"
)

// maxCached bounds a cached entry, key and value together: fastcache silently leaves out what does not fit its 64 KiB chunks.
const maxCached = 60 << 10

// objectCache holds stored values (digest and object) by their data key, outside of the Go heap and bounded. A digest of zero
// without an object says that the database holds nothing under this key.
//
// It is never older than the database. Every write changes database, cache and the stripe's generation, in this order, under
// the lock of its stripe. A reader that fills the cache from the database took the generation before it read, and sets what it
// read under the lock and only if the generation is still the same: either no write has ended since, or the fill is
// dropped; a write that is under way sets its own value later.
type objectCache struct{ c *fastcache.Cache }

// absent is the cached value of a key that is not in the database.
var absent = make([]byte, digestLen)

func newObjectCache(bytes int64) *objectCache {
	if bytes < 0 {
		return &objectCache{}
	}
	return &objectCache{c: fastcache.New(int(bytes))}
}

// get appends the value to dst.
func (o *objectCache) get(dst, key []byte) ([]byte, bool) {
	if o.c == nil {
		return dst, false
	}
	return o.c.HasGet(dst, key)
}

// set replaces the value, or forgets it where it is too large to be kept.
func (o *objectCache) set(key, value []byte) {
	switch {
	case o.c == nil:
	case len(key)+len(value) > maxCached:
		o.c.Del(key)
	default:
		o.c.Set(key, value)
	}
}

// close gives the memory back to the process.
func (o *objectCache) close() {
	if o.c != nil {
		o.c.Reset()
	}
}

// TryGet answers from the cache only and never blocks. ok is false where the disk must be asked. The bytes are the caller's to
// keep.
func (s *Store) TryGet(key ring.Key) (object []byte, digest uint64, ok bool) {
	var space [256]byte
	v, ok := s.cache.get(nil, appendDataKey(space[:0], key))
	if !ok || s.gate.closed() {
		return nil, 0, false
	}
	s.count.gets.Add(1)
	s.count.hits.Add(1)
	if len(v) <= digestLen {
		return nil, 0, true
	}
	return v[digestLen:], binary.BigEndian.Uint64(v), true
}
