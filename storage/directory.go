package storage

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// The files of a data directory, beside the database in db/.
const (
	lockName     = "LOCK"
	identityName = "node.json"
	cleanName    = "clean.json"   // there exactly while the store is stopped after a clean Close
	openingName  = "opening.json" // the same mark from when a start takes it until goleveldb has opened
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
	// Salvage is there from when damage was found until all that can be read stands in a new database.
	Salvage *salvageNote `json:"salvage,omitempty"`
	// Align says that what is derived from the objects (the index, the trees) may not fit them, until it has been made to.
	Align bool `json:"align,omitempty"`
	// Of node.json itself: another one says that the directory is a copy. The zero one is that of an earlier build.
	fileID
	// Copied is that finding, until the database itself says so.
	Copied bool `json:"copied,omitempty"`
}

// fileID tells a file from a copy of it, which has another inode or, where that was given away again, was made later.
type fileID struct {
	Inode uint64 `json:"inode,omitempty"`
	Born  int64  `json:"born,omitempty"` // nanoseconds since 1970; 0 where it cannot be told
}

func idOf(f *os.File) (fileID, error) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	return fileID{inode(info), birth(f)}, nil
}

// differs tells whether these are two files. What is not known does not.
func (a fileID) differs(b fileID) bool {
	return a.Inode != b.Inode || a.Born != 0 && b.Born != 0 && a.Born != b.Born
}

// salvageNote is what is known of a database that must not be opened as it is.
type salvageNote struct {
	What string `json:"what"` // was found damaged
	// From is where the database is set aside, chosen before it is moved: if that place is taken, it was moved, and what stands in its
	// place is a new one that was not finished.
	From string `json:"from,omitempty"`
}

// cleanMark is clean.json: what a clean Close left. A start takes the mark away before anything can be written, and uses the
// incarnation again only where nothing was touched in between: the mark is still the very file that was written (a copied or
// restored directory has another inode), and journals and manifests are the ones that were left, by size.
type cleanMark struct {
	Incarnation string `json:"incarnation"`
	fileID
	Files map[string]int64 `json:"files"`

	copied bool // it is not the file that was written
}

// directory is a locked data directory.
type directory struct {
	path string
	id   ring.NodeID
	lock *os.File

	mu  sync.Mutex
	who identity // as it is on disk, but for Copied, which is found out
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
		d.who = identity{Format: dirFormat, ID: ring.NodeID(hex.EncodeToString(b[:])), Created: time.Now().UTC().Truncate(time.Second)}
		if err := d.note(func(*identity) {}); err != nil {
			return err
		}
	} else {
		d.who = *who
	}
	d.id = d.who.ID
	return nil
}

// known is the identity as it is now.
func (d *directory) known() identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.who
}

// note changes the identity, on disk before it returns. A file that is written anew knows its inode: that the directory is a copy is
// carried on in it until it is taken back by a later note.
func (d *directory) note(change func(*identity)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	who := d.who
	change(&who)
	err := d.writeFile(identityName, func(id fileID) any {
		who.fileID = id
		return who
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", identityName, err)
	}
	d.who = who
	return nil
}

// noteLoss notes what is lost.
func (d *directory) noteLoss(what string) error {
	if d.known().Loss == what {
		return nil
	}
	return d.note(func(who *identity) { who.Loss = what })
}

// noteSalvage notes that the database is damaged; the first finding is kept.
func (d *directory) noteSalvage(what string) error {
	if d.known().Salvage != nil {
		return nil
	}
	return d.note(func(who *identity) {
		if who.Salvage == nil {
			who.Salvage = &salvageNote{What: what}
		}
	})
}

// noteAlign notes that what is derived from the objects may not fit them, or that it does again.
func (d *directory) noteAlign(align bool) error {
	if d.known().Align == align {
		return nil
	}
	return d.note(func(who *identity) { who.Align = align })
}

// noteOpened notes that the directory has a database, and that this database knows whatever was found but for align.
func (d *directory) noteOpened(align bool) error {
	who := d.known()
	if who.Database && who.Loss == "" && who.Salvage == nil && !who.Copied && who.fileID != (fileID{}) && who.Align == align {
		return nil
	}
	return d.note(func(who *identity) {
		who.Database, who.Loss, who.Salvage, who.Copied, who.Align = true, "", nil, false, align
	})
}

// readIdentity reads node.json; nil where the directory is new.
func readIdentity(path string) (*identity, error) {
	f, err := os.Open(filepath.Join(path, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkNew(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close()
	id, err := idOf(f)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	b, err := io.ReadAll(f)
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
	if who.Salvage != nil && who.Salvage.From != "" && !isAside(who.Salvage.From) {
		return nil, fmt.Errorf("%w: %s in %s names %q as a database", ErrForeign, identityName, path, who.Salvage.From)
	}
	who.Copied = who.Copied || who.fileID != (fileID{}) && who.differs(id)
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

// writeFile puts a file there wholly or not at all, and on disk before it returns.
func (d *directory) writeFile(name string, content func(id fileID) any) error {
	path := filepath.Join(d.path, name)
	if err := os.Remove(path + tempSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path+tempSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	id, err := idOf(f)
	if err == nil {
		var b []byte
		if b, err = json.MarshalIndent(content(id), "", "  "); err == nil {
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
	return err
}

// close unlocks the directory.
func (d *directory) close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}
