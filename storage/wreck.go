package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/syndtr/goleveldb/leveldb"
	leveljournal "github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/table"
)

// wreck is a database that was set aside. It is read as far as it can be, and never written. What cannot be read is left out; an error is
// one that may pass (no memory, no handles, no permission), where going on would leave out what is sound.
type wreck struct {
	files storage.Storage
	found func(what string, args ...any) // told what is left out, with keys and values as a log takes them
}

var errReadOnly = errors.New("a database that was set aside is only read")

// salvageStrict checks every block and record, and goes on behind one that is damaged.
const salvageStrict = opt.StrictBlockChecksum | opt.StrictJournalChecksum

// each calls put for the records, in any order. Where sequence is 0 each key comes once, as goleveldb itself would read it; else it may come
// several times, with states of any age and some that were deleted (v is nil then), ordered by sequence. k and v are valid until put returns.
func (w *wreck) each(put func(k, v []byte, sequence uint64) error) error {
	source := newDisk(readOnly{w.files})
	what, err := untold(source)
	if err == nil && what == "" {
		var db *leveldb.DB
		db, err = leveldb.Open(source, &opt.Options{
			ReadOnly: true, ErrorIfMissing: true, Strict: salvageStrict, DisableSeeksCompaction: true, OpenFilesCacheCapacity: 64,
		})
		if err == nil {
			err = eachRecord(db, put)
			if cerr := db.Close(); err == nil {
				err = cerr
			}
			if err == nil {
				return nil
			}
		}
	}
	if err != nil && !isDamage(err) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w.found("the damaged database cannot be opened: its files are read one by one", "error", err, "found", what)
	return w.eachFile(put)
}

// untold says why a manifest is not believed, "" where it is: it tells of everything that is there, and of nothing else. One that has lost
// its newest records makes a database too, and a shorter one.
func untold(source *disk) (string, error) {
	m, fd, err := source.manifest()
	if err != nil {
		return "", err
	}
	if m.torn {
		return fd.String() + " is damaged", nil
	}
	tables, err := source.List(storage.TypeTable)
	if err != nil {
		return "", fmt.Errorf("list files: %w", err)
	}
	for _, t := range tables {
		if !m.tables[t.Num] {
			return fmt.Sprintf("%s does not know %s", fd, t), nil
		}
	}
	if len(tables) != len(m.tables) {
		return fmt.Sprintf("there are %d tables of the %d that %s knows", len(tables), len(m.tables), fd), nil
	}
	return source.missing()
}

func eachRecord(db *leveldb.DB, put func(k, v []byte, sequence uint64) error) error {
	it := db.NewIterator(nil, &opt.ReadOptions{DontFillCache: true})
	defer it.Release()
	for it.Next() {
		if err := put(it.Key(), it.Value(), 0); err != nil {
			return err
		}
	}
	return it.Error()
}

// eachFile reads all tables and journals that there are, whatever a manifest says.
func (w *wreck) eachFile(put func(k, v []byte, sequence uint64) error) error {
	fds, err := w.files.List(storage.TypeTable | storage.TypeJournal)
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	source := newDisk(readOnly{w.files})
	for _, fd := range fds {
		r, err := source.Open(fd)
		if err == nil {
			if fd.Type == storage.TypeTable {
				err = eachInTable(r, fd, put)
			} else {
				err = w.eachInJournal(r, fd, put)
			}
			if cerr := r.Close(); err == nil {
				err = cerr
			}
		}
		if err == nil {
			continue
		}
		if !isDamage(err) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read %s: %w", fd, err)
		}
		w.found("a file cannot be read to its end", "file", fd.String(), "error", err)
	}
	return nil
}

// An internal key of goleveldb is the key and eight bytes: the sequence number and, in the lowest byte, what was done.
const (
	internalLen = 8
	internalDel = 0
	internalPut = 1
)

func eachInTable(r storage.Reader, fd storage.FileDesc, put func(k, v []byte, sequence uint64) error) error {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	t, err := table.NewReader(r, size, fd, nil, nil, &opt.Options{Strict: salvageStrict})
	if err != nil {
		return err
	}
	it := t.NewIterator(nil, nil)
	defer it.Release()
	for it.Next() {
		if err := internal(it.Key(), it.Value(), put); err != nil {
			return err
		}
	}
	return it.Error()
}

// internal hands on what a record of a table says was stored.
func internal(k, v []byte, put func(k, v []byte, sequence uint64) error) error {
	at := len(k) - internalLen
	if at < 1 {
		return nil
	}
	switch number := binary.LittleEndian.Uint64(k[at:]); number & 0xff {
	case internalPut:
		return put(k[:at], v, number>>8)
	case internalDel:
		return put(k[:at], nil, number>>8)
	}
	return nil
}

func (w *wreck) eachInJournal(r io.Reader, fd storage.FileDesc, put func(k, v []byte, sequence uint64) error) error {
	records := leveljournal.NewReader(r, nil, false, true)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(record)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			w.found("a record of a journal is damaged", "file", fd.String())
			continue
		}
		if err != nil {
			return err
		}
		var batch leveldb.Batch
		if len(b) < batchHeader || batch.Load(b[batchHeader:]) != nil {
			w.found("a record of a journal is damaged", "file", fd.String())
			continue
		}
		p := &batchPut{put: put, sequence: binary.LittleEndian.Uint64(b)}
		if err := batch.Replay(p); err != nil {
			return err
		}
		if p.err != nil {
			return p.err
		}
	}
}

// batchHeader is the sequence number of a batch's first record, and their number.
const batchHeader = 12

// batchPut is one batch of a journal that is read.
type batchPut struct {
	put      func(k, v []byte, sequence uint64) error
	sequence uint64
	err      error
}

// Put and Delete are called by a batch for its records.
func (p *batchPut) Put(k, v []byte) { p.next(k, v) }

// Delete has a nil value.
func (p *batchPut) Delete(k []byte) { p.next(k, nil) }

func (p *batchPut) next(k, v []byte) {
	if p.err == nil && len(k) > 0 {
		p.err = p.put(k, v, p.sequence)
	}
	p.sequence++
}

// readOnly keeps goleveldb from changing a database that was set aside.
type readOnly struct{ storage.Storage }

func (readOnly) Create(storage.FileDesc) (storage.Writer, error) { return nil, errReadOnly }
func (readOnly) Remove(storage.FileDesc) error                   { return errReadOnly }
func (readOnly) Rename(storage.FileDesc, storage.FileDesc) error { return errReadOnly }
func (readOnly) SetMeta(storage.FileDesc) error                  { return errReadOnly }
func (readOnly) Log(string)                                      {}
