package memdisk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Fault is asked before an operation; an error makes the operation fail without effect. It is called without a lock, by several
// goroutines at once, and may call the disk, as with Crash.
type Fault func(op Op, fd storage.FileDesc) error

// ErrDetached is why every operation fails after Detach.
var ErrDetached = errors.New("disk is detached")

// lostSync is a sync that is going to fail.
type lostSync struct {
	types storage.FileType
	left  int // syncs until then
}

// span is a range of bytes of a file.
type span struct{ from, to int }

// Inject adds a fault, after those that are there, until remove is called; it may be called at any time. An operation fails with
// the first error.
func (d *Disk) Inject(f Fault) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.injected = append(slices.Clip(d.injected), &f)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.injected = slices.DeleteFunc(slices.Clone(d.injected), func(other *Fault) bool { return other == &f })
	}
}

// ask asks all faults.
func (d *Disk) ask(op Op, fd storage.FileDesc) error {
	if d.Fault != nil {
		if err := d.Fault(op, fd); err != nil {
			return err
		}
	}
	d.mu.Lock()
	injected := d.injected
	d.mu.Unlock()
	for _, f := range injected {
		if err := (*f)(op, fd); err != nil {
			return err
		}
	}
	return nil
}

// FailSync makes the nth sync from now of a file of these types fail once with syscall.EIO; 1 is the next one. As on Linux, the bytes
// that it was asked to save count as saved afterwards and are not: later syncs succeed, and a power cut turns these bytes into zeroes.
// Several calls count apart from each other.
func (d *Disk) FailSync(types storage.FileType, nth int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = append(d.failing, &lostSync{types: types, left: nth})
}

// loses counts a sync, and tells whether it fails. The caller holds mu.
func (d *Disk) loses(fd storage.FileDesc) bool {
	fails := false
	d.failing = slices.DeleteFunc(d.failing, func(l *lostSync) bool {
		if fd.Type&l.types == 0 {
			return false
		}
		l.left--
		fails = fails || l.left <= 0
		return l.left <= 0
	})
	return fails
}

// SetCapacity limits the bytes of all files together; 0 = no limit. It may be called at any time, and below what is used already. A
// write beyond it appends what fits and fails with syscall.ENOSPC; naming the current manifest fails too while nothing is free.
// Removing and replacing files frees their bytes at once.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Used is how many bytes the files have.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// FlipBit flips one bit of one file of these types, both drawn by rng among the files that are not empty, and tells which: the bit is
// counted from the file's beginning, the lowest of each byte first. It is false if there is no such file. Whoever reads the file
// sees it at once, and it survives a Crash as far as the byte does.
func (d *Disk) FlipBit(rng *rand.Rand, types storage.FileType) (fd storage.FileDesc, bit int64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fds := slices.DeleteFunc(d.sorted(types), func(fd storage.FileDesc) bool { return len(d.live.files[fd].data) == 0 })
	if len(fds) == 0 {
		return storage.FileDesc{}, 0, false
	}
	fd = fds[rng.IntN(len(fds))]
	node := d.live.files[fd]
	bit = rng.Int64N(int64(len(node.data)) * 8)
	node.data = bytes.Clone(node.data) // other disks may share it
	node.data[bit/8] ^= 1 << (bit % 8)
	return fd, bit, true
}

// Detach takes the disk away from the process that uses it: every operation from now on fails with ErrDetached, so that nothing of
// what a killed process still does is saved. When it returns, no operation is under way. Crash, Clone, Files, Edit, FlipBit and Used go on.
func (d *Disk) Detach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.detached = true
}
