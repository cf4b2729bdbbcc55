package httpapi

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/rondodb/rondo/vclock"
)

// form is how a value is shown inside a JSON answer.
type form uint8

const (
	formJSON form = iota
	formText
	formBase64
)

func formOf(s *vclock.Sibling) form {
	switch {
	case isJSON(s.ContentType):
		return formJSON
	case isText(s.ContentType) && utf8.Valid(s.Value):
		return formText
	}
	return formBase64
}

// opening and closing are what stands around the value's own bytes.
func (f form) opening() string { return [...]string{`{"value":`, `{"value":"`, `{"base64":"`}[f] }
func (f form) closing() string { return [...]string{``, `"`, `"`}[f] }

// size is how many bytes the value itself takes in this form.
func (f form) size(value []byte) int {
	switch f {
	case formJSON:
		return len(value)
	case formText:
		return escapedSize(value)
	}
	return base64.StdEncoding.EncodedLen(len(value))
}

// append appends the value in this form.
func (f form) append(dst, value []byte) []byte {
	switch f {
	case formJSON:
		return append(dst, value...)
	case formText:
		return appendEscaped(dst, value)
	}
	return base64.StdEncoding.AppendEncode(dst, value)
}

// appendAbout appends what follows a value in its JSON object, to the end of it.
func appendAbout(dst []byte, f form, s *vclock.Sibling) []byte {
	dst = append(dst, f.closing()...)
	dst = append(dst, `,"content_type":`...)
	dst = appendString(dst, s.ContentType)
	dst = append(dst, `,"modified":"`...)
	dst = moment(s.Time).AppendFormat(dst, timeForm)
	dst = append(dst, '"')
	dst = appendExpiry(dst, s.Expiry)
	dst = append(dst, `,"version":"`...)
	dst = appendVersion(dst, s.Dot)
	return append(dst, `"}`...)
}

// timeForm is how times are shown: to the nanosecond, always as long.
const timeForm = "2006-01-02T15:04:05.000000000Z"

// appendExpiry appends when a version ends, if it does.
func appendExpiry(dst []byte, at uint64) []byte {
	if at == 0 {
		return dst
	}
	dst = append(dst, `,"expires":"`...)
	dst = moment(at).AppendFormat(dst, timeForm)
	return append(dst, '"')
}

// appendVersion appends a version's name: who wrote it, and which of its writes to the key this was.
func appendVersion(dst []byte, d vclock.Dot) []byte {
	dst = appendHex(dst, uint64(d.Actor))
	dst = append(dst, '-')
	return strconv.AppendUint(dst, d.Counter, 10)
}

// live is the next sibling from i on that is a value, len(siblings) where there is none.
func live(siblings []vclock.Sibling, i int) int {
	for i < len(siblings) && siblings[i].Tombstone {
		i++
	}
	return i
}

// valueBytes is how many bytes the values of an object have.
func valueBytes(o vclock.Object) (n int64) {
	for i := range o.Siblings {
		n += int64(len(o.Siblings[i].Value))
	}
	return n
}

// Values larger than this are written in pieces instead of being gathered first.
const (
	gathered = 32 << 10
	piece    = 24 << 10 // a multiple of 3, so that pieces of base64 fit together
)

// appendValues appends the elements of "values". Where the answer grows large, what there is goes out in between.
func (x *exchange) appendValues(o vclock.Object) {
	for i, first := live(o.Siblings, 0), true; i < len(o.Siblings); i = live(o.Siblings, i+1) {
		s := &o.Siblings[i]
		if !first {
			x.buf = append(x.buf, ',')
		}
		first = false
		f := formOf(s)
		x.buf = append(x.buf, f.opening()...)
		x.appendValue(f, s.Value)
		x.buf = appendAbout(x.buf, f, s)
	}
}

func (x *exchange) appendValue(f form, value []byte) {
	if len(value) <= gathered {
		x.buf = f.append(x.buf, value)
		x.spill()
		return
	}
	x.flush()
	if f == formJSON {
		x.write(value)
		return
	}
	for len(value) > 0 {
		n := min(piece, len(value))
		x.buf = f.append(x.buf, value[:n])
		x.flush()
		value = value[n:]
	}
}

// sizeOfValues is how many bytes appendValues appends.
func (x *exchange) sizeOfValues(o vclock.Object) int64 {
	size := int64(-1) // one comma less than values
	for i := live(o.Siblings, 0); i < len(o.Siblings); i = live(o.Siblings, i+1) {
		s := &o.Siblings[i]
		f := formOf(s)
		x.scratch = appendAbout(x.scratch[:0], f, s)
		size += 1 + int64(len(f.opening())+f.size(s.Value)+len(x.scratch))
	}
	return max(size, 0)
}
