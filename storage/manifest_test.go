package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	leveljournal "github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
)

// records splits a manifest or journal into its sound records.
func records(t *testing.T, b []byte) (out [][]byte) {
	t.Helper()
	r := leveljournal.NewReader(bytes.NewReader(b), nil, true, true)
	for {
		record, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		one, err := io.ReadAll(record)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
}

// journalFile is a file with these records.
func journalFile(t *testing.T, records [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := leveljournal.NewWriter(&b)
	for _, one := range records {
		record, err := w.Next()
		if err == nil {
			_, err = record.Write(one)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// F33: after an unclean stop goleveldb opens without the newest records of a manifest, and without a journal that is gone, as if they had
// never been. The store says that it has lost data, or refuses; what a crash leaves it opens as ever.
func TestShortManifestAfterUncleanStop(t *testing.T) {
	for name, c := range map[string]struct {
		file storage.FileType
		edit func(t *testing.T, b []byte) []byte
		want error // ErrDamaged: opened, and told; nil: nothing is lost
	}{
		"untouched": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return b }, nil},
		"manifest without its last record": {storage.TypeManifest, func(t *testing.T, b []byte) []byte {
			all := records(t, b)
			return journalFile(t, all[:len(all)-1])
		}, ErrDamaged},
		"manifest without all but its first record": {storage.TypeManifest, func(t *testing.T, b []byte) []byte { return journalFile(t, records(t, b)[:1]) }, ErrDamaged},
		"manifest with a damaged last record": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte {
			b[len(b)-2] ^= 4
			return b
		}, ErrDamaged},
		"manifest with half a record more than it needs": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return append(b, b[:20]...) }, nil},
		"manifest with zeros at its end":                 {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return append(b, make([]byte, 300)...) }, nil},
		"journals removed":                               {storage.TypeJournal, func(*testing.T, []byte) []byte { return nil }, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			s := mustOpen(t, cfg)
			for i := range 100 { // some journals become tables, each with a record of the manifest
				mustPut(t, s, testKey(i), strings.Repeat("x", 500))
			}
			if err := wait(s); err != nil {
				t.Fatal(err)
			}
			killed := live.Crash(memdisk.Everything, nil)
			mustClose(t, s)
			for _, fd := range killed.Files() {
				if fd.Type == c.file {
					killed.Edit(fd, func(b []byte) []byte { return c.edit(t, b) })
				}
			}
			again, err := Open(small(t, killed))
			if errors.Is(err, ErrCorrupt) && c.want != nil {
				return // refused is as good
			}
			if err != nil {
				t.Fatal(err)
			}
			defer mustClose(t, again)
			if err := again.SetPartitions(testPartitions); err != nil {
				t.Fatal(err)
			}
			missing := 0
			for i := range 100 {
				object, _, err := again.Get(testKey(i))
				if err != nil {
					t.Fatal(err)
				}
				if object == nil {
					missing++
				}
			}
			if err := again.Healthy(); !errors.Is(err, c.want) {
				t.Errorf("%d of 100 keys are gone, and health is %v; want %v", missing, err, c.want)
			}
			if (missing > 0) != (c.want != nil) {
				t.Errorf("%d of 100 keys are gone: this is not the case that is meant", missing)
			}
		})
	}
}

// Loss that one start has found stays known however early that start is broken off, by kill -9 or by power loss.
func TestFoundLossOutlivesABrokenStart(t *testing.T) {
	for name, lose := range map[string]func(*memdisk.Disk){
		"journal removed": func(d *memdisk.Disk) {
			for _, fd := range d.Files() {
				if fd.Type == storage.TypeJournal {
					d.Edit(fd, func([]byte) []byte { return nil })
				}
			}
		},
		"database removed": func(d *memdisk.Disk) {
			for _, fd := range d.Files() {
				d.Edit(fd, func([]byte) []byte { return nil })
			}
			if err := d.SetMeta(storage.FileDesc{}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			s := mustOpen(t, cfg)
			mustPut(t, s, testKey(1), "v")
			if err := wait(s); err != nil {
				t.Fatal(err)
			}
			killed := live.Crash(memdisk.Everything, nil)
			mustClose(t, s)
			if err := os.Remove(filepath.Join(cfg.Dir, cleanName)); err != nil {
				t.Fatal(err)
			}
			lose(killed)
			var broken []Config
			killed.Fault = func(op memdisk.Op, _ storage.FileDesc) error {
				if op == memdisk.OpRead || op == memdisk.OpOpen {
					return nil
				}
				for _, residue := range []memdisk.Residue{memdisk.Nothing, memdisk.Everything} {
					at := small(t, killed.Crash(residue, nil))
					copyDir(t, at.Dir, cfg.Dir)
					broken = append(broken, at)
				}
				return nil
			}
			cfg.Backend = killed
			again := mustOpen(t, cfg)
			killed.Fault = nil
			if err := again.Healthy(); !errors.Is(err, ErrDamaged) {
				t.Errorf("health: %v, want ErrDamaged", err)
			}
			mustClose(t, again)
			if len(broken) < 10 {
				t.Fatalf("broken off at %d places only", len(broken))
			}
			told := 0
			for i, at := range broken {
				s, err := Open(at)
				if errors.Is(err, ErrCorrupt) {
					continue // refused is as good
				}
				if err != nil {
					t.Fatalf("start broken off at place %d: %v", i, err)
				}
				told++
				if err := s.Healthy(); !errors.Is(err, ErrDamaged) {
					t.Errorf("start broken off at place %d: health is %v, want ErrDamaged", i, err)
				}
				mustClose(t, s)
			}
			if told < len(broken)/2 {
				t.Errorf("%d of %d broken starts are followed by one that opens", told, len(broken))
			}
		})
	}
}

// Whatever stands in a manifest, it is read without a panic and to its end.
func FuzzManifest(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add([]byte{manifestJournal, 7, manifestNextFile, 9, manifestAddTable, 0, 5, 5, 1, 'a', 1, 'b'}, true)
	f.Add([]byte{manifestComparer, 255, 255, 255, 255, 15}, true)
	f.Fuzz(func(t *testing.T, b []byte, framed bool) {
		if framed {
			b = journalFile(t, [][]byte{b})
		}
		var m manifest
		if err := m.read(bytes.NewReader(b)); err != nil {
			t.Errorf("reading memory failed: %v", err)
		}
	})
}
