package storage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"
	leveljournal "github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// tornInTheMiddle tells whether the journals show that something is missing from them which a crash cannot have taken. A crash takes
// what was not synced, and that is the end: whatever comes before a record that was synced is whole, and so is every journal that
// another one follows. Where damage comes before either, records were lost that the store had answered for; and with the marks of
// collection, which are synced, left behind it, it would take what was lost for collected.
func (d *disk) tornInTheMiddle() (bool, error) {
	m, _, err := d.manifest()
	if err != nil {
		return false, err
	}
	fds, err := d.Storage.List(storage.TypeJournal)
	if err != nil {
		return false, fmt.Errorf("list journals: %w", err)
	}
	slices.SortFunc(fds, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	damaged := false
	for _, fd := range fds {
		if fd.Num < m.journal {
			continue
		}
		r, err := d.Open(fd)
		if err != nil {
			return false, fmt.Errorf("open %s: %w", fd, err)
		}
		t := tear{earlier: damaged}
		err = t.read(r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", fd, err)
		}
		if t.beyond {
			return true, nil
		}
		damaged = damaged || t.torn
	}
	return false, nil
}

// tear is what a journal shows.
type tear struct {
	earlier bool // an earlier journal is damaged
	torn    bool // something here is
	beyond  bool // a record follows the damage that was written after all before it was synced
}

// Drop is told by goleveldb of what it skips.
func (t *tear) Drop(error) { t.torn = true }

func (t *tear) read(r io.Reader) error {
	records := leveljournal.NewReader(r, t, false, true)
	for !t.beyond {
		record, err := records.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(record)
		var batch leveldb.Batch
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			t.torn = true
			continue
		case err != nil:
			return err
		case len(b) < batchHeader || batch.Load(b[batchHeader:]) != nil:
			t.torn = true
			continue
		}
		if t.earlier {
			t.beyond = true
		} else if t.torn {
			if err := batch.Replay(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// Put and Delete are called for the records of a batch.
func (t *tear) Put(k, _ []byte) { t.beyond = t.beyond || alwaysSynced(k) }

// Delete as Put.
func (t *tear) Delete(k []byte) { t.beyond = t.beyond || alwaysSynced(k) }

// alwaysSynced tells whether every batch with this key is synced before its write returns.
func alwaysSynced(k []byte) bool {
	if len(k) > 0 && k[0] == spaceMeta {
		return true
	}
	for _, note := range []string{noteMark, noteFence, noteUnsynced, noteTrees, notePartitions} {
		if bytes.HasPrefix(k, storeKey(note)) {
			return true
		}
	}
	return false
}
