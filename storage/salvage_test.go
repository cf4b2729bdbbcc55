package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

const (
	wreckKeys  = 150
	wreckHints = 20
)

var wreckTarget = ring.NodeID(strings.Repeat("a", 32))

func wreckValue(i int) string { return strings.Repeat(string(rune('a'+i%26)), 400) + fmt.Sprint(i) }

// fillForWreck writes objects in several tables and a journal, hints of both kinds, settings and a mark.
func fillForWreck(t testing.TB, s *Store) {
	t.Helper()
	for i := range wreckKeys {
		mustPut(t, s, testKey(i), wreckValue(i))
	}
	for i := range wreckHints {
		if err := s.Hint(wreckTarget, testKey(i), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Hint(wreckTarget, testKey(1000+i), object(9, 1, "kept")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutMeta("setting", []byte("value")); err != nil {
		t.Fatal(err)
	}
	if err := s.diverge(wreckTarget, 3); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < wreckKeys; i += 7 { // some in the journal alone
		mustPut(t, s, testKey(i), wreckValue(i))
	}
	if err := wait(s); err != nil {
		t.Fatal(err)
	}
}

// wreckState is what a store holds of what fillForWreck put there.
type wreckState struct {
	objects, own, kept int
	meta, divergent    bool
}

var wholeWreck = wreckState{wreckKeys, wreckHints, wreckHints, true, true}

// readWreck reads everything. What can be read must be what was written. An error must be damage.
func readWreck(t testing.TB, s *Store) (found wreckState, err error) {
	t.Helper()
	note := func(e error) {
		if e != nil && !errors.Is(e, ErrCorrupt) {
			t.Fatalf("read: %v", e)
		}
		err = errors.Join(err, e)
	}
	for i := range wreckKeys {
		object, _, err := s.Get(testKey(i))
		if note(err); err != nil || object == nil {
			continue
		}
		if got := values(t, object); len(got) != 1 || got[0] != wreckValue(i) {
			t.Fatalf("key %d holds %.40q", i, got)
		}
		found.objects++
	}
	note(s.Hints(wreckTarget, nil, func(h Hint) bool {
		switch {
		case h.Own:
			found.own++
		case !slices.Equal(values(t, h.Object), []string{"kept"}):
			t.Fatalf("a hint holds %.40q", h.Object)
		default:
			found.kept++
		}
		return true
	}))
	value, merr := s.GetMeta("setting")
	note(merr)
	if value != nil && string(value) != "value" {
		t.Fatalf("the setting is %q", value)
	}
	found.meta = value != nil
	note(s.List("b", "", allPartitions(), -1, "", func(int, string, vclock.State) bool { return true }))
	stats, _ := s.HintStats()
	for _, h := range stats {
		found.divergent = found.divergent || slices.Equal(h.Divergent, []int{3})
	}
	return found, err
}

// heal opens a damaged store again and again, as the supervisor of a node does, until nothing of it is damaged.
func heal(t testing.TB, cfg Config) (s *Store, found wreckState) {
	t.Helper()
	for range 4 {
		s = mustOpen(t, cfg)
		s.background.Wait()
		var err error
		if found, err = readWreck(t, s); err == nil && !s.breakage.told.Load() {
			return s, found
		}
		if b := brokenBy(t, s); b.Cause != Damage {
			t.Fatalf("damage is told as %v", b)
		}
		if err := s.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	}
	t.Fatal("the store does not heal")
	return nil, found
}

// checkHealed checks what must hold after any damage: nothing is missing without being told, the index fits, and writes are taken.
func checkHealed(t testing.TB, s *Store, found wreckState) {
	t.Helper()
	if found != wholeWreck && !lossTold(t, s) {
		t.Errorf("%+v is left of %+v, and nothing is said", found, wholeWreck)
	}
	if what := s.misindexed(t); what != "" {
		t.Error(what)
	}
	if what := s.miscounted(t); what != "" {
		t.Error(what)
	}
	mustPut(t, s, testKey(1), wreckValue(1))
	if err := s.Hint(wreckTarget, testKey(1), nil); err != nil {
		t.Error(err)
	}
	if err := wait(s); err != nil {
		t.Error(err)
	}
}

// damage is done to one file, by what the file is and how.
type damage struct {
	what  string
	types storage.FileType
	edit  func(b []byte, rng *rand.Rand) []byte // nil removes the file
	exact bool                                  // nothing can be lost: it is told or not, but all is there
}

func flipOne(b []byte, rng *rand.Rand) []byte {
	if len(b) > 0 {
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
	}
	return b
}

func flipEnd(b []byte, rng *rand.Rand) []byte {
	if len(b) > 0 {
		b[len(b)-1-rng.IntN(min(len(b), footerLen))] ^= 1 << rng.IntN(8)
	}
	return b
}

var damages = []damage{
	{"a bit of a table", storage.TypeTable, flipOne, false},
	{"a bit of a table's footer", storage.TypeTable, flipEnd, false},
	{"a table cut short", storage.TypeTable, func(b []byte, rng *rand.Rand) []byte { return b[:rng.IntN(len(b)+1)] }, false},
	{"a table with zeroes at its end", storage.TypeTable, func(b []byte, _ *rand.Rand) []byte { return append(b, make([]byte, 100)...) }, false},
	{"an empty table", storage.TypeTable, func([]byte, *rand.Rand) []byte { return []byte{} }, false},
	{"a table removed", storage.TypeTable, func([]byte, *rand.Rand) []byte { return nil }, false},
	{"a bit of a manifest", storage.TypeManifest, flipOne, true},
	{"a manifest cut short", storage.TypeManifest, func(b []byte, rng *rand.Rand) []byte { return b[:rng.IntN(len(b)+1)] }, true},
	{"an empty manifest", storage.TypeManifest, func([]byte, *rand.Rand) []byte { return []byte{} }, true},
	{"a manifest removed", storage.TypeManifest, func([]byte, *rand.Rand) []byte { return nil }, true},
	{"a bit of a journal", storage.TypeJournal, flipOne, false},
	{"a journal cut short", storage.TypeJournal, func(b []byte, rng *rand.Rand) []byte { return b[:rng.IntN(len(b)+1)] }, false},
	{"a journal removed", storage.TypeJournal, func([]byte, *rand.Rand) []byte { return nil }, false},
}

// F32, F33: whatever becomes of any file while a node is stopped, it comes up by itself, serves what is left, and says so if something is
// not: after a clean stop always; after a kill, all but what looks as if the kill had torn it off the last journal.
func TestAnyDamageAtRestHeals(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for _, c := range damages {
		for _, clean := range []bool{true, false} {
			t.Run(c.what+map[bool]string{true: " after a clean stop", false: " after a kill"}[clean], func(t *testing.T) {
				t.Parallel()
				live := memdisk.New()
				cfg := small(t, live)
				s := mustOpen(t, cfg)
				fillForWreck(t, s)
				killed := live.Crash(memdisk.Everything, nil)
				mustClose(t, s)
				if clean {
					killed = live.Crash(memdisk.Everything, nil)
				} else if err := os.Remove(filepath.Join(cfg.Dir, cleanName)); err != nil {
					t.Fatal(err)
				}
				for round := range rounds {
					rng := rand.New(rand.NewPCG(uint64(round), 7))
					at := cfg
					at.Dir = filepath.Join(t.TempDir(), "data")
					moveDir(t, at.Dir, cfg.Dir)
					disk := killed.Crash(memdisk.Everything, nil)
					at.Backend = disk
					files := slices.DeleteFunc(disk.Files(), func(fd storage.FileDesc) bool { return fd.Type&c.types == 0 })
					fd := files[rng.IntN(len(files))]
					disk.Edit(fd, func(b []byte) []byte { return c.edit(b, rng) })
					again, found := heal(t, at)
					if c.types == storage.TypeJournal && !clean && found != wholeWreck && !lossTold(t, again) {
						found = wholeWreck // a known gap: it looks like the torn end that a kill leaves
					}
					checkHealed(t, again, found)
					if again.NodeID() != s.NodeID() || again.Incarnation() == s.Incarnation() && found != wholeWreck {
						t.Error("the node is another one, or goes on under its old actor")
					}
					if c.exact && found.objects != wreckKeys {
						t.Errorf("%s: %+v is left, though all objects were there", fd, found)
					}
					if t.Failed() {
						t.Fatalf("round %d, %s", round, fd)
					}
					mustClose(t, again)
				}
			})
		}
	}
}

// moveDir copies a directory, but for a database in it, as if it had been moved: it is not taken for a copy.
func moveDir(t testing.TB, to, from string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityName, cleanName, openingName} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	d := &directory{path: to}
	who, err := readIdentity(to)
	if err != nil {
		t.Fatal(err)
	}
	d.who = *who
	if err := d.note(func(who *identity) { who.Copied = false }); err != nil {
		t.Fatal(err)
	}
	mark, _, err := d.readClean()
	if err != nil {
		t.Fatal(err)
	}
	if mark != nil {
		a, _ := mark.actor()
		if err := d.leaveClean(a, mark.Files); err != nil {
			t.Fatal(err)
		}
	}
}

// The same while the node runs: reads either give what was written or say that it is damaged, and the node is told to start again.
func TestAnyDamageWhileOpenHeals(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	met := 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 8))
		live := memdisk.New()
		cfg := small(t, live)
		cfg.BlockCacheBytes = 1
		s := mustOpen(t, cfg)
		fillForWreck(t, s)
		for range 3 {
			for _, fd := range live.Files() {
				if fd.Type == storage.TypeTable && rng.IntN(3) == 0 {
					live.Rot(fd, func(b []byte) { flipOne(b, rng) })
				}
			}
		}
		found, err := readWreck(t, s)
		if err == nil && found != wholeWreck {
			t.Fatalf("round %d: %+v is left, and nothing was damaged", round, found)
		}
		if err != nil {
			met++
			if b := brokenBy(t, s); b.Cause != Damage || !errors.Is(b, ErrCorrupt) {
				t.Fatalf("round %d: told %v", round, b)
			}
		}
		killed := round%2 == 0
		if killed { // the note must not need a clean stop
			cfg.Backend = live.Crash(memdisk.Everything, nil)
			was := cfg.Dir
			cfg.Dir = filepath.Join(t.TempDir(), "data")
			moveDir(t, cfg.Dir, was)
		}
		if err := s.Close(); err != nil && !killed {
			t.Logf("round %d: close: %v", round, err)
		}
		again, found := heal(t, cfg)
		checkHealed(t, again, found)
		if err != nil && !again.Stats().LenientStart {
			t.Errorf("round %d: damage was met, and not salvaged", round)
		}
		mustClose(t, again)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if met < rounds/4 {
		t.Errorf("damage was met in %d of %d rounds only", met, rounds)
	}
}

// No bit of a footer, which no checksum covers, brings the process down or makes anything wrong.
func TestEveryBitOfAFooter(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	fillForWreck(t, s)
	mustClose(t, s)
	var fd storage.FileDesc
	for _, f := range live.Files() {
		if f.Type == storage.TypeTable {
			fd = f
		}
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for bit := 0; bit < footerLen*8; bit += step {
		disk := live.Crash(memdisk.Everything, nil)
		disk.Edit(fd, func(b []byte) []byte { b[len(b)-footerLen+bit/8] ^= 1 << (bit % 8); return b })
		at := cfg
		at.Backend, at.Dir = disk, t.TempDir()
		again, found := heal(t, at)
		if found != wholeWreck && !lossTold(t, again) {
			t.Errorf("bit %d: %+v is left, and nothing is said", bit, found)
		}
		mustClose(t, again)
	}
}

// A salvage that is broken off at any place, by a kill or a power cut, begins anew and ends the same.
func TestSalvageBrokenOffAnywhere(t *testing.T) {
	for name, damage := range map[string]func(d *memdisk.Disk){
		"a table": func(d *memdisk.Disk) {
			for _, fd := range d.Files() {
				if fd.Type == storage.TypeTable {
					d.Edit(fd, func(b []byte) []byte { b[len(b)/3] ^= 1; return b })
					return
				}
			}
		},
		"the entry point": func(d *memdisk.Disk) {
			for _, fd := range d.Files() {
				if fd.Type == storage.TypeManifest {
					d.Edit(fd, func([]byte) []byte { return nil })
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := memdisk.New()
			cfg := small(t, live)
			s := mustOpen(t, cfg)
			fillForWreck(t, s)
			mustClose(t, s)
			damage(live)
			var broken []Config
			_, end := underFault(live, func(op memdisk.Op, _ storage.FileDesc) error {
				if op == memdisk.OpRead || op == memdisk.OpOpen {
					return nil
				}
				for _, residue := range []memdisk.Residue{memdisk.Nothing, memdisk.Everything} {
					at := small(t, nil)
					at.Dir = filepath.Join(at.Dir, "data")
					moveDir(t, at.Dir, cfg.Dir) // first: compactions go on beside a start, which may just be writing node.json
					at.Backend = live.Crash(residue, nil)
					broken = append(broken, at)
				}
				return nil
			})
			again, whole := heal(t, cfg)
			end()
			checkHealed(t, again, whole)
			mustClose(t, again)
			if len(broken) < 20 {
				t.Fatalf("broken off at %d places only", len(broken))
			}
			for i, at := range broken {
				s, found := heal(t, at)
				if checkHealed(t, s, found); found != whole {
					t.Errorf("%+v is left, without the break it is %+v", found, whole)
				}
				if s.NodeID() != again.NodeID() || !lossTold(t, s) {
					t.Error("another node, or the loss is not told")
				}
				mustClose(t, s)
				if names, err := at.Backend.(*memdisk.Disk).Asides(); err != nil || len(names) != 1 {
					t.Errorf("set aside are %q (%v), want one", names, err)
				}
				if t.Failed() {
					t.Fatalf("broken off at place %d of %d", i, len(broken))
				}
			}
		})
	}
}

// A damaged directory of real files: what is set aside stays there as it was, two of them at most.
func TestSalvageOfFiles(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), WriteBuffer: 16 << 10}
	s := mustOpen(t, cfg)
	fillForWreck(t, s)
	mustClose(t, s)
	db := filepath.Join(cfg.Dir, databaseName)
	for n := 1; n <= 4; n++ {
		if err := errors.Join(os.Remove(filepath.Join(db, "CURRENT")), ignoreMissing(os.Remove(filepath.Join(db, "CURRENT.bak")))); err != nil {
			t.Fatal(err)
		}
		was := tree(t, db)
		healed, found := heal(t, cfg)
		checkHealed(t, healed, found)
		mustClose(t, healed)
		kept := tree(t, filepath.Join(cfg.Dir, asideName(n)))
		for path, content := range was {
			if name := filepath.Base(path); name != "LOG" && kept[filepath.Join(cfg.Dir, asideName(n), name)] != content {
				t.Errorf("%s of what was set aside has changed", name)
			}
		}
		names, err := numberedAsides(folders{cfg.Dir})
		want := []string{asideName(n)}
		if n > 1 {
			want = []string{asideName(n - 1), asideName(n)}
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("set aside are %q (%v), want %q", names, err, want)
		}
		if mustClose(t, mustOpen(t, cfg)); found.objects != wreckKeys { // its journal becomes a table
			t.Errorf("left is %+v", found)
		}
	}
}

// Where there is no room for a copy the start says so, changes nothing that was there, and succeeds when there is.
func TestSalvageNeedsRoom(t *testing.T) {
	live := memdisk.New()
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	fillForWreck(t, s)
	mustClose(t, s)
	for _, fd := range live.Files() {
		if fd.Type == storage.TypeManifest {
			live.Edit(fd, func([]byte) []byte { return nil })
		}
	}
	live.SetCapacity(live.Used() * 3 / 2)
	for range 2 {
		if s, err := Open(cfg); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), asideName(1)) {
			t.Errorf("got %v, %v; want ErrFull and what can be done", s, err)
		}
	}
	live.SetCapacity(live.Used() * 10)
	healed, found := heal(t, cfg)
	if found != wholeWreck || !lossTold(t, healed) {
		t.Errorf("left is %+v of %+v", found, wholeWreck)
	}
	mustClose(t, healed)
}

// An object or a hint that goleveldb finds sound and this store does not is left behind; otherwise every start would find it again.
func TestSalvageLeavesNonsenseBehind(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := mustOpen(t, cfg)
	fillForWreck(t, s)
	for k, v := range map[string][]byte{
		string(appendDataKey(nil, testKey(5000))):              append(make([]byte, digestLen), object1...),
		string(appendDataKey(nil, testKey(5001))):              appendValue(nil, []byte("nonsense")),
		string(spaceData) + "short":                            appendValue(nil, object1),
		string(appendHintKey(nil, wreckTarget, testKey(5002))): []byte("short"),
		string(appendHintKey(nil, wreckTarget, testKey(5003))): append(make([]byte, hintHeadLen), "nonsense"...),
		string(spaceIndex) + "x":                               {1},
		string(storeKey(prefixDivergent)) + "x":                {1},
	} {
		if err := s.db.Put([]byte(k), v, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Get(testKey(5000)); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	brokenBy(t, s)
	mustClose(t, s)
	healed, found := heal(t, cfg)
	defer mustClose(t, healed)
	if checkHealed(t, healed, found); found != wholeWreck {
		t.Errorf("left is %+v of %+v", found, wholeWreck)
	}
	for i := 5000; i < 5002; i++ {
		wantValues(t, healed, testKey(i))
	}
}
