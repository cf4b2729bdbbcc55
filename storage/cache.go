package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/rondodb/rondo/ring"
)

const (
	defaultCache = 128 << 20 // bytes
	minCache     = 1 << 20
	maxCache     = min(1<<40, math.MaxInt)
	cacheStep    = 64 << 10 // the cache's size is a multiple of it, and so whole pages
)

// objectCache holds stored values (digest and object) by their data key, outside of the Go heap and bounded. A digest of zero
// without an object says that the database holds nothing under this key.
//
// It is never older than the database. Every write changes database, cache and the stripe's generation, in this order, under
// the lock of its stripe. A reader that fills the cache from the database took the generation before it read, and sets what it
// read under the lock and only if the generation is still the same: either no write has ended since, or the fill is
// dropped; a write that is under way sets its own value later.
type objectCache struct {
	arena  *arena // nil = no cache
	memory []byte // all of the arena's
}

// absent is the cached value of a key that is not in the database.
var absent = make([]byte, digestLen)

// newObjectCache makes a cache that takes so many bytes at most, all told; none if they are negative.
func newObjectCache(bytes int64) (*objectCache, error) {
	if bytes < 0 {
		return &objectCache{}, nil
	}
	memory, err := mapMemory(int(bytes / cacheStep * cacheStep))
	if err != nil {
		return nil, fmt.Errorf("make object cache: %w", err)
	}
	return &objectCache{arena: newArena(memory), memory: memory}, nil
}

// cacheHash is the token in a data key: a hash already.
func cacheHash(dataKey []byte) uint64 { return binary.BigEndian.Uint64(dataKey[1:]) }

// get appends the value to dst.
func (o *objectCache) get(dst, dataKey []byte) ([]byte, bool) {
	if o.arena == nil {
		return dst, false
	}
	return o.arena.get(cacheHash(dataKey), dst, dataKey)
}

// set replaces the value, or forgets it where it is too large to be kept.
func (o *objectCache) set(dataKey, value []byte) {
	if o.arena != nil {
		o.arena.set(cacheHash(dataKey), dataKey, value)
	}
}

// usage is the memory taken so far, in bytes, and the number of values.
func (o *objectCache) usage() (bytes, entries uint64) {
	if o.arena == nil {
		return 0, 0
	}
	return o.arena.usage()
}

// close gives the memory back to the system. It is called once. TryGet may still be under way, and may come later: the arena lets
// go of the memory before, and finds nothing from then on.
func (o *objectCache) close() error {
	if o.arena == nil {
		return nil
	}
	o.arena.release()
	if err := unmapMemory(o.memory); err != nil {
		return fmt.Errorf("close object cache: %w", err)
	}
	return nil
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
