package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// inspect looks at the files before goleveldb does. loss says what is missing or damaged that an unclean stop does not explain, "" =
// nothing; wreck that goleveldb would open short, or remove what it does not know, so that the database must be salvaged. Nothing is changed.
func (s *Store) inspect(mark *cleanMark) (loss string, wreck bool, err error) {
	who := s.dir.known()
	_, err = s.disk.GetMeta()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		files, err := s.disk.List(storage.TypeJournal | storage.TypeTable)
		if err != nil {
			return "", false, fmt.Errorf("list files: %w", err)
		}
		if len(files) > 0 {
			return "the database's entry point is missing", true, nil
		}
		if who.Database || mark != nil {
			loss = "the database is gone"
		}
		return cmp.Or(loss, who.Loss), false, nil
	case err != nil && isDamage(err):
		return err.Error(), true, nil
	case err != nil:
		return "", false, fmt.Errorf("find database: %w", err)
	}
	if loss, err = s.disk.missing(); err != nil && !isDamage(err) {
		return "", false, err
	} else if err != nil {
		loss = err.Error()
	}
	if loss != "" {
		return loss, true, nil
	}
	if mark != nil {
		files, err := s.disk.lasting()
		if err != nil {
			return "", false, err
		}
		what, manifest := mark.changed(files)
		if what != "" {
			return "since the last stop: " + what, manifest, nil
		}
	}
	return who.Loss, false, nil
}

// clearUnborn removes what a crash has left of a database that was being made: a manifest that is not in use. goleveldb would
// refuse it for ever. Where there is a journal or a table too, there was a database, and nothing is removed.
func (s *Store) clearUnborn() error {
	if _, err := s.disk.GetMeta(); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	files, err := s.disk.List(storage.TypeAll)
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	if slices.ContainsFunc(files, func(f storage.FileDesc) bool { return f.Type != storage.TypeManifest && f.Type != storage.TypeTemp }) {
		return nil
	}
	for _, f := range files {
		if err := s.disk.Remove(f); err != nil {
			return fmt.Errorf("remove %s of a database that was never made: %w", f, err)
		}
	}
	return nil
}
