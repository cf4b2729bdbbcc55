package storage

import (
	"bytes"
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
// never been, and removes the tables that it has not heard of. The store saves what there is, and says that it has lost data; what a crash
// leaves it opens as ever.
func TestShortManifestAfterUncleanStop(t *testing.T) {
	for name, c := range map[string]struct {
		file storage.FileType
		edit func(t *testing.T, b []byte) []byte
		told bool // that something is lost
	}{
		"untouched": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return b }, false},
		"manifest without its last record": {storage.TypeManifest, func(t *testing.T, b []byte) []byte {
			all := records(t, b)
			return journalFile(t, all[:len(all)-1])
		}, true},
		"manifest without all but its first record": {storage.TypeManifest, func(t *testing.T, b []byte) []byte { return journalFile(t, records(t, b)[:1]) }, true},
		"manifest with a damaged last record": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte {
			b[len(b)-2] ^= 4
			return b
		}, true},
		"manifest with half a record more than it needs": {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return append(b, b[:20]...) }, false},
		"manifest with zeros at its end":                 {storage.TypeManifest, func(_ *testing.T, b []byte) []byte { return append(b, make([]byte, 300)...) }, false},
		"journals removed":                               {storage.TypeJournal, func(*testing.T, []byte) []byte { return nil }, true},
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
			again := mustOpen(t, small(t, killed))
			defer mustClose(t, again)
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
			// A last record that tells of a compaction whose tables are all still there takes nothing with it.
			harmless := c.file == storage.TypeManifest && missing == 0
			if told := lossTold(t, again); told != c.told && !(c.told && harmless) {
				t.Errorf("%d of 100 keys are gone, and loss is told: %v; want %v", missing, told, c.told)
			}
			if missing > 0 && (!c.told || c.file == storage.TypeManifest) {
				t.Errorf("%d of 100 keys are gone", missing)
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
			_, end := underFault(killed, func(op memdisk.Op, _ storage.FileDesc) error {
				if op == memdisk.OpRead || op == memdisk.OpOpen {
					return nil
				}
				for _, residue := range []memdisk.Residue{memdisk.Nothing, memdisk.Everything} {
					at := small(t, killed.Crash(residue, nil))
					copyDir(t, at.Dir, cfg.Dir)
					broken = append(broken, at)
				}
				return nil
			})
			cfg.Backend = killed
			again := mustOpen(t, cfg)
			end()
			if !lossTold(t, again) {
				t.Error("loss is not told")
			}
			mustClose(t, again)
			if len(broken) < 10 {
				t.Fatalf("broken off at %d places only", len(broken))
			}
			for i, at := range broken {
				s := mustOpen(t, at)
				if !lossTold(t, s) {
					t.Errorf("start broken off at place %d: loss is not told", i)
				}
				mustClose(t, s)
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

// After a clean stop a damaged journal is loss, and stays so if the start that finds the mark of that stop, takes it away, and has not
// read the journal yet, is broken off.
func TestSuspicionOutlivesABrokenStart(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	for i := range 20 { // in the journal alone
		mustPut(t, s, testKey(i), "v")
	}
	mustClose(t, s)
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeJournal {
			live.Rot(fd, func(b []byte) { b[len(b)/2] ^= 1 })
		}
	}
	var broken []Config
	suspected := 0
	_, end := underFault(live, func(memdisk.Op, storage.FileDesc) error {
		at := small(t, nil)
		at.Dir = filepath.Join(at.Dir, "data")
		moveDir(t, at.Dir, cfg.Dir)
		at.Backend = live.Crash(memdisk.Everything, nil)
		broken = append(broken, at)
		who, err := readIdentity(at.Dir)
		if err != nil {
			t.Error(err)
		} else if _, err := os.Stat(filepath.Join(at.Dir, openingName)); err == nil && who.Loss == "" {
			suspected++
		}
		return nil
	})
	again := mustOpen(t, cfg)
	end()
	if !lossTold(t, again) {
		t.Error("the loss is not told")
	}
	mustClose(t, again)
	if suspected == 0 {
		t.Errorf("of %d broken starts none was between the mark and the finding", len(broken))
	}
	for i, at := range broken {
		s := mustOpen(t, at)
		if !lossTold(t, s) {
			t.Errorf("broken off at place %d: the loss is not told", i)
		}
		mustClose(t, s)
	}
}
