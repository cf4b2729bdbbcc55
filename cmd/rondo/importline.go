package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// maxLine is the longest line that import takes: room for the largest value as base64.
const maxLine = 64 << 20

// errLongLine is a line of more than maxLine bytes.
var errLongLine = fmt.Errorf("line is longer than %s", bytesText(maxLine))

// lineReader reads lines and knows where they end.
type lineReader struct {
	in     *bufio.Reader
	offset int64 // bytes read so far
	line   int64 // lines read so far
}

func newLineReader(r io.Reader, offset, line int64) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(r, 256<<10), offset: offset, line: line}
}

// next returns the next line without its end, in bytes of its own. A line that is too long is skipped as a whole, and comes as
// errLongLine. io.EOF is the end.
func (r *lineReader) next() ([]byte, error) {
	var line []byte
	long, began := false, false
	for {
		part, err := r.in.ReadSlice('\n')
		r.offset += int64(len(part))
		began = began || len(part) > 0
		if !long && len(line)+len(part) > maxLine+2 {
			long, line = true, nil
		}
		if !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && began, err == nil:
			r.line++
			if long {
				return nil, errLongLine
			}
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		default:
			return nil, err
		}
	}
}

// record is one line of an import.
type record struct {
	line   int64
	key    string
	values []client.Value // newest first, at least one
	size   int64          // bytes it keeps in memory
	place  *place
}

// expired tells whether no version of the line is left to be stored.
func (r *record) expired(now time.Time) bool {
	return !slices.ContainsFunc(r.values, func(v client.Value) bool { return v.Expires.IsZero() || v.Expires.Sub(now) >= leastLeft })
}

// parseRecord reads a line: with a key field, the whole line is the value; without, the line is what export writes.
func parseRecord(b []byte, keyField string) (record, error) {
	rec := record{size: int64(len(b)) + 256}
	if keyField != "" {
		key, err := fieldKey(b, keyField)
		rec.key = key
		rec.values = []client.Value{{Data: b, ContentType: "application/json"}}
		return rec, err
	}
	var values []byte
	err := client.Members(b, func(name string, raw []byte) error {
		switch name {
		case "key":
			return json.Unmarshal(raw, (*client.Key)(&rec.key))
		case "values":
			values = raw
		}
		return nil
	})
	if err != nil {
		return rec, err
	}
	if rec.key == "" {
		return rec, errors.New(`no "key": give --key-field where each line is a value as a whole`)
	}
	if values == nil {
		v, err := client.DecodeValue(b)
		rec.values = []client.Value{v}
		return withTypes(rec), err
	}
	err = client.Elements(values, func(raw []byte) error {
		v, err := client.DecodeValue(raw)
		rec.values = append(rec.values, v)
		return err
	})
	if err == nil && len(rec.values) == 0 {
		err = errors.New(`"values" is empty`)
	}
	return withTypes(rec), err
}

// withTypes gives embedded values that name no content type that of JSON.
func withTypes(rec record) record {
	for i := range rec.values {
		if v := &rec.values[i]; v.ContentType == "" && json.Valid(v.Data) {
			v.ContentType = "application/json"
		}
	}
	return rec
}

// fieldKey is the key that a line names in a field: a string as it is, a number or a boolean as its text.
func fieldKey(b []byte, field string) (string, error) {
	var raw []byte
	err := client.Members(b, func(name string, value []byte) error {
		if name == field {
			raw = bytes.TrimSpace(value)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(raw) == 0:
		return "", fmt.Errorf("no field %q", field)
	case raw[0] == '"':
		var key client.Key
		if err := json.Unmarshal(raw, &key); err != nil {
			return "", fmt.Errorf("field %q: %w", field, err)
		}
		if key == "" {
			return "", fmt.Errorf("field %q is empty", field)
		}
		return string(key), nil
	case raw[0] == '{' || raw[0] == '[' || string(raw) == "null":
		return "", fmt.Errorf("field %q is not a string or a number", field)
	}
	return string(raw), nil
}
