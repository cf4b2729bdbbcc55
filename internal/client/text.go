package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text is a value that JSON may carry as a string or as a number: digests, hashes, tokens. It holds the digits or the string.
type Text string

// UnmarshalJSON takes a string, or any other scalar as its own text.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		err := json.Unmarshal(b, &s)
		*t = Text(s)
		return err
	}
	if string(b) == "null" {
		*t = ""
		return nil
	}
	*t = Text(b)
	return nil
}

// Key is the key of a JSON document: a string where it is UTF-8, else {"base64":"…"}. It holds the bytes.
type Key string

var errKeyForm = errors.New(`a key is a string or {"base64":"…"}`)

// UnmarshalJSON reads either form. A string that does not stand for exactly one sequence of bytes (invalid UTF-8, half a
// surrogate pair) is refused: decoded leniently, two keys would become one.
func (k *Key) UnmarshalJSON(b []byte) error {
	s := strings.TrimSpace(string(b))
	if strings.HasPrefix(s, `"`) {
		var out string
		if err := json.Unmarshal([]byte(s), &out); err != nil {
			return err
		}
		if !utf8.ValidString(s) || strings.Contains(out, "\uFFFD") && !strings.Contains(s, "\uFFFD") && !strings.Contains(strings.ToLower(s), `\ufffd`) {
			return errors.New(`key is not valid Unicode: write it as {"base64":"…"}`)
		}
		*k = Key(out)
		return nil
	}
	var doc struct {
		Base64 *string `json:"base64"`
	}
	if err := json.Unmarshal([]byte(s), &doc); err != nil || doc.Base64 == nil {
		return errKeyForm
	}
	raw, err := DecodeBase64(*doc.Base64)
	if err != nil {
		return err
	}
	*k = Key(raw)
	return nil
}

// MarshalJSON writes the form that UnmarshalJSON reads, with as few escapes as JSON allows.
func (k Key) MarshalJSON() ([]byte, error) { return AppendKey(nil, string(k)), nil }

// AppendKey appends the JSON form of a key to dst.
func AppendKey(dst []byte, key string) []byte {
	if utf8.ValidString(key) {
		return AppendString(dst, key)
	}
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte(key))
	return append(dst, `"}`...)
}

// AppendString appends s, which must be valid UTF-8, as a JSON string with as few escapes as JSON allows.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// DecodeBase64 reads standard or URL-safe base64, with or without padding.
func DecodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	b, err := encoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64: " + strconv.Quote(s[:min(len(s), 40)]))
	}
	return b, nil
}

// escapeKey percent-encodes a key fully, as one path segment that no client, proxy or router takes for a path: "/" and the
// keys "." and ".." are encoded too.
func escapeKey(key string) string {
	const hex = "0123456789ABCDEF"
	dots := key == "." || key == ".."
	var s strings.Builder
	s.Grow(len(key) + 16)
	for i := range len(key) {
		c := key[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '~' || c == '.' && !dots {
			s.WriteByte(c)
		} else {
			s.WriteByte('%')
			s.WriteByte(hex[c>>4])
			s.WriteByte(hex[c&15])
		}
	}
	return s.String()
}
