package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/vclock"
)

// readClean reads the clean mark and leaves it where it is. mark is nil where there is none. interrupted tells that a start took it
// and was broken off before goleveldb had opened: since the clean stop nothing was written to a journal.
func (d *directory) readClean() (mark *cleanMark, interrupted bool, err error) {
	_, err = os.Stat(filepath.Join(d.path, openingName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("read clean mark: %w", err)
	}
	interrupted = err == nil
	f, err := os.Open(filepath.Join(d.path, cleanName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, interrupted, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read clean mark: %w", err)
	}
	defer f.Close()
	id, err := idOf(f)
	if err != nil {
		return nil, false, fmt.Errorf("read clean mark: %w", err)
	}
	mark = &cleanMark{}
	if err := json.NewDecoder(f).Decode(mark); err != nil {
		return nil, interrupted, nil // as good as none
	}
	mark.copied = mark.fileID.differs(id)
	return mark, interrupted, nil
}

// takeClean takes the clean mark away, for good before it returns: from here on a start counts as unclean.
func (d *directory) takeClean() error {
	err := os.Rename(filepath.Join(d.path, cleanName), filepath.Join(d.path, openingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("take clean mark: %w", err)
	}
	return nil
}

// dropClean removes what is left of a clean mark, for good before it returns.
func (d *directory) dropClean() error {
	gone := 0
	for _, name := range []string{cleanName, openingName} {
		err := os.Remove(filepath.Join(d.path, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone++
		case err != nil:
			return fmt.Errorf("remove clean mark: %w", err)
		}
	}
	if gone == 2 {
		return nil
	}
	if err := syncDir(d.path); err != nil {
		return fmt.Errorf("remove clean mark: %w", err)
	}
	return nil
}

// actor is the incarnation that the mark names, and whether it names one.
func (m *cleanMark) actor() (vclock.Actor, bool) {
	n, err := strconv.ParseUint(m.Incarnation, 16, 64)
	return vclock.Actor(n), err == nil && n != 0
}

// changed says what has changed among the files since the mark, "" where nothing has, and whether a manifest is among it.
func (m *cleanMark) changed(files map[string]int64) (what string, manifest bool) {
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		size, there := files[name]
		if there && size == m.Files[name] {
			continue
		}
		manifest = manifest || strings.HasPrefix(name, manifestPrefix)
		switch {
		case what != "":
		case !there:
			what = name + " is missing"
		default:
			what = fmt.Sprintf("%s has %d bytes, and had %d", name, size, m.Files[name])
		}
	}
	if what == "" && len(files) != len(m.Files) {
		what = "there are files that were not left by the last stop"
	}
	return what, manifest
}

// leaveClean writes the clean mark.
func (d *directory) leaveClean(incarnation vclock.Actor, files map[string]int64) error {
	// The mark holds its own identity: the file is made first, then filled, then named.
	err := d.writeFile(cleanName, func(id fileID) any {
		return cleanMark{Incarnation: formatActor(incarnation), fileID: id, Files: files}
	})
	if err != nil {
		return fmt.Errorf("write clean mark: %w", err)
	}
	return nil
}
