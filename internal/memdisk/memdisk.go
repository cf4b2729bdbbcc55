// Package memdisk is goleveldb storage in memory that can lose power. Crash makes the disk that a machine would find after a power
// cut: of each file what was synced, and of the directory the names that were synced, plus as much of the rest as asked for. Faults
// can be injected before every operation. For tests only.
//
// It mirrors goleveldb's file storage: syncing a manifest and naming the current one sync the directory too; nothing else
// does but SyncDir.
package memdisk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Op names an operation that changes the disk.
type Op string

// The operations that a Fault is asked about.
const (
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpRemove  Op = "remove"
	OpRename  Op = "rename"
	OpSetMeta Op = "setmeta"
	OpSyncDir Op = "syncdir"
	OpOpen    Op = "open"
	OpRead    Op = "read"
)

// Disk is the storage. It implements storage.Storage and SyncDir. Safe for concurrent use.
type Disk struct {
	// Fault is called before every operation, without a lock; an error makes the operation fail without effect. Set it before
	// use; it may be nil.
	Fault func(op Op, fd storage.FileDesc) error

	mu      sync.Mutex
	live    directory // as the running system sees it
	durable directory // as it was when the directory was last synced
	pending []rename  // what has changed since, in order
	locked  bool
	logged  []string
}

// directory maps names to contents.
type directory struct {
	files map[storage.FileDesc]*inode
	meta  storage.FileDesc
}

func (d directory) clone() directory { return directory{maps.Clone(d.files), d.meta} }

// inode is a file's content. Files only grow.
type inode struct {
	data   []byte
	synced int // bytes that were synced
}

// rename is one change of the directory: to now names node, and from names nothing. Either may be the zero name.
type rename struct {
	from, to storage.FileDesc
	node     *inode
}

func (r rename) apply(d directory) {
	if !r.from.Zero() {
		delete(d.files, r.from)
	}
	if !r.to.Zero() {
		d.files[r.to] = r.node
	}
}

// New makes an empty disk.
func New() *Disk {
	return &Disk{live: directory{files: map[storage.FileDesc]*inode{}}, durable: directory{files: map[storage.FileDesc]*inode{}}}
}

func (d *Disk) fault(op Op, fd storage.FileDesc) error {
	if d.Fault == nil {
		return nil
	}
	if err := d.Fault(op, fd); err != nil {
		return fmt.Errorf("%s %s: %w", op, fd, err)
	}
	return nil
}

// change applies one change of the directory.
func (d *Disk) change(r rename) {
	r.apply(d.live)
	d.pending = append(d.pending, r)
}

func (d *Disk) syncDirLocked() {
	d.durable, d.pending = d.live.clone(), nil
}

// SyncDir makes the names durable.
func (d *Disk) SyncDir() error {
	if err := d.fault(OpSyncDir, storage.FileDesc{}); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncDirLocked()
	return nil
}

type locker struct{ d *Disk }

func (l locker) Unlock() {
	l.d.mu.Lock()
	l.d.locked = false
	l.d.mu.Unlock()
}

// Lock locks the disk for one database.
func (d *Disk) Lock() (storage.Locker, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, storage.ErrLocked
	}
	d.locked = true
	return locker{d}, nil
}

// Log keeps the last lines.
func (d *Disk) Log(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.logged) >= 1000 {
		d.logged = d.logged[500:]
	}
	d.logged = append(d.logged, s)
}

// SetMeta names the current manifest, durably.
func (d *Disk) SetMeta(fd storage.FileDesc) error {
	if err := d.fault(OpSetMeta, fd); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live.meta = fd
	d.syncDirLocked()
	return nil
}

// GetMeta is the current manifest.
func (d *Disk) GetMeta() (storage.FileDesc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, there := d.live.files[d.live.meta]; !there {
		return storage.FileDesc{}, os.ErrNotExist
	}
	return d.live.meta, nil
}

// List lists the files of these types.
func (d *Disk) List(ft storage.FileType) ([]storage.FileDesc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []storage.FileDesc
	for fd := range d.live.files {
		if fd.Type&ft != 0 {
			out = append(out, fd)
		}
	}
	return out, nil
}

// Remove deletes a name.
func (d *Disk) Remove(fd storage.FileDesc) error {
	if err := d.fault(OpRemove, fd); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live.files[fd] == nil {
		return os.ErrNotExist
	}
	d.change(rename{from: fd})
	return nil
}

// Rename gives a file another name.
func (d *Disk) Rename(from, to storage.FileDesc) error {
	if err := d.fault(OpRename, from); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.live.files[from]
	if node == nil {
		return os.ErrNotExist
	}
	d.change(rename{from: from, to: to, node: node})
	return nil
}

// Close does nothing: the disk can be used again.
func (d *Disk) Close() error { return nil }

// Create makes an empty file under this name.
func (d *Disk) Create(fd storage.FileDesc) (storage.Writer, error) {
	if !storage.FileDescOk(fd) {
		return nil, storage.ErrInvalidFile
	}
	if err := d.fault(OpCreate, fd); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &writer{d: d, fd: fd, node: &inode{}}
	d.change(rename{to: fd, node: w.node})
	return w, nil
}

// Open reads a file as it is now.
func (d *Disk) Open(fd storage.FileDesc) (storage.Reader, error) {
	if err := d.fault(OpOpen, fd); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.live.files[fd]
	if node == nil {
		return nil, os.ErrNotExist
	}
	return &reader{Reader: bytes.NewReader(node.data), d: d, fd: fd}, nil
}

type writer struct {
	d    *Disk
	fd   storage.FileDesc
	node *inode
	done bool
}

var errClosed = errors.New("file is closed")

func (w *writer) Write(p []byte) (int, error) {
	if err := w.d.fault(OpWrite, w.fd); err != nil {
		return 0, err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.done {
		return 0, errClosed
	}
	w.node.data = append(w.node.data, p...)
	return len(p), nil
}

func (w *writer) Sync() error {
	if err := w.d.fault(OpSync, w.fd); err != nil {
		return err
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.done {
		return errClosed
	}
	w.node.synced = len(w.node.data)
	if w.fd.Type == storage.TypeManifest {
		w.d.syncDirLocked()
	}
	return nil
}

func (w *writer) Close() error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.done {
		return errClosed
	}
	w.done = true
	return nil
}

type reader struct {
	*bytes.Reader
	d  *Disk
	fd storage.FileDesc
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.d.fault(OpRead, r.fd); err != nil {
		return 0, err
	}
	return r.Reader.ReadAt(p, off)
}

func (r *reader) Close() error { return nil }
