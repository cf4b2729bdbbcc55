package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// asidePrefix begins the name of a database that was set aside; a number follows.
const asidePrefix = databaseName + ".damaged-"

// asides keeps databases that are not used any more beside the one that is. A Backend that can do it allows a salvage.
type asides interface {
	// SetAside gives the database in use a name, for good, and leaves none in use. It fails where the name is taken, or nothing is there.
	SetAside(name string) error
	// OpenAside opens one to be read only; an error wraps fs.ErrNotExist where there is none of that name.
	OpenAside(name string) (storage.Storage, error)
	Asides() ([]string, error)
	RemoveAside(name string) error
	// Clear removes the database in use, for good.
	Clear() error
}

func asideName(n int) string { return asidePrefix + strconv.Itoa(n) }

func isAside(name string) bool { return asideNumber(name) > 0 }

// asideNumber is the number in a name, 0 where it is none of such a database.
func asideNumber(name string) int {
	digits, ok := strings.CutPrefix(name, asidePrefix)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || asideName(n) != name {
		return 0
	}
	return n
}

// numberedAsides lists the names in the order in which they were set aside.
func numberedAsides(a asides) ([]string, error) {
	names, err := a.Asides()
	if err != nil {
		return nil, fmt.Errorf("list databases that were set aside: %w", err)
	}
	slices.SortFunc(names, func(a, b string) int { return asideNumber(a) - asideNumber(b) })
	return names, nil
}

// folders keeps them as folders of the data directory. None may be open.
type folders struct{ path string }

func (f folders) SetAside(name string) error {
	to := filepath.Join(f.path, name)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set database aside as %s: %w", to, errors.Join(err, fs.ErrExist))
	}
	if err := os.Rename(filepath.Join(f.path, databaseName), to); err != nil {
		return fmt.Errorf("set database aside: %w", err)
	}
	return f.sync("set database aside")
}

func (f folders) OpenAside(name string) (storage.Storage, error) {
	path := filepath.Join(f.path, name)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return storage.OpenFile(path, true)
}

func (f folders) Asides() ([]string, error) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if isAside(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (f folders) RemoveAside(name string) error {
	if err := os.RemoveAll(filepath.Join(f.path, name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return f.sync("remove " + name)
}

func (f folders) Clear() error {
	if err := os.RemoveAll(filepath.Join(f.path, databaseName)); err != nil {
		return fmt.Errorf("remove a database that was not finished: %w", err)
	}
	return f.sync("remove a database that was not finished")
}

func (f folders) sync(doing string) error { return wrap(doing, syncDir(f.path)) }
