package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rondodb/rondo/vclock"
)

// errWire marks a message of this package that is malformed.
var errWire = errors.New("malformed message")

const wireVersion = 1

// writer appends the pieces of this package's messages: numbers as uvarints, bytes with their length before them.
type writer struct{ b []byte }

func (w *writer) byte(v byte)     { w.b = append(w.b, v) }
func (w *writer) number(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) fixed(v uint64)  { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(v []byte)  { w.number(uint64(len(v))); w.b = append(w.b, v...) }
func (w *writer) text(v string)   { w.number(uint64(len(v))); w.b = append(w.b, v...) }

// context is a clock, in the form of an object without versions, and its time.
func (w *writer) context(c vclock.Context) {
	w.fixed(c.Time)
	w.bytes(vclock.AppendObject(nil, vclock.Object{Clock: c.Clock}))
}

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

// small reads a number that must not be above most.
func (r *scanner) small(most int) int {
	v := r.number()
	if v > uint64(most) {
		r.fail("number too large")
		return 0
	}
	return int(v)
}

// count reads how many items follow, each of at least size bytes: a lie cannot allocate more than was sent.
func (r *scanner) count(size int) int {
	v := r.number()
	if v > uint64(len(r.b)/size) {
		r.fail("count beyond the message")
		return 0
	}
	return int(v)
}

func (r *scanner) bytes() []byte { return r.take(r.number()) }
func (r *scanner) text() string  { return string(r.bytes()) }

func (r *scanner) context() vclock.Context {
	c := vclock.Context{Time: r.fixed()}
	b := r.bytes()
	if r.err != nil {
		return vclock.Context{}
	}
	o, err := vclock.DecodeObject(b)
	if err != nil || len(o.Siblings) > 0 {
		r.fail("bad context")
		return vclock.Context{}
	}
	c.Clock = o.Clock
	return c
}

func (r *scanner) level() Level {
	l := Level(int8(r.byte()))
	if l < None || l > MaxN {
		r.fail("bad replica count")
		return Unset
	}
	return l
}

func (r *scanner) choice() Choice {
	c := Choice(r.byte())
	if c > No {
		r.fail("bad choice")
		return AsBucket
	}
	return c
}

// version reads the version byte that begins every message.
func (r *scanner) version(want byte) {
	if v := r.byte(); v != want && r.err == nil {
		r.fail(fmt.Sprintf("message version %d, this build reads %d", v, want))
	}
}

// end is the error of the whole message: trailing bytes are one too.
func (r *scanner) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("trailing bytes")
	}
	return r.err
}
