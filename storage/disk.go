package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/plant"
)

// ErrFailed marks a store whose disk failed in a way that cannot be retried: every write is refused until it is opened again.
var ErrFailed = errors.New("store has failed and refuses writes")

// backlog is how many unsynced bytes a journal may gather before it is synced without being asked: it bounds the pause
// when the journal is rotated.
const backlog = 8 << 20

// disk is what goleveldb writes to: a storage that closes the gaps in when goleveldb syncs.
//
//   - It knows which journals are open and how far each is synced, so that one call can sync all that was written.
//   - Before a new journal is created, the one before is synced; likewise before one is closed. No record is ever lost while a
//     later one is kept.
//   - The directory is synced when a journal is first synced, and before a manifest names new tables: a file without its name
//     is lost.
//   - The first failure of an fsync, or of a write to a journal or manifest, is kept. Nothing is written or synced after it.
type disk struct {
	storage.Storage
	syncDir   func() error
	retire    func(*journal) error // syncs a journal that gets no more records
	onBacklog func()               // told when backlog unsynced bytes have gathered; must not block
	onFailure func(error)          // told of the first failure; must not block
	onCorrupt func(error)          // told when goleveldb has met damage while it compacted, and writes no more

	mu    sync.Mutex
	open  []*journal      // in order of creation
	sizes map[int64]int64 // bytes of each journal on disk, by file number
	drops []string        // what goleveldb logged as dropped while it opened, at most maxDrops

	unnamed      atomic.Bool // a table was made since the directory was last synced for one
	failure      atomic.Pointer[error]
	journalSyncs histogram // what group commits take
	otherSyncs   histogram // tables, manifests and the directory
	watch        stallWatch
}

const maxDrops = 20

// directorySyncer is implemented by backends whose directory must be synced. Files in a directory do; memory need not.
type directorySyncer interface{ SyncDir() error }

func newDisk(s storage.Storage) *disk {
	d := &disk{Storage: s, watch: stallWatch{began: time.Now()}, sizes: map[int64]int64{}, onBacklog: func() {}, onFailure: func(error) {}, onCorrupt: func(error) {}, syncDir: func() error { return nil }}
	if ds, ok := s.(directorySyncer); ok {
		d.syncDir = ds.SyncDir
	}
	d.retire = (*journal).sync
	return d
}

// fileDisk adds the directory sync to goleveldb's file storage.
type fileDisk struct {
	storage.Storage
	path string
}

func (f fileDisk) SyncDir() error { return syncDir(f.path) }

// failed is the first failure, nil while there is none.
func (d *disk) failed() error {
	if p := d.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail keeps the first failure and returns it.
func (d *disk) fail(doing string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrFailed, doing, err)
	if d.failure.CompareAndSwap(nil, &err) {
		d.onFailure(err)
	}
	return d.failed()
}

// fsync runs one sync unless the store has failed, times it, and keeps its failure.
func (d *disk) fsync(h *histogram, doing string, sync func() error) error {
	if err := d.failed(); err != nil {
		return err
	}
	start := time.Now()
	place := -1
	if h == &d.journalSyncs { // the others are large, and nobody waits for them
		place = d.watch.begin()
	}
	err := sync()
	d.watch.end(place)
	h.observe(time.Since(start))
	if err != nil && plant.On(plant.FsyncRetried) {
		return err
	}
	if err != nil {
		return d.fail(doing, err)
	}
	return nil
}

// Create opens a file for goleveldb. All earlier journals are synced before a new one exists; goleveldb holds its write lock
// here but none that readers need, which is why this is not left to Close.
func (d *disk) Create(fd storage.FileDesc) (storage.Writer, error) {
	if err := d.failed(); err != nil {
		return nil, err
	}
	if fd.Type == storage.TypeJournal {
		if err := d.each(d.retire); err != nil {
			return nil, err
		}
	}
	w, err := d.Storage.Create(fd)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", fd, err)
	}
	if fd.Type != storage.TypeJournal {
		return &file{Writer: w, d: d, fd: fd}, nil
	}
	j := &journal{d: d, w: w, fd: fd}
	d.mu.Lock()
	d.open = append(d.open, j)
	d.sizes[fd.Num] = 0
	d.mu.Unlock()
	return j, nil
}

// Remove deletes a file.
func (d *disk) Remove(fd storage.FileDesc) error {
	if err := d.failed(); err != nil {
		return err
	}
	err := d.Storage.Remove(fd)
	if err == nil && fd.Type == storage.TypeJournal {
		d.mu.Lock()
		delete(d.sizes, fd.Num)
		d.mu.Unlock()
	}
	return err
}

// SetMeta names the manifest in use. Its failure is final, since it may be that of an fsync.
func (d *disk) SetMeta(fd storage.FileDesc) error {
	if err := d.failed(); err != nil {
		return err
	}
	if err := d.Storage.SetMeta(fd); err != nil {
		return d.fail("name "+fd.String(), err)
	}
	return nil
}

// Log passes goleveldb's log on, and keeps what it says about dropped records.
func (d *disk) Log(s string) {
	if strings.HasPrefix(s, "journal@drop") || strings.Contains(s, "(skipped)") {
		d.mu.Lock()
		if len(d.drops) < maxDrops {
			d.drops = append(d.drops, s)
		}
		d.mu.Unlock()
	}
	d.Storage.Log(s)
	if strings.Contains(s, "(corruption detected)") { // it says so nowhere else until something is written
		d.onCorrupt(fmt.Errorf("%w: met by a compaction: %s", ErrCorrupt, s))
	}
}

// Open opens a file for goleveldb, which takes for damage what is: a table that is not there though the manifest names it, one whose
// footer makes no sense, and bytes that the device cannot read.
func (d *disk) Open(fd storage.FileDesc) (storage.Reader, error) {
	r, err := d.Storage.Open(fd)
	if fd.Type == storage.TypeTable && errors.Is(err, fs.ErrNotExist) {
		return nil, lderrors.NewErrCorrupted(fd, err)
	}
	if err != nil {
		return nil, damagedRead(fd, err)
	}
	r = reader{r, fd}
	if fd.Type != storage.TypeTable {
		return r, nil
	}
	if err := checkFooter(fd, r); err != nil {
		if cerr := r.Close(); cerr != nil {
			d.Log(fmt.Sprintf("close %s: %v", fd, cerr)) // err must stay of the type that goleveldb looks for
		}
		return nil, err
	}
	return r, nil
}

// reader is a file that is read.
type reader struct {
	storage.Reader
	fd storage.FileDesc
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	return n, damagedRead(r.fd, err)
}

func (r reader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	return n, damagedRead(r.fd, err)
}

// damagedRead makes a device's "cannot be read" into goleveldb's kind of damage: it will not pass by itself. Other errors are as they were.
func damagedRead(fd storage.FileDesc, err error) error {
	if errors.Is(err, syscall.EIO) {
		return lderrors.NewErrCorrupted(fd, err)
	}
	return err
}

// syncJournals makes everything durable that was written to any journal before the call.
func (d *disk) syncJournals() error {
	if err := d.each((*journal).sync); err != nil {
		return err
	}
	// A journal that a rotation has just taken off the list was synced first, or the failure is kept.
	return d.failed()
}

// each calls fn for the open journals, oldest first, and stops at the first error.
func (d *disk) each(fn func(*journal) error) error {
	var space [4]*journal
	d.mu.Lock()
	open := append(space[:0], d.open...)
	d.mu.Unlock()
	for _, j := range open {
		if err := fn(j); err != nil {
			return err
		}
	}
	return nil
}

// clean tells whether everything that was written to a journal is synced.
func (d *disk) clean() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range d.open {
		if j.written.Load() != j.synced.Load() {
			return false
		}
	}
	return d.failed() == nil
}

// journalBytes is the size of the journals on disk.
func (d *disk) journalBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n int64
	for _, size := range d.sizes {
		n += size
	}
	for _, j := range d.open {
		n += j.written.Load()
	}
	return n
}

// dropped is what goleveldb said it dropped.
func (d *disk) dropped() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.drops)
}

// lasting lists the journals and manifests with their sizes: what a clean stop leaves and the next start checks. Tables are
// listed by the manifest and checked by goleveldb.
func (d *disk) lasting() (map[string]int64, error) {
	fds, err := d.Storage.List(storage.TypeJournal | storage.TypeManifest)
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	slices.SortFunc(fds, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	out := make(map[string]int64, len(fds))
	for _, fd := range fds {
		r, err := d.Storage.Open(fd)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", fd, err)
		}
		size, err := r.Seek(0, 2)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", fd, err)
		}
		out[fd.String()] = size
	}
	return out, nil
}

// file is a table or a manifest.
type file struct {
	storage.Writer
	d  *disk
	fd storage.FileDesc
}

func (f *file) Write(p []byte) (int, error) {
	if err := f.d.failed(); err != nil {
		return 0, err
	}
	if f.fd.Type != storage.TypeManifest {
		return f.Writer.Write(p)
	}
	// goleveldb commits one after the other, so nobody else is about to name the same tables.
	if f.d.unnamed.Swap(false) {
		if err := f.d.fsync(&f.d.otherSyncs, "sync directory", f.d.syncDir); err != nil {
			return 0, err
		}
	}
	n, err := f.Writer.Write(p)
	if err != nil {
		err = f.d.fail("write "+f.fd.String(), err) // goleveldb never writes to this manifest again
	}
	return n, err
}

func (f *file) Sync() error {
	if err := f.d.fsync(&f.d.otherSyncs, "sync "+f.fd.String(), f.Writer.Sync); err != nil {
		return err
	}
	if f.fd.Type == storage.TypeTable {
		f.d.unnamed.Store(true)
	}
	return nil
}
