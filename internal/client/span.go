package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Members calls yield for each member of a JSON object in order, with the bytes between its colon and the next comma or
// brace as they are, white space included (encoding/json would drop that). raw aliases the input. Names come decoded.
// A document that is not valid JSON, or not an object, is an error.
func Members(object []byte, yield func(name string, raw []byte) error) error {
	if err := validJSON(object); err != nil {
		return err
	}
	return members(object, yield)
}

// members is Members for bytes that are known to be valid JSON.
func members(object []byte, yield func(name string, raw []byte) error) error {
	return walk(object, '{', func(part []byte) error {
		colon := skipString(part, bytes.IndexByte(part, '"'))
		name := string(bytes.TrimSpace(part[:colon]))
		if plain := name[1 : len(name)-1]; bytes.IndexByte(part[:colon], '\\') < 0 {
			name = plain
		} else if err := json.Unmarshal(part[:colon], &name); err != nil {
			return fmt.Errorf("decode member name: %w", err)
		}
		colon += bytes.IndexByte(part[colon:], ':') + 1
		return yield(name, part[colon:])
	})
}

// Elements calls yield for each element of a JSON array in order, with its bytes as Members does.
func Elements(array []byte, yield func(raw []byte) error) error {
	if err := validJSON(array); err != nil {
		return err
	}
	return elements(array, yield)
}

// elements is Elements for bytes that are known to be valid JSON. null is an empty array.
func elements(array []byte, yield func(raw []byte) error) error {
	if string(bytes.TrimSpace(array)) == "null" {
		return nil
	}
	return walk(array, '[', yield)
}

// validJSON says what is wrong with a document, nil where it is JSON.
func validJSON(b []byte) error {
	if json.Valid(b) {
		return nil
	}
	var document json.RawMessage
	if err := json.Unmarshal(b, &document); err != nil {
		return fmt.Errorf("decode JSON: %w", err)
	}
	return errors.New("decode JSON: not valid")
}

// walk calls yield with each comma-separated part of a valid JSON container that opens with open.
func walk(b []byte, open byte, yield func(part []byte) error) error {
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	if i == len(b) || b[i] != open {
		return fmt.Errorf("decode JSON: %q is not where it should be", open)
	}
	i++
	start, depth := i, 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			depth++
		case ',':
			if depth == 0 {
				if err := yield(b[start:i:i]); err != nil {
					return err
				}
				start = i + 1
			}
		case '}', ']':
			if depth > 0 {
				depth--
				continue
			}
			if len(bytes.TrimSpace(b[start:i])) == 0 {
				return nil // an empty container
			}
			return yield(b[start:i:i])
		}
	}
	return nil
}

// skipString returns the index after the string that starts at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
