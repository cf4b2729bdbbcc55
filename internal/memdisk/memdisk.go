// Package memdisk is goleveldb storage in memory that can lose power. Crash makes the disk that a machine would find after a power
// cut: of each file what was synced, and of the directory the names that were synced, plus as much of the rest as asked for. Faults
// can be injected before every operation; syncs can be lost, the space can run out, bits can rot, and Detach takes the disk away from
// a process that does not know that it is dead. For tests only.
//
// Nothing here sleeps, and no fault should in a testing/synctest bubble: goleveldb calls with its mutexes held, and a goroutine that
// waits for one of them keeps virtual time from passing.
//
// It mirrors goleveldb's file storage: syncing a manifest and naming the current one sync the directory too; nothing else
// does but SyncDir.
package memdisk

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"
	"syscall"

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
	// Fault is asked before every operation. Set it before use; it may be nil. Inject adds others at any time.
	Fault Fault

	mu       sync.Mutex
	live     directory // as the running system sees it
	durable  directory // as it was when the directory was last synced
	pending  []rename  // what has changed since, in order
	locked   bool
	detached bool
	logged   []string
	injected []*Fault // never changed in place
	failing  []*lostSync
	capacity int64 // bytes; 0 = no limit
	used     int64 // bytes of the files of live, and of the databases that were set aside
	asides   map[string]*Disk
}

// directory maps names to contents.
type directory struct {
	files map[storage.FileDesc]*inode
	meta  storage.FileDesc
}

// list lists the files of these types, in no order.
func (d directory) list(ft storage.FileType) []storage.FileDesc {
	var out []storage.FileDesc
	for fd := range d.files {
		if fd.Type&ft != 0 {
			out = append(out, fd)
		}
	}
	return out
}

func (d directory) clone() directory { return directory{maps.Clone(d.files), d.meta} }

// inode is a file's content. Files only grow.
type inode struct {
	data   []byte
	synced int    // bytes that were synced
	lost   []span // of these, what a failed sync left out for ever
	linked bool   // it has a name in live
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

// begin asks the faults, and locks the disk if the operation may go on.
func (d *Disk) begin(op Op, fd storage.FileDesc) error {
	err := d.ask(op, fd)
	d.mu.Lock()
	switch {
	case d.detached:
		err = ErrDetached
	case err == nil:
		return nil
	}
	d.mu.Unlock()
	return failure(op, fd, err)
}

// failure is an operation's error.
func failure(op Op, fd storage.FileDesc, err error) error {
	return fmt.Errorf("%s %s: %w", op, fd, err)
}

// change applies one change of the directory.
func (d *Disk) change(r rename) {
	if r.node == nil {
		d.unlink(r.from)
	}
	d.unlink(r.to)
	r.apply(d.live)
	d.link(r.node)
	d.pending = append(d.pending, r)
}

// link and unlink count what live's names hold.
func (d *Disk) link(node *inode) {
	if node != nil && !node.linked {
		node.linked = true
		d.used += int64(len(node.data))
	}
}

func (d *Disk) unlink(fd storage.FileDesc) {
	if node := d.live.files[fd]; node != nil {
		node.linked = false
		d.used -= int64(len(node.data))
	}
}

func (d *Disk) syncDirLocked() {
	d.durable, d.pending = d.live.clone(), nil
}

// SyncDir makes the names durable.
func (d *Disk) SyncDir() error {
	if err := d.begin(OpSyncDir, storage.FileDesc{}); err != nil {
		return err
	}
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
	if d.detached {
		return nil, ErrDetached
	}
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
	if err := d.begin(OpSetMeta, fd); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if d.capacity > 0 && d.used >= d.capacity { // it is a small file
		return failure(OpSetMeta, fd, syscall.ENOSPC)
	}
	d.live.meta = fd
	d.syncDirLocked()
	return nil
}

// GetMeta is the current manifest.
func (d *Disk) GetMeta() (storage.FileDesc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return storage.FileDesc{}, ErrDetached
	}
	if _, there := d.live.files[d.live.meta]; !there {
		return storage.FileDesc{}, os.ErrNotExist
	}
	return d.live.meta, nil
}

// List lists the files of these types.
func (d *Disk) List(ft storage.FileType) ([]storage.FileDesc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return nil, ErrDetached
	}
	return d.live.list(ft), nil
}

// Remove deletes a name.
func (d *Disk) Remove(fd storage.FileDesc) error {
	if err := d.begin(OpRemove, fd); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if d.live.files[fd] == nil {
		return os.ErrNotExist
	}
	d.change(rename{from: fd})
	return nil
}

// Rename gives a file another name.
func (d *Disk) Rename(from, to storage.FileDesc) error {
	if err := d.begin(OpRename, from); err != nil {
		return err
	}
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
	if err := d.begin(OpCreate, fd); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	w := &writer{d: d, fd: fd, node: &inode{}}
	d.change(rename{to: fd, node: w.node})
	return w, nil
}

// Open reads a file, up to its present end.
func (d *Disk) Open(fd storage.FileDesc) (storage.Reader, error) {
	if err := d.begin(OpOpen, fd); err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	node := d.live.files[fd]
	if node == nil {
		return nil, os.ErrNotExist
	}
	return &reader{io.NewSectionReader(content{d, fd, node}, 0, int64(len(node.data)))}, nil
}

type writer struct {
	d    *Disk
	fd   storage.FileDesc
	node *inode
	done bool
}

var errClosed = errors.New("file is closed")

// Write appends as much as there is space for.
func (w *writer) Write(p []byte) (int, error) {
	if err := w.d.begin(OpWrite, w.fd); err != nil {
		return 0, err
	}
	defer w.d.mu.Unlock()
	if w.done {
		return 0, errClosed
	}
	fits := len(p)
	if w.node.linked {
		if w.d.capacity > 0 {
			fits = int(max(0, min(int64(fits), w.d.capacity-w.d.used)))
		}
		w.d.used += int64(fits)
	}
	w.node.data = append(w.node.data, p[:fits]...)
	if fits < len(p) {
		return fits, failure(OpWrite, w.fd, syscall.ENOSPC)
	}
	return fits, nil
}

func (w *writer) Sync() error {
	if err := w.d.begin(OpSync, w.fd); err != nil {
		return err
	}
	defer w.d.mu.Unlock()
	if w.done {
		return errClosed
	}
	node := w.node
	failed := w.d.loses(w.fd)
	if failed && node.synced < len(node.data) {
		node.lost = append(node.lost, span{node.synced, len(node.data)})
	}
	node.synced = len(node.data)
	if failed {
		return failure(OpSync, w.fd, syscall.EIO)
	}
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

type reader struct{ *io.SectionReader }

func (reader) Close() error { return nil }

// content is a file that is read.
type content struct {
	d    *Disk
	fd   storage.FileDesc
	node *inode
}

func (c content) ReadAt(p []byte, off int64) (int, error) {
	if err := c.d.begin(OpRead, c.fd); err != nil {
		return 0, err
	}
	defer c.d.mu.Unlock()
	if off >= int64(len(c.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, c.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
