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
	out.capacity, out.live.meta = d.capacity, found.meta
	for _, fd := range fds {
		data := found.files[fd].left(residue, rng)
		node := &inode{data: data, synced: len(data)}
		out.live.files[fd] = node
		out.link(node)
	}
	out.durable = out.live.clone()
	for _, name := range d.asideNames() {
		out.keepAside(name, d.asides[name].Crash(residue, rng))
	}
	return out
}

func compare(a, b storage.FileDesc) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Num, b.Num))
}

// left is what is found of a file.
func (n *inode) left(residue Residue, rng *rand.Rand) []byte {
	if residue == Everything {
		return slices.Clip(n.data)
	}
	data, tail := n.data, len(n.data)-n.synced
	if len(n.lost) > 0 {
		data = bytes.Clone(data)
		for _, s := range n.lost {
			clear(data[s.from:s.to])
		}
	}
	switch {
	case tail == 0:
		return slices.Clip(data)
	case residue == Nothing:
		return slices.Clip(data[:n.synced])
	}
	kept := n.synced + rng.IntN(tail+1)
	if rng.IntN(4) > 0 {
		return slices.Clip(data[:kept])
	}
	// The size reached the disk and the bytes did not.
	return append(bytes.Clone(data[:kept]), make([]byte, len(data)-kept)...)
}

// Clone makes the disk that the next process finds after this one was killed: the same content, of which the same part is synced,
// so that a later Crash of the clone still loses the rest. It shares nothing that changes, and takes over the capacity but no fault.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out, nodes := New(), map[*inode]*inode{}
	same := func(n *inode) *inode {
		if n != nil && nodes[n] == nil {
			nodes[n] = &inode{data: slices.Clip(n.data), synced: n.synced, lost: slices.Clip(n.lost), linked: n.linked}
		}
		return nodes[n]
	}
	out.capacity, out.used, out.live.meta, out.durable.meta = d.capacity, d.used, d.live.meta, d.durable.meta
	for fd, n := range d.live.files {
		out.live.files[fd] = same(n)
	}
	for fd, n := range d.durable.files {
		out.durable.files[fd] = same(n)
	}
	for _, r := range d.pending {
		out.pending = append(out.pending, rename{r.from, r.to, same(r.node)})
	}
	for _, name := range d.asideNames() {
		out.asides = add(out.asides, name, d.asides[name].Clone()) // used counts them already
	}
	return out
}

// Files lists the files, by type and number.
func (d *Disk) Files() []storage.FileDesc {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sorted(storage.TypeAll)
}

func (d *Disk) sorted(types storage.FileType) []storage.FileDesc {
	fds := d.live.list(types)
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
	d.unlink(fd)
	if data == nil {
		delete(d.live.files, fd)
		delete(d.durable.files, fd)
		return true
	}
	node = &inode{data: data, synced: len(data)}
	d.live.files[fd], d.durable.files[fd] = node, node
	d.link(node)
	return true
}

// Rot changes a file's content in place: fn is given a copy to change. Unlike after Edit, who has the file open sees it at once; it
// survives a Crash as far as the bytes do. It tells whether the file is there.
func (d *Disk) Rot(fd storage.FileDesc, fn func([]byte)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.live.files[fd]
	if node == nil {
		return false
	}
	node.data = bytes.Clone(node.data) // other disks may share it
	fn(node.data)
	return true
}

// LogLines are the last lines of the database that used the disk.
func (d *Disk) LogLines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.logged)
}
