package check

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Save writes a history as JSON lines.
func Save(w io.Writer, ops []Op) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for _, o := range ops {
		if err := e.Encode(o); err != nil {
			return fmt.Errorf("save operation %d: %w", o.ID, err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// Load reads a history that Save wrote: one operation on each line, blank lines aside. Whatever is not one, or has a field
// that Op lacks, is an error that names the line, counted from 1. So is a last line that was cut, as a process that was killed
// leaves it: the error says so, and nothing is returned, since a history without its end proves little. Memory is that of the
// history.
func Load(r io.Reader) ([]Op, error) {
	b := bufio.NewReader(r)
	var ops []Op
	for number := 1; ; number++ {
		line, end := b.ReadBytes('\n')
		if end != nil && !errors.Is(end, io.EOF) {
			return nil, fmt.Errorf("load history: line %d: %w", number, end)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			o, err := parse(line)
			switch {
			case errors.Is(err, io.ErrUnexpectedEOF) && end != nil:
				return nil, fmt.Errorf("load history: line %d, the last one, was cut: %w", number, err)
			case err != nil:
				return nil, fmt.Errorf("load history: line %d: %w", number, err)
			}
			ops = append(ops, o)
		}
		if end != nil {
			return ops, nil
		}
	}
}

// parse is the operation that a line holds, and nothing else.
func parse(line []byte) (Op, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var o Op
	if err := d.Decode(&o); err != nil {
		return Op{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Op{}, errors.New("more than one operation")
	}
	return o, nil
}
