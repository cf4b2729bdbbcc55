package storage

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/vclock"
)

// F33: whatever becomes of CURRENT or of the manifest it names, the store comes up by itself, and not empty or short without saying so.
func TestDamagedEntryPoint(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for name, damage := range map[string]func(db string) error{
			"CURRENT removed": func(db string) error {
				return errors.Join(os.Remove(filepath.Join(db, "CURRENT")), ignoreMissing(os.Remove(filepath.Join(db, "CURRENT.bak"))))
			},
			"CURRENT empty":              func(db string) error { return os.WriteFile(filepath.Join(db, "CURRENT"), nil, 0o600) },
			"CURRENT with a flipped bit": func(db string) error { return flipAll(db, "CURRENT") },
			"CURRENT of nothing": func(db string) error {
				return os.WriteFile(filepath.Join(db, "CURRENT"), []byte("MANIFEST-999999\n"), 0o600)
			},
			"CURRENT of something else": func(db string) error {
				return os.WriteFile(filepath.Join(db, "CURRENT"), []byte("../../node.json\n"), 0o600)
			},
			"manifest removed": func(db string) error { return each(db, "MANIFEST-*", os.Remove) },
			"manifest empty": func(db string) error {
				return each(db, "MANIFEST-*", func(f string) error { return os.Truncate(f, 0) })
			},
			"whole database removed":        os.RemoveAll,
			"all of the database's content": func(db string) error { return each(db, "*", os.Remove) },
		} {
			t.Run(name+map[bool]string{true: " after a clean stop", false: " after a kill"}[clean], func(t *testing.T) {
				cfg := Config{Dir: filepath.Join(t.TempDir(), "data"), WriteBuffer: 64 << 10}
				s := mustOpen(t, cfg)
				for i := range 300 {
					mustPut(t, s, testKey(i), strings.Repeat("x", 1000))
				}
				mustClose(t, s)
				if !clean {
					if err := os.Remove(filepath.Join(cfg.Dir, cleanName)); err != nil {
						t.Fatal(err)
					}
				}
				if err := damage(filepath.Join(cfg.Dir, databaseName)); err != nil {
					t.Fatal(err)
				}
				again := mustOpen(t, cfg)
				defer mustClose(t, again)
				whole := true
				for i := range 300 {
					object, _, err := again.Get(testKey(i))
					whole = whole && err == nil && object != nil
				}
				if !whole && !lossTold(t, again) {
					t.Error("opened short, and does not say so")
				}
				if again.Incarnation() == s.Incarnation() {
					t.Error("the incarnation was used again")
				}
			})
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func each(dir, pattern string, do func(file string) error) error {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		return errors.Join(err, errors.New("nothing to damage: "+pattern))
	}
	for _, f := range files {
		if err := do(f); err != nil {
			return err
		}
	}
	return nil
}

func flipAll(dir, pattern string) error {
	return each(dir, pattern, func(f string) error {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 0x10
		return os.WriteFile(f, b, 0o600)
	})
}

// F36: what stands in the way of a start is told, and nothing of what is there is changed.
func TestObstructedDirectory(t *testing.T) {
	for name, obstruct := range map[string]func(dir string) error{
		"a directory in place of node.json": func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, identityName), filepath.Join(dir, "was")), os.Mkdir(filepath.Join(dir, identityName), 0o700))
		},
		"a directory in place of the lock": func(dir string) error {
			return errors.Join(ignoreMissing(os.Remove(filepath.Join(dir, lockName))), os.MkdirAll(filepath.Join(dir, lockName, "x"), 0o700))
		},
		"a file in place of the database": func(dir string) error {
			db := filepath.Join(dir, databaseName)
			return errors.Join(os.Rename(db, filepath.Join(dir, "was")), os.WriteFile(db, []byte("x"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: filepath.Join(t.TempDir(), "data")}
			s := mustOpen(t, cfg)
			mustPut(t, s, testKey(1), "v")
			mustClose(t, s)
			if err := obstruct(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			before := tree(t, cfg.Dir)
			if s, err := Open(cfg); err == nil {
				t.Errorf("opened, with health %v", s.Healthy())
				mustClose(t, s)
			} else if !strings.Contains(err.Error(), cfg.Dir) {
				t.Errorf("the error does not say where: %v", err)
			}
			if after := tree(t, cfg.Dir); !maps.Equal(before, after) {
				t.Error("a refused start changed files")
			}
		})
	}
}

// F37: the clock of the machine stands at the epoch, or a century from now, when objects come from nodes whose clock is right: what is
// stored does not depend on it.
func TestObjectsOfAnyTime(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), LastWriteWins: func(bucket string) bool { return bucket == "b" }})
	defer mustClose(t, s)
	k := testKey(1)
	var last []byte
	for actor, at := range []time.Time{time.Unix(0, 1), time.Unix(1<<33, 0), time.Now(), time.Unix(0, 2)} {
		o, _ := vclock.Object{}.Put(vclock.Actor(actor+1), vclock.Clock{}, vclock.Sibling{Time: uint64(at.UnixNano()), Value: []byte(at.String())})
		b := vclock.AppendObject(nil, o)
		if err := s.Merge(k, bytes.Clone(b)); err != nil {
			t.Fatal(err)
		}
		if actor == 1 {
			last = b
		}
	}
	want := values(t, last)
	wantValues(t, s, k, want...)
}
