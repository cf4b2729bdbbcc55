package storage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	leveljournal "github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Fields of goleveldb's manifest records, each a number before its content.
const (
	manifestComparer    = 1
	manifestJournal     = 2
	manifestNextFile    = 3
	manifestSequence    = 4
	manifestCompaction  = 5
	manifestDelTable    = 6
	manifestAddTable    = 7
	manifestPrevJournal = 9
)

// missing says what the database lacks that no crash can take from it, and that goleveldb opens without. "" = nothing.
//
//   - The journal that the manifest counts on is made before it is named and removed after a later one is named, both on disk
//     in that order. One that is not there was removed, or the manifest has lost its newest records.
//   - A record is written to the manifest only once the one before it is synced. So a crash damages the last one alone.
func (d *disk) missing() (string, error) {
	m, fd, err := d.manifest()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil // a new directory
		}
		return "", err
	}
	if m.broken {
		return fd.String() + " is damaged", nil
	}
	files, err := d.Storage.List(storage.TypeJournal | storage.TypeTable)
	if err != nil {
		return "", fmt.Errorf("list files: %w", err)
	}
	if m.journal == 0 { // as it is made; the first journal is named before there can be a table
		if slices.ContainsFunc(files, func(f storage.FileDesc) bool { return f.Type == storage.TypeTable }) {
			return fd.String() + " names nothing of what there is", nil
		}
		return "", nil
	}
	want := storage.FileDesc{Type: storage.TypeJournal, Num: m.journal}
	if slices.Contains(files, want) {
		return "", nil
	}
	return fmt.Sprintf("%s is missing, on which %s counts", want, fd), nil
}

// manifest reads the one that is in use.
func (d *disk) manifest() (m manifest, fd storage.FileDesc, err error) {
	if fd, err = d.GetMeta(); err != nil {
		return m, fd, fmt.Errorf("find manifest: %w", err)
	}
	r, err := d.Open(fd)
	if err != nil {
		return m, fd, fmt.Errorf("open %s: %w", fd, err)
	}
	err = m.read(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return m, fd, wrap("read "+fd.String(), err)
}

// manifest is what is read of one.
type manifest struct {
	journal int64          // number of the oldest journal in use; 0 = none
	tables  map[int64]bool // numbers of the tables in use
	torn    bool           // something was skipped
	broken  bool           // and something came after it
}

// Drop is told by goleveldb of what it skips.
func (m *manifest) Drop(error) { m.torn = true }

// read reads as goleveldb does when it skips what is damaged. An error is one of reading.
func (m *manifest) read(r io.Reader) error {
	records := leveljournal.NewReader(r, m, false, true)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m.broken = m.broken || m.torn
		e, err := parseEdit(bufio.NewReader(record))
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) || lderrors.IsCorrupted(err):
			m.torn = true
		case err != nil:
			return err
		default:
			m.apply(e)
		}
	}
}

func (m *manifest) apply(e edit) {
	if e.journal != 0 {
		m.journal = e.journal
	}
	if m.tables == nil {
		m.tables = map[int64]bool{}
	}
	for _, number := range e.removed {
		delete(m.tables, number)
	}
	for _, number := range e.added {
		m.tables[number] = true
	}
}

// edit is a record of a manifest.
type edit struct {
	journal        int64 // 0 = it names none
	removed, added []int64
}

// parseEdit reads a record. One that makes no sense is io.ErrUnexpectedEOF, as one that is cut.
func parseEdit(r *bufio.Reader) (e edit, err error) {
	uvarint := func() (n uint64) {
		if err == nil {
			if n, err = binary.ReadUvarint(r); err != nil {
				err = io.ErrUnexpectedEOF
			}
		}
		return n
	}
	skip := func() {
		if n := uvarint(); err == nil && n < 1<<30 {
			_, err = r.Discard(int(n))
		}
	}
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return e, nil
		}
		switch field := uvarint(); field {
		case manifestJournal:
			e.journal = int64(uvarint())
		case manifestComparer:
			skip()
		case manifestNextFile, manifestSequence, manifestPrevJournal:
			uvarint()
		case manifestCompaction:
			uvarint()
			skip()
		case manifestDelTable:
			uvarint() // level
			e.removed = append(e.removed, int64(uvarint()))
		case manifestAddTable:
			uvarint() // level
			e.added = append(e.added, int64(uvarint()))
			uvarint() // size
			skip()
			skip()
		default:
			return edit{}, io.ErrUnexpectedEOF
		}
		if err != nil {
			return edit{}, io.ErrUnexpectedEOF
		}
	}
}
