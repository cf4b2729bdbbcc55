package memdisk

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

func writeTo(t *testing.T, d *Disk, fd storage.FileDesc, content string, sync bool) {
	t.Helper()
	w, err := d.Create(fd)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil && sync {
		err = errors.Join(w.Sync(), d.SyncDir())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

func contentOf(t *testing.T, d storage.Storage, fd storage.FileDesc) string {
	t.Helper()
	r, err := d.Open(fd)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What is set aside is there under its name, takes room, loses to a power cut what was not synced, and goes when it is removed.
func TestSetAside(t *testing.T) {
	d := New()
	d.SetCapacity(100)
	writeTo(t, d, journal, "synced", true)
	writeTo(t, d, table, "not synced", false)
	if err := d.SetAside("a"); err != nil {
		t.Fatal(err)
	}
	if err := d.SetAside("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty disk was set aside: %v", err)
	}
	writeTo(t, d, journal, "new", true)
	if err := d.SetAside("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name was taken twice: %v", err)
	}
	for what, c := range map[string]struct {
		disk      *Disk
		tableData string
		used      int64
	}{"itself": {d, "not synced", 19}, "clone": {d.Clone(), "not synced", 19}, "kill": {d.Crash(Everything, nil), "not synced", 19}, "power cut": {d.Crash(Nothing, nil), "(none)", 9}} {
		names, err := c.disk.Asides()
		if err != nil || !slices.Equal(names, []string{"a"}) {
			t.Fatalf("%s: set aside are %q, %v", what, names, err)
		}
		aside, err := c.disk.OpenAside("a")
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, aside, journal); got != "synced" {
			t.Errorf("%s: the journal holds %q", what, got)
		}
		if got := contentOf(t, aside, table); got != c.tableData {
			t.Errorf("%s: the table holds %q, want %q", what, got, c.tableData)
		}
		if got := contentOf(t, c.disk, journal); got != "new" {
			t.Errorf("%s: the new journal holds %q", what, got)
		}
		free, total, err := c.disk.Room()
		if err != nil || total != 100 || free != 100-c.used || c.disk.Used() != c.used {
			t.Errorf("%s: %d of %d free (%v), %d used, want %d used", what, free, total, err, c.disk.Used(), c.used)
		}
		if err := c.disk.RemoveAside("a"); err != nil || c.disk.Used() != 3 {
			t.Errorf("%s: removed: %v, %d used", what, err, c.disk.Used())
		}
		if _, err := c.disk.OpenAside("a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: still there: %v", what, err)
		}
		if err := c.disk.Clear(); err != nil || c.disk.Used() != 0 || contentOf(t, c.disk, journal) != "(none)" {
			t.Errorf("%s: cleared: %v, %d used", what, err, c.disk.Used())
		}
	}
}

// Rot shows at once to who has the file open, and not on other disks.
func TestRot(t *testing.T) {
	d := New()
	writeTo(t, d, table, "abc", true)
	other := d.Clone()
	r, err := d.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Rot(table, func(b []byte) { b[1] = 'X' }) || d.Rot(journal, func([]byte) {}) {
		t.Error("the wrong file has rotted")
	}
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "aXc" || contentOf(t, other, table) != "abc" {
		t.Errorf("read %q, %v; the other disk has %q", b, err, contentOf(t, other, table))
	}
}
