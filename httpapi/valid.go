package httpapi

import "unicode/utf8"

// maxDepth is how deep a JSON value may be nested: as deep as Go's decoder allows, less the answer around it.
const maxDepth = 9_990

// jsonFault says why bytes are not a JSON value that an answer can embed.
type jsonFault uint8

const (
	jsonGood jsonFault = iota
	jsonSyntax
	jsonDepth
	jsonText // not UTF-8
)

// String is the reason, for people.
func (f jsonFault) String() string {
	return [...]string{"valid", "the JSON is malformed", "the JSON is nested deeper than 9990 levels", "the JSON is not UTF-8"}[f&3]
}

// nesting remembers which of the open brackets are objects.
type nesting struct {
	depth   int
	objects [(maxDepth + 63) / 64]uint64
}

func (n *nesting) push(object bool) bool {
	if n.depth == maxDepth {
		return false
	}
	word, bit := n.depth/64, uint64(1)<<(n.depth%64)
	n.objects[word] &^= bit
	if object {
		n.objects[word] |= bit
	}
	n.depth++
	return true
}

// inObject tells whether the innermost open bracket is an object's.
func (n *nesting) inObject() bool {
	at := n.depth - 1
	return n.objects[at/64]>>(at%64)&1 == 1
}

// checkJSON tells whether b is one JSON value in UTF-8 (RFC 8259). It goes through the bytes once and allocates nothing.
func checkJSON(b []byte) jsonFault {
	var open nesting
	i := skipSpace(b, 0)
	for {
		// At the beginning of a value.
		if i == len(b) {
			return jsonSyntax
		}
		switch c := b[i]; c {
		case '{', '[':
			if !open.push(c == '{') {
				return jsonDepth
			}
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 { // '{'+2 = '}', '['+2 = ']'
				i, open.depth = i+1, open.depth-1
				break
			}
			if c == '{' {
				if i = member(b, i); i < 0 {
					return jsonSyntax
				}
			}
			continue
		case '"':
			i = scanString(b, i)
		case 't':
			i = scanWord(b, i, "true")
		case 'f':
			i = scanWord(b, i, "false")
		case 'n':
			i = scanWord(b, i, "null")
		default:
			i = scanNumber(b, i)
		}
		if i < 0 {
			return jsonSyntax
		}
		// After a value: close what ends here, up to the next comma or the end.
		for {
			i = skipSpace(b, i)
			if open.depth == 0 {
				if i < len(b) {
					return jsonSyntax
				}
				if !utf8.Valid(b) {
					return jsonText
				}
				return jsonGood
			}
			if i == len(b) {
				return jsonSyntax
			}
			object := open.inObject()
			if c := b[i]; c == '}' && object || c == ']' && !object {
				i, open.depth = i+1, open.depth-1
				continue
			}
			if b[i] != ',' {
				return jsonSyntax
			}
			i = skipSpace(b, i+1)
			if object {
				if i = member(b, i); i < 0 {
					return jsonSyntax
				}
			}
			break
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// member goes over a member's name and colon to its value; -1 where there is none.
func member(b []byte, i int) int {
	if i == len(b) || b[i] != '"' {
		return -1
	}
	if i = scanString(b, i); i < 0 {
		return -1
	}
	if i = skipSpace(b, i); i == len(b) || b[i] != ':' {
		return -1
	}
	return skipSpace(b, i+1)
}

// scanString goes over a string that begins at i; -1 where it is malformed.
func scanString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return -1
		case c == '\\':
			if i++; i == len(b) {
				return -1
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i == len(b) || !isHex(b[i]) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func scanWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

func scanNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	first := i
	if i = digits(b, i); i == first || b[first] == '0' && i > first+1 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		from := i + 1
		if i = digits(b, from); i == from {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = digits(b, from); i == from {
			return -1
		}
	}
	return i
}

func digits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}
