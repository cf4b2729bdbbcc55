package httpapi

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// jsonEscape tells which bytes of valid UTF-8 a JSON string must escape, and by how many bytes the string grows for it.
var jsonEscape = func() (grow [256]uint8) {
	for c := range 0x20 {
		grow[c] = 5 // \u00xx
	}
	for _, c := range "\"\\\b\f\n\r\t" {
		grow[c] = 1
	}
	return grow
}()

// appendEscaped appends the inside of a JSON string that stands for s. Each byte is escaped on its own, so s may be any
// piece of a text that is valid UTF-8 as a whole.
func appendEscaped[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := range len(s) {
		c := s[i]
		if jsonEscape[c] == 0 {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, s[from:]...)
}

// escapedSize is how many bytes appendEscaped appends.
func escapedSize(s []byte) int {
	n := len(s)
	for _, c := range s {
		n += int(jsonEscape[c])
	}
	return n
}

// appendString appends a JSON string. What is not valid UTF-8 in it is replaced: for texts of this program, never for keys
// or values.
func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	dst = append(dst, '"')
	dst = appendEscaped(dst, s)
	return append(dst, '"')
}

// appendKey appends a key: a string where it is UTF-8, else {"base64":"…"}.
func appendKey(dst []byte, key string) []byte {
	if utf8.ValidString(key) {
		dst = append(dst, '"')
		dst = appendEscaped(dst, key)
		return append(dst, '"')
	}
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte(key))
	return append(dst, `"}`...)
}

func appendInt(dst []byte, name string, n int) []byte {
	dst = append(dst, name...)
	return strconv.AppendInt(dst, int64(n), 10)
}

func appendBool(dst []byte, name string, b bool) []byte {
	dst = append(dst, name...)
	return strconv.AppendBool(dst, b)
}

// appendHex appends 16 hexadecimal digits.
func appendHex(dst []byte, n uint64) []byte {
	const hex = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hex[n>>shift&15])
	}
	return dst
}

// appendMillis appends a duration in milliseconds, to the microsecond.
func appendMillis(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, float64(d.Microseconds())/1000, 'f', -1, 64)
}

// moment is a hybrid logical timestamp as a time. One beyond what time.Time can count in nanoseconds is cut to that.
func moment(t uint64) time.Time {
	return time.Unix(0, int64(min(t, 1<<63-1))).UTC()
}
