package vclock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The canonical form of an object, on disk and on the wire (equal objects have equal bytes, on every node):
//
//	version  byte      formatVersion
//	vector   uvarint   number of entries, then actor (8 bytes, big endian) and counter (uvarint) each
//	cloud    uvarint   likewise
//	siblings uvarint   number, then for each:
//	  flags   byte     1 tombstone, 2 has an expiry
//	  dot     actor (8 bytes) and counter (uvarint)
//	  time    8 bytes, big endian; expiry 8 bytes where flagged
//	  type    uvarint length and bytes; value: uvarint length and bytes
const (
	formatVersion = 1

	flagTombstone = 1
	flagExpiry    = 2
)

// ErrCorrupt marks bytes that are not the canonical encoding of an object, a clock or a context.
var ErrCorrupt = errors.New("vclock: corrupt encoding")

// AppendObject appends the canonical encoding of o to dst. Equal objects give equal bytes.
func AppendObject(dst []byte, o Object) []byte {
	dst = append(dst, formatVersion)
	dst = appendClock(dst, o.Clock)
	dst = binary.AppendUvarint(dst, uint64(len(o.Siblings)))
	for i := range o.Siblings {
		s := &o.Siblings[i]
		var flags byte
		if s.Tombstone {
			flags |= flagTombstone
		}
		if s.Expiry != 0 {
			flags |= flagExpiry
		}
		dst = append(dst, flags)
		dst = appendDot(dst, s.Dot)
		dst = binary.BigEndian.AppendUint64(dst, s.Time)
		if s.Expiry != 0 {
			dst = binary.BigEndian.AppendUint64(dst, s.Expiry)
		}
		dst = binary.AppendUvarint(dst, uint64(len(s.ContentType)))
		dst = append(dst, s.ContentType...)
		dst = binary.AppendUvarint(dst, uint64(len(s.Value)))
		dst = append(dst, s.Value...)
	}
	return dst
}

// EncodedSize is a bound on the length of o's encoding, close above it: for sizing buffers.
func EncodedSize(o Object) int {
	n := 16 + 18*o.Clock.Len()
	for i := range o.Siblings {
		n += 48 + len(o.Siblings[i].ContentType) + len(o.Siblings[i].Value)
	}
	return n
}

// minSibling is the least that an encoded sibling takes: flags, dot, time and two lengths.
const minSibling = 1 + 9 + 8 + 1 + 1

// small holds the parts of a usual object, so that decoding it allocates once: one sibling, and the clock entries of three
// owners and one more store incarnation.
type small struct {
	dots    [4]Dot
	sibling [1]Sibling
}

// DecodeObject reads an encoded object. Values alias b, which must not change while the object is used. Anything that is
// not canonical fails with an error that wraps ErrCorrupt; memory is bounded by a small multiple of len(b).
func DecodeObject(b []byte) (Object, error) {
	r := reader{b: b, small: new(small)}
	if v := r.byte(); v != formatVersion && r.err == nil {
		return Object{}, fmt.Errorf("%w: object format %d, this build reads %d", ErrCorrupt, v, formatVersion)
	}
	o := Object{Clock: r.clock()}
	switch n := r.count(minSibling); n {
	case 0:
	case 1:
		o.Siblings = r.small.sibling[:]
	default:
		o.Siblings = make([]Sibling, n)
	}
	for i := range o.Siblings {
		s := &o.Siblings[i]
		r.sibling(s)
		switch {
		case r.err != nil:
			return Object{}, r.err
		case s.Tombstone && (len(s.Value) > 0 || s.ContentType != ""):
			r.fail("tombstone with a value")
		case !o.Clock.Contains(s.Dot):
			r.fail("sibling beyond its clock")
		case i > 0 && compareNewest(o.Siblings[i-1], *s) >= 0:
			r.fail("siblings out of order")
		}
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail("trailing bytes")
	}
	if r.err == nil && repeated(o.Siblings) {
		r.fail("dot of two siblings")
	}
	if r.err != nil {
		return Object{}, r.err
	}
	return o, nil
}

// repeated tells whether two siblings have the same dot.
func repeated(siblings []Sibling) bool {
	if len(siblings) < 2 {
		return false
	}
	dots := make([]Dot, len(siblings))
	for i := range siblings {
		dots[i] = siblings[i].Dot
	}
	slices.SortFunc(dots, Dot.Compare)
	return len(slices.Compact(dots)) < len(siblings)
}

// contentType avoids a string allocation for the types that nearly all values have.
func contentType(b []byte) string {
	switch string(b) { // compared without allocating
	case "":
		return ""
	case TypeJSON:
		return TypeJSON
	case TypeText:
		return TypeText
	case TypeBytes:
		return TypeBytes
	}
	return string(b)
}

// Content types that the API assigns by itself.
const (
	TypeJSON  = "application/json"
	TypeText  = "text/plain; charset=utf-8"
	TypeBytes = "application/octet-stream"
)

func appendDot(dst []byte, d Dot) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.Actor))
	return binary.AppendUvarint(dst, d.Counter)
}

func appendClock(dst []byte, c Clock) []byte {
	for _, dots := range [2][]Dot{c.vector, c.cloud} {
		dst = binary.AppendUvarint(dst, uint64(len(dots)))
		for _, d := range dots {
			dst = appendDot(dst, d)
		}
	}
	return dst
}

// AppendClock appends the canonical encoding of a clock: equal clocks, equal bytes.
func AppendClock(dst []byte, c Clock) []byte { return appendClock(dst, c) }

// DecodeClock reads a clock off the front of b and returns what follows it. Anything that is not canonical fails with an
// error that wraps ErrCorrupt; memory is bounded by a small multiple of len(b), and b is not kept.
func DecodeClock(b []byte) (Clock, []byte, error) {
	r := reader{b: b}
	c := r.clock()
	return c, r.b, r.err
}

// reader takes canonical pieces off a buffer and keeps the first error.
type reader struct {
	b     []byte
	err   error
	small *small // room for what is read, nil = none
	used  int    // dots of small that are taken
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, why)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("cut short")
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 { // cut, too long, or padded: not canonical
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of items that take at least size bytes each, so that a lie cannot allocate more than was sent.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail("count beyond the bytes")
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n == 0 {
		return nil
	}
	return r.take(n)
}

func (r *reader) dot() Dot {
	d := Dot{Actor(r.uint64()), r.uvarint()}
	if d.Counter == 0 {
		r.fail("dot of zero")
	}
	return d
}

// room is a slice of n dots, in the reader's small space where they fit.
func (r *reader) room(n int) []Dot {
	if r.small == nil || n > len(r.small.dots)-r.used {
		return make([]Dot, n)
	}
	out := r.small.dots[r.used : r.used+n : r.used+n]
	r.used += n
	return out
}

func (r *reader) dots() []Dot {
	n := r.count(9) // a dot takes at least this many bytes
	if n == 0 {
		return nil
	}
	out := r.room(n)
	for i := range out {
		out[i] = r.dot()
		if i > 0 && out[i-1].Compare(out[i]) >= 0 {
			r.fail("dots out of order")
		}
		if r.err != nil {
			return nil
		}
	}
	return out
}

func (r *reader) clock() Clock {
	c := Clock{vector: r.dots(), cloud: r.dots()}
	for i := 1; i < len(c.vector); i++ {
		if c.vector[i-1].Actor == c.vector[i].Actor {
			r.fail("actor twice in a vector")
		}
	}
	for _, d := range c.cloud {
		if d.Counter-1 <= c.base(d.Actor) { // a counter is never 0 here
			r.fail("cloud dot that belongs in the vector")
		}
	}
	if r.err != nil {
		return Clock{}
	}
	return c
}

func (r *reader) sibling(s *Sibling) {
	flags := r.byte()
	if flags&^(flagTombstone|flagExpiry) != 0 {
		r.fail("unknown sibling flags")
	}
	s.Tombstone = flags&flagTombstone != 0
	s.Dot = r.dot()
	s.Time = r.uint64()
	if flags&flagExpiry != 0 {
		if s.Expiry = r.uint64(); s.Expiry == 0 {
			r.fail("expiry of zero")
		}
	}
	s.ContentType = contentType(r.bytes())
	s.Value = r.bytes()
}
