package memdisk

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// OpAside is asked for before a database is set aside, removed from aside, or cleared away.
const OpAside Op = "aside"

// SetAside gives all that the disk holds a name, as a renamed folder whose parent is synced, and leaves an empty disk. What was not
// synced of it is lost to a power cut as before. It fails where the name is taken, or nothing is there.
func (d *Disk) SetAside(name string) error {
	if err := d.begin(OpAside, storage.FileDesc{}); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if d.asides[name] != nil {
		return fmt.Errorf("set aside %s: %w", name, fs.ErrExist)
	}
	if len(d.live.files) == 0 {
		return fmt.Errorf("set aside %s: %w", name, fs.ErrNotExist)
	}
	aside := New()
	aside.live, aside.durable, aside.pending, aside.failing = d.live, d.durable, d.pending, nil
	for _, node := range aside.live.files {
		aside.used += int64(len(node.data))
	}
	d.live, d.durable, d.pending = directory{files: map[storage.FileDesc]*inode{}}, directory{files: map[storage.FileDesc]*inode{}}, nil
	d.asides = add(d.asides, name, aside) // used goes on counting it
	return nil
}

// OpenAside is the database of that name; an error wraps fs.ErrNotExist where there is none. Its faults are its own.
func (d *Disk) OpenAside(name string) (storage.Storage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return nil, ErrDetached
	}
	if aside := d.asides[name]; aside != nil {
		return aside, nil
	}
	return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
}

// Asides lists the names of what was set aside, sorted.
func (d *Disk) Asides() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return nil, ErrDetached
	}
	return d.asideNames(), nil
}

// RemoveAside removes what was set aside under this name, for good.
func (d *Disk) RemoveAside(name string) error {
	if err := d.begin(OpAside, storage.FileDesc{}); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if aside := d.asides[name]; aside != nil {
		d.used -= aside.used
		delete(d.asides, name)
	}
	return nil
}

// Clear removes all that the disk holds but what was set aside, for good.
func (d *Disk) Clear() error {
	if err := d.begin(OpAside, storage.FileDesc{}); err != nil {
		return err
	}
	defer d.mu.Unlock()
	for fd := range d.live.files {
		d.unlink(fd)
	}
	d.live, d.durable, d.pending = directory{files: map[storage.FileDesc]*inode{}}, directory{files: map[storage.FileDesc]*inode{}}, nil
	return nil
}

// Room is how many bytes are free, and how many there are in all; total is 0 where there is no limit.
func (d *Disk) Room() (free, total int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return 0, 0, ErrDetached
	}
	return max(0, d.capacity-d.used), d.capacity, nil
}

// asideNames lists the names. The caller holds mu.
func (d *Disk) asideNames() []string { return slices.Sorted(maps.Keys(d.asides)) }

// keepAside adds a database to a disk that nobody else knows yet.
func (d *Disk) keepAside(name string, aside *Disk) {
	d.asides = add(d.asides, name, aside)
	d.used += aside.used
}

func add(to map[string]*Disk, name string, aside *Disk) map[string]*Disk {
	if to == nil {
		to = map[string]*Disk{}
	}
	to[name] = aside
	return to
}
