package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
)

// allClasses are the classes of a ring of so many partitions.
func allClasses(partitions int) (out []ring.Class) {
	for p := range partitions {
		for n := 1; n <= maxReplicas; n++ {
			out = append(out, ring.Class{Partition: p, N: n})
		}
	}
	return out
}

// loseJournals cuts the journals of a store that is stopped.
func loseJournals(d *memdisk.Disk) {
	for _, fd := range d.Files() {
		if fd.Type == storage.TypeJournal {
			d.Edit(fd, func(b []byte) []byte { return b[:0] })
		}
	}
}

// A class has no vote after a loss, until it has synced; what has synced stays so over restarts, however many there are.
func TestVotesComeBackClassByClass(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	if got := s.Unsynced(); got != nil || !s.Votes(ring.Class{Partition: 1, N: 3}) {
		t.Fatalf("a new store: unsynced %v", got)
	}
	mustPut(t, s, testKey(1), "v")
	mustClose(t, s)
	loseJournals(live)
	all := allClasses(testPartitions)
	s = mustOpen(t, cfg)
	if s.Restored() || !slices.Equal(s.Unsynced(), all) || s.Stats().Unsynced != len(all) {
		t.Fatalf("after a loss: restored %v, %d unsynced", s.Restored(), len(s.Unsynced()))
	}
	for i, c := range all {
		if s.Votes(c) {
			t.Fatalf("%v votes before it has synced", c)
		}
		if err := s.MarkSynced([]ring.Class{c, {Partition: -1, N: 3}, {Partition: testPartitions, N: 3}, {Partition: 0, N: 0}, {Partition: 0, N: 8}}); err != nil {
			t.Fatal(err)
		}
		if !s.Votes(c) || s.Stats().Damage == "" != (i == len(all)-1) {
			t.Fatalf("%v has synced: votes %v, damage %q", c, s.Votes(c), s.Stats().Damage)
		}
		if i%20 == 0 || i == len(all)-1 {
			killed := live.Crash(memdisk.Nothing, nil)
			mustClose(t, s)
			live, cfg.Backend = killed, killed
			if err := os.Remove(filepath.Join(cfg.Dir, cleanName)); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, cfg)
		}
		if got := s.Unsynced(); !slices.Equal(got, all[i+1:]) {
			t.Fatalf("%d have synced, and %d are left", i+1, len(got))
		}
	}
	mustClose(t, s)
}

func TestDistrustTakesVotesAndMarks(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	a, b := ring.Class{Partition: 3, N: 3}, ring.Class{Partition: 3, N: 5}
	for _, c := range []ring.Class{a, b} {
		if err := s.putNote(classNote(noteMark, c), markNote(7, 5)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Distrust("it was set back", []ring.Class{a}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s.Votes(a) || !s.Votes(b) || !s.Restored() || !slices.Equal(s.Unsynced(), []ring.Class{a}) || s.Stats().Damage != "" {
			t.Errorf("distrusted %v, unsynced %v, restored %v", a, s.Unsynced(), s.Restored())
		}
		for c, want := range map[ring.Class][]byte{a: nil, b: markNote(7, 5)} {
			if got, err := s.read(classNote(noteMark, c)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("marks of %v: %x, %v; want %x", c, got, err, want)
			}
		}
		mustClose(t, s)
		s = mustOpen(t, cfg)
	}
	mustClose(t, s)
	loseJournals(live) // now there is a loss too
	s = mustOpen(t, cfg)
	if s.Restored() || s.Votes(b) {
		t.Error("a loss is told as a copy")
	}
	if got, err := s.read(classNote(noteMark, b)); err != nil || got != nil || s.Marks(b).Watermark != 0 {
		t.Errorf("marks after a loss: %x, %v", got, err)
	}
	if err := s.ClearDamage(); err != nil || s.Unsynced() != nil || !s.Votes(a) {
		t.Errorf("accepted: %v, unsynced %v", err, s.Unsynced())
	}
	mustClose(t, s)
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	if s.Unsynced() != nil {
		t.Error("accepted, and forgotten at the next start")
	}
}

// Everything is unsynced too where the partition count is not known yet.
func TestVotesBeforeThePartitionCount(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutMeta("x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	loseJournals(live)
	if s, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	c := ring.Class{Partition: 9999, N: 3}
	if s.Votes(c) || s.Unsynced() != nil || s.Stats().Unsynced != -1 {
		t.Errorf("votes %v, unsynced %v", s.Votes(c), s.Stats().Unsynced)
	}
	for what, err := range map[string]error{"sync": s.MarkSynced([]ring.Class{c}), "distrust": s.Distrust("x", []ring.Class{c})} {
		if !errors.Is(err, ErrPartitions) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.SetPartitions(1 << 14); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkSynced([]ring.Class{c}); err != nil || !s.Votes(c) || s.Stats().Unsynced != 7<<14-1 {
		t.Errorf("%v, votes %v, unsynced %v", err, s.Votes(c), s.Stats().Unsynced)
	}
	mustClose(t, s)
	if s, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	if !s.Votes(c) || s.Stats().Unsynced != 7<<14-1 {
		t.Errorf("after a start: votes %v, unsynced %v", s.Votes(c), s.Stats().Unsynced)
	}
}

// Whatever is synced and distrusted in whatever order, the store knows it, and so does its next start.
func TestVotesAreTheModel(t *testing.T) {
	test := t
	rapid.Check(t, func(rt *rapid.T) {
		const partitions = 512 // two blocks of masks
		cfg := small(t, memdisk.New())
		open := func() *Store {
			s, err := Open(cfg)
			if err == nil {
				err = s.SetPartitions(partitions)
			}
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}
		s := open()
		defer func() { mustClose(test, s) }()
		without := map[ring.Class]bool{}
		draw := func(t *rapid.T) []ring.Class {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ring.Class {
				return ring.Class{Partition: rapid.SampledFrom([]int{0, 1, 255, 256, 511}).Draw(t, "partition"), N: rapid.IntRange(1, 3).Draw(t, "n")}
			}), 1, 5).Draw(t, "classes")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"sync": func(t *rapid.T) {
				classes := draw(t)
				if err := s.MarkSynced(classes); err != nil {
					t.Fatal(err)
				}
				for _, c := range classes {
					delete(without, c)
				}
			},
			"distrust": func(t *rapid.T) {
				classes := draw(t)
				if err := s.Distrust("for a test", classes); err != nil {
					t.Fatal(err)
				}
				for _, c := range classes {
					without[c] = true
				}
			},
			"reopen": func(*rapid.T) {
				mustClose(test, s)
				s = open()
			},
			"": func(t *rapid.T) {
				got := s.Unsynced()
				if len(got) != len(without) || s.Restored() != (len(without) > 0) || !slices.IsSortedFunc(got, ring.Class.Compare) {
					t.Fatalf("unsynced %v, want %v; restored %v", got, without, s.Restored())
				}
				for _, c := range got {
					if !without[c] || s.Votes(c) {
						t.Fatalf("%v is told as unsynced, votes %v", c, s.Votes(c))
					}
				}
			},
		})
	})
}

// F26: a directory that is a copy of an older state, of a running node or of a stopped one, casts no votes until it has synced, and is
// another actor. A start that is broken off forgets neither.
func TestCopiedDirectoryCastsNoVotes(t *testing.T) {
	for _, clean := range []bool{true, false} {
		cfg := Config{Dir: filepath.Join(t.TempDir(), "data")}
		s := mustOpen(t, cfg)
		mustPut(t, s, testKey(1), "v")
		if err := wait(s); err != nil {
			t.Fatal(err)
		}
		backup := filepath.Join(t.TempDir(), "backup")
		if !clean {
			copyDir(t, backup, cfg.Dir)
		}
		mustClose(t, s)
		if clean {
			copyDir(t, backup, cfg.Dir)
		}
		if err := os.RemoveAll(cfg.Dir); err != nil {
			t.Fatal(err)
		}
		copyDir(t, cfg.Dir, backup)
		for _, file := range []string{identityName, "db/CURRENT"} { // what a start reads or writes late is in the way: it fails
			path := filepath.Join(cfg.Dir, file)
			if err := errors.Join(os.Rename(path, path+".was"), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
			if s, err := Open(cfg); err == nil {
				t.Errorf("opened with %s in the way", file)
				mustClose(t, s)
			}
			if err := errors.Join(os.Remove(path), os.Rename(path+".was", path)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 2 {
			again := mustOpen(t, cfg)
			if again.Incarnation() == s.Incarnation() || again.NodeID() != s.NodeID() {
				t.Errorf("start %d of a copy: incarnation %x", i, again.Incarnation())
			}
			if !again.Restored() || len(again.Unsynced()) != len(allClasses(testPartitions)) || again.Stats().Damage != "" {
				t.Errorf("start %d of a copy: restored %v, damage %q", i, again.Restored(), again.Stats().Damage)
			}
			wantValues(t, again, testKey(1), "v")
			if i == 1 {
				if err := again.MarkSynced(allClasses(testPartitions)); err != nil || again.Restored() || again.Unsynced() != nil {
					t.Errorf("synced: %v, restored %v", err, again.Restored())
				}
			}
			mustClose(t, again)
		}
		again := mustOpen(t, cfg)
		if again.Unsynced() != nil {
			t.Error("taken for a copy once more")
		}
		mustClose(t, again)
	}
}

// A copy that lacks something has lost it.
func TestShortCopyIsALoss(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "data")}
	s := mustOpen(t, cfg)
	mustPut(t, s, testKey(1), strings.Repeat("v", 100))
	mustClose(t, s)
	short := filepath.Join(t.TempDir(), "short")
	copyDir(t, short, cfg.Dir)
	if err := each(filepath.Join(short, databaseName), "*.log", func(f string) error { return os.Truncate(f, 10) }); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = short
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	if s.Restored() || !lossTold(t, s) {
		t.Error("the loss is told as a copy")
	}
}

// A note of an earlier build, which knew no classes, still takes all votes.
func TestDamageNotedByAnEarlierBuild(t *testing.T) {
	cfg := small(t, memdisk.New())
	s := mustOpen(t, cfg)
	if err := s.putNote(storeKey(noteDamage), []byte("a journal")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	for range 2 {
		s = mustOpen(t, cfg)
		if !lossTold(t, s) || s.Stats().Damage != "a journal" {
			t.Errorf("damage: %q", s.Stats().Damage)
		}
		mustClose(t, s)
	}
}
