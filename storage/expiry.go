package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/rondodb/rondo/vclock"
)

// indexEntry is what the listing index keeps of an object: its state, and when that changes because values expire. The zero entry is
// that of a key which is not there.
//
//	state(1)                     nothing expires, or not so that the state would change
//	state(1) last(8)             all values expire at this time, or the last of them in an object that was mixed before
//	state(1) first(8) last(8)    live until the first value expires, then mixed until the last one has (the highest number: never)
type indexEntry struct {
	state       vclock.State
	first, last uint64 // nanoseconds since 1970; 0 = never
}

// entryOf is the index entry of an object.
func entryOf(o vclock.Object) indexEntry {
	e := indexEntry{state: o.State()}
	lasting := false
	for i := range o.Siblings {
		switch s := &o.Siblings[i]; {
		case s.Tombstone:
		case s.Expiry == 0:
			lasting = true
		default:
			if e.first == 0 || s.Expiry < e.first {
				e.first = s.Expiry
			}
			e.last = max(e.last, s.Expiry)
		}
	}
	if lasting {
		e.last = 0
	}
	if e.state != vclock.Live {
		e.first = 0
	}
	return e
}

// at is the state at a time: vclock.Object.StateAt of the object.
func (e indexEntry) at(now uint64) vclock.State {
	switch {
	case e.last != 0 && now >= e.last:
		return vclock.Deleted
	case e.first != 0 && now >= e.first:
		return vclock.Mixed
	}
	return e.state
}

func (e indexEntry) append(dst []byte) []byte {
	dst = append(dst, byte(e.state))
	last := e.last
	switch {
	case e.first == 0 && e.last == 0:
		return dst
	case e.state == vclock.Live && e.first != e.last:
		if last == 0 {
			last = math.MaxUint64
		}
		dst = binary.BigEndian.AppendUint64(dst, e.first)
	}
	return binary.BigEndian.AppendUint64(dst, last)
}

// parseEntry reads an index entry.
func parseEntry(v []byte) (indexEntry, error) {
	bad := fmt.Errorf("%w: index entry %x", ErrCorrupt, v)
	if len(v) == 0 || v[0] < byte(vclock.Live) || v[0] > byte(vclock.Mixed) {
		return indexEntry{}, bad
	}
	e := indexEntry{state: vclock.State(v[0])}
	switch rest := v[1:]; {
	case len(rest) == 0:
		return e, nil
	case len(rest) == 8 && e.state == vclock.Live:
		e.last = binary.BigEndian.Uint64(rest)
		e.first = e.last
	case len(rest) == 8 && e.state == vclock.Mixed:
		e.last = binary.BigEndian.Uint64(rest)
	case len(rest) == 16 && e.state == vclock.Live:
		e.first, e.last = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
		if e.last == math.MaxUint64 {
			e.last = 0
		}
	default:
		return indexEntry{}, bad
	}
	if e.state == vclock.Live && e.first == 0 || e.last != 0 && e.last < e.first {
		return indexEntry{}, bad
	}
	return e, nil
}

// now is the wall clock as objects have it.
func (s *Store) now() uint64 { return uint64(max(0, s.cfg.Now().UnixNano())) }
