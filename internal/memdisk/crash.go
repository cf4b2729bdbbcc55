package memdisk

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Residue says how much of what was never synced is found after a crash.
type Residue int

// Residues.
const (
	Nothing    Residue = iota // only what was synced
	Something                 // some changes of the directory; of each file a part of the rest, perhaps zeroes after it
	Everything                // all, as after kill -9
)

// Crash makes the disk that is found after a power cut at this instant. The disk itself goes on and shares nothing that changes.
// rng is used for Something only.
func (d *Disk) Crash(residue Residue, rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := d.durable.clone()
	switch residue {
	case Everything:
		found = d.live.clone()
	case Something:
		for _, change := range d.pending {
			if rng.IntN(2) == 0 {
				change.apply(found)
			}
		}
	}
	fds := make([]storage.FileDesc, 0, len(found.files))
	for fd := range found.files {
		fds = append(fds, fd)
	}
	slices.SortFunc(fds, compare) // so that a seed means the same each time
	out := New()
	out.live.meta = found.meta
	for _, fd := range fds {
		data := found.files[fd].left(residue, rng)
		out.live.files[fd] = &inode{data: data, synced: len(data)}
	}
	out.durable = out.live.clone()
	return out
}

func compare(a, b storage.FileDesc) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Num, b.Num))
}

// left is what is found of a file.
func (n *inode) left(residue Residue, rng *rand.Rand) []byte {
	tail := len(n.data) - n.synced
	switch {
	case residue == Everything || tail == 0:
		return slices.Clip(n.data)
	case residue == Nothing:
		return slices.Clip(n.data[:n.synced])
	}
	kept := n.synced + rng.IntN(tail+1)
	if rng.IntN(4) > 0 {
		return slices.Clip(n.data[:kept])
	}
	// The size reached the disk and the bytes did not.
	return append(bytes.Clone(n.data[:kept]), make([]byte, len(n.data)-kept)...)
}

// Files lists the files, by type and number.
func (d *Disk) Files() []storage.FileDesc {
	fds, _ := d.List(storage.TypeAll)
	slices.SortFunc(fds, compare)
	return fds
}

// Edit replaces a file's content by what fn makes of a copy of it, as rot does; nil removes the file. It tells whether the file is there.
func (d *Disk) Edit(fd storage.FileDesc, fn func([]byte) []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.live.files[fd]
	if node == nil {
		return false
	}
	data := fn(bytes.Clone(node.data))
	if data == nil {
		delete(d.live.files, fd)
		delete(d.durable.files, fd)
		return true
	}
	node = &inode{data: data, synced: len(data)}
	d.live.files[fd], d.durable.files[fd] = node, node
	return true
}

// LogLines are the last lines of the database that used the disk.
func (d *Disk) LogLines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.logged)
}
