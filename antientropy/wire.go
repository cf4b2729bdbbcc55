package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rondodb/rondo/ring"
)

// The first byte of a message is its kind, the second its version. An answer has neither: who asked knows what it asked.
const (
	kindRoots = 1 // compare the roots of classes
	kindNodes = 2 // compare the children of nodes
	kindLists = 3 // compare the objects of leaves, and send those that the asker lacks
	kindPush  = 4 // take these objects, forget those

	firstHandover, lastHandover = 10, 19 // hints and collection

	wireVersion = 1
)

// Bounds of what is sent. What is received is bounded by the frames of the replica protocol.
const (
	maxMessage = 1 << 20 // bytes that a message aims at; one object, or the objects of one token, may be more
	maxText    = 300     // bytes of an error text
)

// errWire marks a message of this package that is malformed.
var errWire = errors.New("malformed message")

// writer appends the pieces of messages: numbers as uvarints, bytes with their length before them.
type writer struct{ b []byte }

func (w *writer) byte(v byte)     { w.b = append(w.b, v) }
func (w *writer) number(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) fixed(v uint64)  { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(v []byte)  { w.number(uint64(len(v))); w.b = append(w.b, v...) }
func (w *writer) text(v string)   { w.number(uint64(len(v))); w.b = append(w.b, v...) }
func (w *writer) key(k ring.Key)  { w.text(k.Bucket); w.text(k.Name) }

func (w *writer) bool(v bool) {
	if v {
		w.byte(1)
	} else {
		w.byte(0)
	}
}

// why is an error's text, cut short.
func (w *writer) why(v string) { w.text(v[:min(len(v), maxText)]) }

// scanner takes the pieces off again and keeps the first error. What it returns aliases the message.
type scanner struct {
	b   []byte
	err error
}

func (r *scanner) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errWire, why)
	}
	r.b = nil
}

func (r *scanner) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("cut short")
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *scanner) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *scanner) fixed() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *scanner) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// small reads a number that must be below limit.
func (r *scanner) small(limit int) int {
	v := r.number()
	if v >= uint64(limit) {
		r.fail("number out of range")
		return 0
	}
	return int(v)
}

// count reads a number of items that take at least size bytes each, so that a lie cannot allocate more than was sent.
func (r *scanner) count(size int) int {
	n := r.number()
	if n > uint64(len(r.b)/size) {
		r.fail("count beyond the bytes")
		return 0
	}
	return int(n)
}

func (r *scanner) bytes() []byte { return r.take(r.number()) }
func (r *scanner) text() string  { return string(r.bytes()) }

// why reads an error's text.
func (r *scanner) why() string {
	b := r.bytes()
	if len(b) > maxText {
		r.fail("text too long")
		return ""
	}
	return string(b)
}

// key reads a key, and computes its token anew.
func (r *scanner) key() ring.Key {
	bucket := r.text()
	name := r.text()
	if r.err != nil {
		return ring.Key{}
	}
	return ring.NewKey(bucket, name)
}

// flags reads a byte of which only these bits may be set.
func (r *scanner) flags(known byte) byte {
	f := r.byte()
	if f&^known != 0 {
		r.fail("unknown flags")
	}
	return f
}

func (r *scanner) bool() bool { return r.flags(1) != 0 }

// end is the first error; bytes that are left over are one.
func (r *scanner) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("trailing bytes")
	}
	return r.err
}

const maxReplicas = 7 // replica count of a bucket at most

// classes appends and reads classes in order: as the step from the partition before.
type classes struct{ last ring.Class }

func (o *classes) append(w *writer, c ring.Class) {
	w.number(uint64(c.Partition - o.last.Partition))
	w.byte(byte(c.N))
	o.last = c
}

func (o *classes) read(r *scanner) ring.Class {
	c := ring.Class{Partition: o.last.Partition + r.small(ring.MaxPartitions), N: int(r.byte())}
	if r.err == nil && (c.Partition >= ring.MaxPartitions || c.N < 1 || c.N > maxReplicas || c.Compare(o.last) <= 0) {
		r.fail("classes out of order or range")
	}
	o.last = c
	return c
}

// class reads one class by itself.
func (r *scanner) class() ring.Class {
	c := ring.Class{Partition: r.small(ring.MaxPartitions), N: int(r.byte())}
	if c.N < 1 || c.N > maxReplicas {
		r.fail("replica count out of range")
	}
	return c
}

func (w *writer) class(c ring.Class) {
	w.number(uint64(c.Partition))
	w.byte(byte(c.N))
}

// bitmap is a set of small numbers.
type bitmap []byte

func newBitmap(n int) bitmap    { return make(bitmap, (n+7)/8) }
func (b bitmap) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitmap) has(i int) bool { return b[i/8]&(1<<(i%8)) != 0 }
func (r *scanner) bitmap(n int) bitmap {
	b := bitmap(r.take(uint64(n+7) / 8))
	if r.err == nil && n%8 != 0 && b[len(b)-1]>>(n%8) != 0 {
		r.fail("bits beyond the end")
	}
	return b
}

// head begins a message.
func head(kind byte) *writer { return &writer{b: []byte{kind, wireVersion}} }

// open checks the version of a message whose kind was read.
func open(payload []byte) *scanner {
	r := &scanner{b: payload}
	if v := r.byte(); v != wireVersion && r.err == nil {
		r.fail(fmt.Sprintf("version %d, this build reads %d", v, wireVersion))
	}
	return r
}
