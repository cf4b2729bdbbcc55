package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Bytes of the input that a checkpoint remembers as digests, to know it again.
const (
	headBytes = 64 << 10 // from the start
	tailBytes = 4 << 10  // up to the offset
)

// checkpoint is how far an import got: all lines that end at or before Offset are stored, or are listed as failed.
type checkpoint struct {
	Bucket   string    `json:"bucket"`
	KeyField string    `json:"key_field"`
	Offset   int64     `json:"offset"`
	Line     int64     `json:"line"`
	Head     string    `json:"head"` // digest of the first bytes of the input, as far as Offset
	Tail     string    `json:"tail"` // digest of the last bytes before Offset
	Failed   int64     `json:"failed"`
	Failures []failure `json:"failures,omitempty"` // the first ones
}

// failure is a line that cannot be stored, whatever one does.
type failure struct {
	Line  int64  `json:"line"`
	Key   string `json:"key,omitempty"`
	Error string `json:"error"`
}

// loadCheckpoint reads a checkpoint file. One that does not exist is the beginning.
func loadCheckpoint(path, bucket, keyField string) (checkpoint, error) {
	fresh := checkpoint{Bucket: bucket, KeyField: keyField}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("read checkpoint: %w", err)
	}
	var c checkpoint
	if err := json.Unmarshal(b, &c); err != nil || c.Offset < 0 || c.Line < 0 {
		return fresh, usageError{fmt.Errorf("%s is not a checkpoint of an import: remove it to start over", path)}
	}
	if c.Bucket != bucket || c.KeyField != keyField {
		return fresh, usageError{fmt.Errorf("%s belongs to an import into bucket %q with key field %q: use another file, or remove it to start over", path, c.Bucket, c.KeyField)}
	}
	return c, nil
}

// verify checks that the input is the one that the checkpoint was made of, at least up to its offset.
func (c *checkpoint) verify(in io.ReaderAt) error {
	if c.Offset == 0 {
		return nil
	}
	head, tail, err := digests(in, c.Offset)
	if err != nil || head != c.Head || tail != c.Tail {
		return usageError{errors.Join(errors.New("the input is not the file that the checkpoint was made of: remove the checkpoint to start over"), err)}
	}
	return nil
}

// save writes the checkpoint, synced and as a whole.
func (c *checkpoint) save(path string, in io.ReaderAt) (err error) {
	if c.Head, c.Tail, err = digests(in, c.Offset); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	return writeFile(path, append(b, '\n'))
}

// digests sums up the bytes at the start of the input and before offset.
func digests(in io.ReaderAt, offset int64) (head, tail string, err error) {
	sum := func(from, n int64) (string, error) {
		h := sha256.New()
		copied, err := io.Copy(h, io.NewSectionReader(in, from, n))
		if err == nil && copied < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", fmt.Errorf("read input: %w", err)
		}
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	if head, err = sum(0, min(offset, headBytes)); err != nil {
		return "", "", err
	}
	tail, err = sum(max(0, offset-tailBytes), min(offset, tailBytes))
	return head, tail, err
}

// place is a line's position while it is under way.
type place struct {
	end, line    int64
	done, failed bool
}

// tracker knows up to where every line is done, though they end in any order. Safe for concurrent use.
type tracker struct {
	mu           sync.Mutex
	waiting      []*place // in input order; the first is not done
	offset, line int64
	failed       int64 // lines up to there that failed
}

// begin notes the next line of the input.
func (t *tracker) begin(end, line int64) *place {
	p := &place{end: end, line: line}
	t.mu.Lock()
	t.waiting = append(t.waiting, p)
	t.mu.Unlock()
	return p
}

// finish notes that a line is done: stored, or failed for good.
func (t *tracker) finish(p *place, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.done, p.failed = true, failed
	n := 0
	for n < len(t.waiting) && t.waiting[n].done {
		t.offset, t.line = t.waiting[n].end, t.waiting[n].line
		if t.waiting[n].failed {
			t.failed++
		}
		t.waiting[n] = nil
		n++
	}
	t.waiting = t.waiting[n:] // append moves the rest to a new array from time to time
}

// position is the end of the last line before which all are done, and how many of them failed.
func (t *tracker) position() (offset, line, failed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.offset, t.line, t.failed
}
