package storage

import (
	"crypto/rand"
	"encoding/hex"
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
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// The files of a data directory, beside the database in db/.
const (
	lockName     = "LOCK"
	identityName = "node.json"
	cleanName    = "clean.json" // there exactly while the store is stopped after a clean Close
	databaseName = "db"
	tempSuffix   = ".tmp"

	dirFormat = 1
)

// identity is node.json: who the node is, for the life of the directory.
type identity struct {
	Format  int         `json:"format"`
	ID      ring.NodeID `json:"id"`
	Created time.Time   `json:"created"`
	// Database is set once the database was made: where it is gone later on, it was lost.
	Database bool `json:"database,omitempty"`
	// Loss is what a start found lost, until the database itself says so: an open that skips leaves no trace of what it skipped.
	Loss string `json:"loss,omitempty"`
}

// cleanMark is clean.json: what a clean Close left. A start takes the mark away before anything can be written, and uses the
// incarnation again only where nothing was touched in between: the mark is still the very file that was written (a copied or
// restored directory has another inode), and journals and manifests are the ones that were left, by size.
type cleanMark struct {
	Incarnation string           `json:"incarnation"`
	Inode       uint64           `json:"inode"`
	Files       map[string]int64 `json:"files"`
}

// directory is a locked data directory.
type directory struct {
	path string
	id   ring.NodeID
	who  identity
	lock *os.File
}

// openDirectory locks a data directory, which is made where it is missing, and reads who the node is. Until the directory is
// known to be one of this format, and free, nothing in it is changed but the lock file.
func openDirectory(path string) (*directory, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("make data directory: %w", err)
		}
	}
	if _, err := readIdentity(path); err != nil {
		return nil, err
	}
	d := &directory{path: path}
	var err error
	if d.lock, err = lockFile(filepath.Join(path, lockName)); err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	if err := d.identify(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

// identify reads the identity again under the lock, and mints one for a new directory.
func (d *directory) identify() error {
	who, err := readIdentity(d.path)
	if err != nil {
		return err
	}
	if who == nil {
		var b [16]byte
		rand.Read(b[:]) // never fails
		who = &identity{Format: dirFormat, ID: ring.NodeID(hex.EncodeToString(b[:])), Created: time.Now().UTC().Truncate(time.Second)}
		if _, err := d.writeJSON(identityName, who); err != nil {
			return fmt.Errorf("write identity: %w", err)
		}
	}
	d.id, d.who = who.ID, *who
	return nil
}

// noteLoss notes what is lost; "" takes the note away.
func (d *directory) noteLoss(what string) error {
	if d.who.Loss == what {
		return nil
	}
	d.who.Loss = what
	if _, err := d.writeJSON(identityName, d.who); err != nil {
		return fmt.Errorf("note loss: %w", err)
	}
	return nil
}

// noteDatabase notes, once, that the directory has a database.
func (d *directory) noteDatabase() error {
	if d.who.Database {
		return nil
	}
	d.who.Database = true
	if _, err := d.writeJSON(identityName, d.who); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// readIdentity reads node.json; nil where the directory is new.
func readIdentity(path string) (*identity, error) {
	b, err := os.ReadFile(filepath.Join(path, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkNew(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	var who identity
	if err := json.Unmarshal(b, &who); err != nil {
		return nil, fmt.Errorf("%w: %s in %s: %w", ErrForeign, identityName, path, err)
	}
	if who.Format != dirFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this build reads %d", ErrForeign, path, who.Format, dirFormat)
	}
	if raw, err := hex.DecodeString(string(who.ID)); err != nil || len(raw) != 16 || strings.ToLower(string(who.ID)) != string(who.ID) {
		return nil, fmt.Errorf("%w: %s in %s holds the malformed id %q", ErrForeign, identityName, path, who.ID)
	}
	return &who, nil
}

// checkNew refuses a directory that holds something and has no identity: it is somebody else's, or has lost its own.
func checkNew(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, identityName + tempSuffix, "lost+found":
		default:
			return fmt.Errorf("%w: %s holds %q but no %s; give the node an empty directory or its own", ErrForeign, path, e.Name(), identityName)
		}
	}
	return nil
}

// takeClean takes the clean mark away, for good before it returns. It is nil where there was none, or one of another copy of the
// directory.
func (d *directory) takeClean() (mark *cleanMark, err error) {
	path := filepath.Join(d.path, cleanName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read clean mark: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read clean mark: %w", err)
	}
	mark = &cleanMark{}
	bad := json.NewDecoder(f).Decode(mark) != nil || mark.Inode != inode(info)
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("remove clean mark: %w", err)
	}
	if err := syncDir(d.path); err != nil {
		return nil, fmt.Errorf("remove clean mark: %w", err)
	}
	if bad {
		return nil, nil
	}
	return mark, nil
}

// actor is the incarnation that the mark names, and whether it names one.
func (m *cleanMark) actor() (vclock.Actor, bool) {
	n, err := strconv.ParseUint(m.Incarnation, 16, 64)
	return vclock.Actor(n), err == nil && n != 0
}

// differs says what has changed among the files since the mark; "" where nothing has.
func (m *cleanMark) differs(files map[string]int64) string {
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if size, there := files[name]; !there {
			return name + " is missing"
		} else if size != m.Files[name] {
			return fmt.Sprintf("%s has %d bytes, and had %d", name, size, m.Files[name])
		}
	}
	if len(files) != len(m.Files) {
		return "there are files that were not left by the last stop"
	}
	return ""
}

// leaveClean writes the clean mark.
func (d *directory) leaveClean(incarnation vclock.Actor, files map[string]int64) error {
	// The mark holds its own inode: the file is made first, then filled, then named.
	_, err := d.writeFile(cleanName, func(ino uint64) any {
		return cleanMark{Incarnation: formatActor(incarnation), Inode: ino, Files: files}
	})
	if err != nil {
		return fmt.Errorf("write clean mark: %w", err)
	}
	return nil
}

func (d *directory) writeJSON(name string, v any) (uint64, error) {
	return d.writeFile(name, func(uint64) any { return v })
}

// writeFile puts a file there wholly or not at all, and on disk before it returns.
func (d *directory) writeFile(name string, content func(inode uint64) any) (ino uint64, err error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err == nil {
		ino = inode(info)
		var b []byte
		if b, err = json.MarshalIndent(content(ino), "", "  "); err == nil {
			_, err = f.Write(append(b, '\n'))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err == nil {
		err = syncDir(d.path)
	}
	return ino, err
}

// close unlocks the directory.
func (d *directory) close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}
