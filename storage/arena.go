package storage

import (
	"bytes"
	"encoding/binary"
	"sync"
)

const (
	maxShards     = 256
	minShard      = 2 << 20  // bytes; fewer and larger shards are filled more evenly
	granule       = 16       // bytes; entries begin at multiples of it
	slack         = 16       // bytes that a new entry's value can grow at least, as by one more entry of a clock
	bytesPerSlot  = 128      // of the ring, for one slot of the index
	slotLen       = 4        // bytes
	maxChain      = 32       // entries of one slot, whatever the hashes are
	maxSaved      = 16       // entries that one insert gives a second chance
	maxSavedBytes = 64 << 10 // after which it gives no more
	maxCached     = 65 << 10 // bytes of a value: an object of 64 KiB with its clock fits
)

// An entry of the ring: a header of little endian numbers, the key, the value, room to grow.
const (
	atNext    = 0  // reference to the next entry of the slot; 0 = none
	atTag     = 4  // part of the hash
	atSize    = 8  // granules of the whole entry, and the flags
	atKey     = 12 // length of the key
	atValue   = 16 // length of the value
	headerLen = 20

	flagDead = 1 << 31 // no slot leads here any more
	flagUsed = 1 << 30 // hit or overwritten since it was placed
)

// arena is a bounded map from byte keys to byte values that lives, with its index, in one piece of memory that it is given and
// never grows. It drops entries to make room, the oldest first, but those in use get a second chance, so that reading
// everything once does not push out what is read often. It is safe for concurrent use.
//
// It is cut into shards by hash. A shard is a table of slots, each the head of a chain of entries, and a ring of entries.
// What refers to an entry is its offset in the shard, in granules. So there is no pointer in the memory, and the garbage
// collector need not know it. A value is overwritten where it lies if it fits there; what it leaves behind otherwise is dead
// until the ring comes around.
type arena struct {
	shards []shard // a power of two
	limit  int     // bytes of the largest entry
}

type shard struct {
	mu    sync.Mutex
	mem   []byte // slots, then the ring; nil once released
	slots uint64
	base  int // where the ring begins
	// Entries lie from base to head and, if end is not 0, from tail to end: these are the older ones, and between head and
	// tail is room. If end is 0, room is after head, and tail is base.
	head, tail, end int
	high            int // where memory has been used up to
	entries         int
	_               [24]byte // no two shards in one pair of cache lines
}

// newArena takes over memory, which must be zero and at least 4 KiB.
func newArena(memory []byte) *arena {
	n := 1
	for n < maxShards && len(memory)/(2*n) >= minShard {
		n *= 2
	}
	size := len(memory) / n / granule * granule
	a := &arena{shards: make([]shard, n)}
	for i := range a.shards {
		s := &a.shards[i]
		s.mem = memory[i*size : (i+1)*size : (i+1)*size]
		s.slots = uint64(size / (bytesPerSlot + slotLen))
		s.base = roundUp(int(s.slots) * slotLen)
		s.head, s.tail, s.high = s.base, s.base, s.base
		a.limit = (size - s.base) / 8
	}
	return a
}

func roundUp(n int) int { return (n + granule - 1) / granule * granule }

// entrySize is what a new entry takes.
func entrySize(key, value int) int { return roundUp(headerLen + key + value + slack) }

// at gives the shard and the tag of a hash. The shard is the lowest bits; the topmost ones, which are much the same in all keys
// that one node owns, are not used.
func (a *arena) at(hash uint64) (*shard, uint32) {
	return &a.shards[hash&uint64(len(a.shards)-1)], uint32(hash >> 8)
}

// get appends a copy of the value to dst.
func (a *arena) get(hash uint64, dst, key []byte) ([]byte, bool) {
	s, tag := a.at(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, entry, _ := s.find(tag, key)
	if entry == 0 {
		return dst, false
	}
	s.mark(entry, flagUsed)
	return append(dst, s.value(entry)...), true
}

// set replaces the value, or forgets it where it is too large.
func (a *arena) set(hash uint64, key, value []byte) {
	size := entrySize(len(key), len(value))
	fits := len(value) <= maxCached && size <= a.limit
	s, tag := a.at(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	link, entry, chain := s.find(tag, key)
	if entry != 0 {
		if fits && headerLen+len(key)+len(value) <= s.size(entry) {
			s.put(entry+atValue, uint32(len(value)))
			copy(s.value(entry), value)
			s.mark(entry, flagUsed)
			return
		}
		s.drop(link, entry)
	} else if chain >= maxChain {
		s.dropLast(tag)
	}
	if !fits || s.mem == nil {
		return
	}
	entry = s.place(size)
	link = s.slot(tag)
	s.put(entry+atNext, s.load(link))
	s.put(entry+atTag, tag)
	s.put(entry+atSize, uint32(size/granule))
	s.put(entry+atKey, uint32(len(key)))
	s.put(entry+atValue, uint32(len(value)))
	copy(s.key(entry), key)
	copy(s.value(entry), value)
	s.refer(link, entry)
	s.entries++
}

// delete forgets the key.
func (a *arena) delete(hash uint64, key []byte) {
	s, tag := a.at(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if link, entry, _ := s.find(tag, key); entry != 0 {
		s.drop(link, entry)
	}
}

// usage is how much of the memory has been touched so far, and how many entries there are.
func (a *arena) usage() (bytes, entries uint64) {
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		bytes += uint64(s.high)
		entries += uint64(s.entries)
		s.mu.Unlock()
	}
	return bytes, entries
}

// release forgets everything and leaves the memory to the caller. Nothing touches it after that: get finds nothing, set does
// nothing.
func (a *arena) release() {
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		s.mem, s.high, s.entries = nil, 0, 0
		s.mu.Unlock()
	}
}

func (s *shard) load(at int) uint32          { return binary.LittleEndian.Uint32(s.mem[at:]) }
func (s *shard) put(at int, v uint32)        { binary.LittleEndian.PutUint32(s.mem[at:], v) }
func (s *shard) mark(entry int, f uint32)    { s.put(entry+atSize, s.load(entry+atSize)|f) }
func (s *shard) flag(entry int) uint32       { return s.load(entry+atSize) & (flagDead | flagUsed) }
func (s *shard) size(entry int) int          { return int(s.load(entry+atSize)&^(flagDead|flagUsed)) * granule }
func (s *shard) slot(tag uint32) int         { return int(uint64(tag)*s.slots>>32) * slotLen }
func (s *shard) follow(link int) (entry int) { return int(s.load(link)) * granule }
func (s *shard) refer(link, entry int)       { s.put(link, uint32(entry/granule)) }

func (s *shard) key(entry int) []byte {
	from := entry + headerLen
	return s.mem[from : from+int(s.load(entry+atKey))]
}

func (s *shard) value(entry int) []byte {
	from := entry + headerLen + int(s.load(entry+atKey))
	return s.mem[from : from+int(s.load(entry+atValue))]
}

// find gives a key's entry, 0 where there is none, the link that refers to it (a slot, or the entry before), and how many
// other entries were met on the way.
func (s *shard) find(tag uint32, key []byte) (link, entry, met int) {
	if s.mem == nil {
		return 0, 0, 0
	}
	link = s.slot(tag)
	for {
		entry = s.follow(link)
		if entry == 0 || s.load(entry+atTag) == tag && bytes.Equal(s.key(entry), key) {
			return link, entry, met
		}
		link = entry + atNext
		met++
	}
}

// drop takes an entry out of its chain.
func (s *shard) drop(link, entry int) {
	s.put(link, s.load(entry+atNext))
	s.mark(entry, flagDead)
	s.entries--
}

// dropLast takes out the last entry of a chain, which has been in it for longest.
func (s *shard) dropLast(tag uint32) {
	link := s.slot(tag)
	entry := s.follow(link)
	for s.load(entry+atNext) != 0 {
		link = entry + atNext
		entry = s.follow(link)
	}
	s.drop(link, entry)
}

// place makes room for an entry at the head of the ring.
func (s *shard) place(size int) (entry int) {
	saved, savedBytes := 0, 0
	for {
		if s.end == 0 {
			if len(s.mem)-s.head >= size {
				break
			}
			s.end, s.head = s.head, s.base // around; what is left at the end of the memory stays empty
		}
		if s.tail-s.head >= size {
			break
		}
		oldest := s.tail
		flags := s.flag(oldest)
		s.tail += s.size(oldest)
		switch {
		case flags&flagDead != 0:
		case flags&flagUsed != 0 && saved < maxSaved && savedBytes < maxSavedBytes:
			saved++
			savedBytes += s.save(oldest)
		default:
			s.drop(s.linkOf(oldest), oldest)
		}
		if s.tail == s.end {
			s.tail, s.end = s.base, 0
		}
	}
	entry = s.head
	s.head += size
	s.high = max(s.high, s.head)
	return entry
}

// save moves an entry that lies right before tail to the head of the ring, without the room that it does not need. There is
// always enough, for its own is free.
func (s *shard) save(entry int) (size int) {
	link := s.linkOf(entry)
	key, value := int(s.load(entry+atKey)), int(s.load(entry+atValue))
	size = min(s.size(entry), entrySize(key, value))
	to := s.head
	if to != entry {
		used := headerLen + key + value
		copy(s.mem[to:to+used], s.mem[entry:entry+used])
		s.refer(link, to)
	}
	s.put(to+atSize, uint32(size/granule))
	s.head += size
	return size
}

// linkOf gives the link that refers to an entry that is not dead.
func (s *shard) linkOf(entry int) int {
	link := s.slot(s.load(entry + atTag))
	for s.follow(link) != entry {
		link = s.follow(link) + atNext
	}
	return link
}
