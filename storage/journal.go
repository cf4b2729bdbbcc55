package storage

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// journal is an open write-ahead log.
type journal struct {
	d  *disk
	w  storage.Writer
	fd storage.FileDesc

	written atomic.Int64 // bytes handed to the kernel
	synced  atomic.Int64 // bytes known to be on disk; stored under mu

	mu     sync.Mutex // held through an fsync and through closing
	named  bool       // the directory was synced
	closed bool
}

func (j *journal) Write(p []byte) (int, error) {
	if err := j.d.failed(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	place := j.d.watch.begin()
	n, err := j.w.Write(p)
	j.d.watch.end(place)
	total := j.written.Add(int64(n))
	if err != nil {
		return n, j.d.fail("write "+j.fd.String(), err)
	}
	if unsynced := total - j.synced.Load(); unsynced >= backlog && unsynced-int64(n) < backlog {
		j.d.onBacklog()
	}
	return n, nil
}

// Sync is called by goleveldb for a synced write.
func (j *journal) Sync() error { return j.sync() }

func (j *journal) sync() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.syncLocked()
}

// syncLocked makes everything durable that was written before the call. Under mu, so that one who comes while an fsync runs waits
// for it, and closing cannot pull the file away.
func (j *journal) syncLocked() error {
	written := j.written.Load()
	if j.closed || written == j.synced.Load() {
		return j.d.failed()
	}
	if err := j.d.fsync(&j.d.journalSyncs, "sync "+j.fd.String(), j.w.Sync); err != nil {
		return err
	}
	if !j.named {
		if err := j.d.fsync(&j.d.otherSyncs, "sync directory", j.d.syncDir); err != nil {
			return err
		}
		j.named = true
	}
	j.synced.Store(written)
	return nil
}

// Close retires the journal. goleveldb ignores the error; the failure is kept all the same.
func (j *journal) Close() error {
	err := j.d.retire(j)
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		if cerr := j.w.Close(); err == nil {
			err = cerr
		}
	}
	j.mu.Unlock()

	d := j.d
	d.mu.Lock()
	d.open = slices.DeleteFunc(d.open, func(o *journal) bool { return o == j })
	if _, there := d.sizes[j.fd.Num]; there {
		d.sizes[j.fd.Num] = j.written.Load()
	}
	d.mu.Unlock()
	return err
}
