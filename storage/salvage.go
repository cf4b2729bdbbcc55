package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/vclock"
)

const (
	maxAsides       = 2               // databases that are kept after they were set aside
	salvageBatch    = 1 << 20         // bytes
	salvageProgress = 2 * time.Second // between two lines of the log
)

// salvage sets a damaged database aside and copies all of it that can be read into a new one, which it leaves open. The note in node.json
// says at every moment which is which; it is taken back by the caller, once the new database says that everything in it must sync:
//
//	note What  →  choose and note From  →  db becomes From  →  new db, filled and synced  →  votes taken  →  note removed
//
// A start that is broken off anywhere begins anew: where From is there, a db beside it is one that was not finished. Nothing in From is
// ever changed.
//
// What comes back may be older than what was read last, where only the newer state is damaged; or may have been collected since. Both are
// harmless in a store that must sync: versions are merged, and what all owners have collected they refuse.
func (s *Store) salvage(handles int) error {
	keeper := s.keeper()
	what := s.dir.known().Salvage.What
	if keeper == nil {
		return fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	if err := s.dir.dropClean(); err != nil {
		return err
	}
	from, err := s.chooseAside(keeper)
	if err != nil {
		return err
	}
	source, err := keeper.OpenAside(from)
	switch {
	case err == nil:
		err = keeper.Clear()
	case errors.Is(err, fs.ErrNotExist):
		if err = keeper.SetAside(from); err == nil {
			source, err = keeper.OpenAside(from)
		}
		if errors.Is(err, fs.ErrNotExist) {
			source, err = nil, nil // there was no database
		}
	}
	if err != nil {
		return closing(fmt.Errorf("set damaged database aside: %w", err), source)
	}
	s.log.Error("the database is damaged: what can be read is copied into a new one, and the damaged one is kept", "damage", what, "kept_as", from)
	if err := s.makeRoom(keeper, source, from); err != nil {
		return closing(err, source)
	}
	if err := s.openFiles(); err != nil {
		return closing(err, source)
	}
	s.lenient = true // what is derived from objects is not copied but made anew, in the background
	if s.db, err = leveldb.Open(s.disk, s.options(handles, strictOpen)); err != nil {
		s.db = nil
		return closing(fmt.Errorf("make new database: %w", err), source)
	}
	if source == nil {
		return nil
	}
	c := copier{s: s, began: time.Now(), notes: map[string]sequenced{}, held: map[string]bool{}}
	c.told = c.began
	return closing(wrap("copy damaged database", c.copy(&wreck{files: source, found: s.log.Warn})), source)
}

// closing closes a database that was read, if there is one.
func closing(err error, source storage.Storage) error {
	if source == nil {
		return err
	}
	return errors.Join(err, source.Close())
}

// keeper is who can set databases aside; nil = a backend that cannot.
func (s *Store) keeper() asides {
	if s.cfg.Backend == nil {
		return folders{s.dir.path}
	}
	keeper, _ := s.cfg.Backend.(asides)
	return keeper
}

// chooseAside is the name under which the database is, or will be, set aside: on disk before it returns.
func (s *Store) chooseAside(keeper asides) (string, error) {
	note := *s.dir.known().Salvage
	if note.From != "" {
		return note.From, nil
	}
	names, err := numberedAsides(keeper)
	if err != nil {
		return "", err
	}
	note.From = asideName(1)
	if len(names) > 0 {
		note.From = asideName(asideNumber(names[len(names)-1]) + 1)
	}
	return note.From, s.dir.note(func(who *identity) { who.Salvage = &note })
}

// makeRoom removes databases that were set aside earlier: all but the newest, and that one too where the copy would not fit. It fails
// where it still does not: the source is the only one that has everything.
func (s *Store) makeRoom(keeper asides, source storage.Storage, from string) error {
	names, err := numberedAsides(keeper)
	if err != nil {
		return err
	}
	var size int64
	if source != nil {
		if size, err = databaseSize(source); err != nil {
			return err
		}
	}
	for i, name := range names {
		if name == from {
			continue
		}
		short, _, err := s.short(size)
		if err != nil {
			return err
		}
		if len(names)-i <= maxAsides && !short {
			break
		}
		s.log.Warn("an older damaged database is removed", "name", name)
		if err := keeper.RemoveAside(name); err != nil {
			return err
		}
	}
	short, free, err := s.short(size)
	if err == nil && short {
		err = fmt.Errorf("%w: a damaged database of %d bytes is to be copied, and %d bytes are free: make room, or remove %s to start empty; "+
			"the other nodes then fill it again", ErrFull, size, free, from)
	}
	return err
}

// short tells whether so many bytes do not fit.
func (s *Store) short(size int64) (short bool, free int64, err error) {
	if _, err := s.space.look(); err != nil {
		return false, 0, err
	}
	free, total, _ := s.space.figures()
	return total > 0 && free < size+size/10, free, nil
}

// databaseSize is the size of the files that are read.
func databaseSize(files storage.Storage) (n int64, err error) {
	fds, err := files.List(storage.TypeTable | storage.TypeJournal)
	if err != nil {
		return 0, fmt.Errorf("list files: %w", err)
	}
	for _, fd := range fds {
		r, err := files.Open(fd)
		if err != nil {
			continue // it will not be copied either
		}
		size, err := r.Seek(0, io.SeekEnd)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		if err == nil {
			n += size
		}
	}
	return n, nil
}

// sequenced is one state of a note.
type sequenced struct {
	value    []byte // nil = removed
	sequence uint64
}

// copier fills a new database from what can be read of another.
type copier struct {
	s           *Store
	batch       leveldb.Batch
	held        map[string]bool      // keys of the batch
	notes       map[string]sequenced // the newest state of each
	began, told time.Time

	objects, hints, refused, bytes int64
}

func (c *copier) copy(from *wreck) error {
	if err := from.each(c.put); err != nil {
		return err
	}
	for k, n := range c.notes {
		if n.value != nil {
			c.batch.Put([]byte(k), n.value)
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.s.disk.syncJournals(); err != nil {
		return err
	}
	c.s.log.Warn("what could be read of the damaged database was copied", "objects", c.objects, "hints", c.hints, "bytes", c.bytes,
		"damaged_records", c.refused, "took", time.Since(c.began).Round(time.Millisecond))
	return nil
}

// put takes one record. The index and the trees are made anew from the objects; of the store's own notes only those that still hold
// are copied.
func (c *copier) put(k, v []byte, sequence uint64) error {
	switch k[0] {
	case spaceData, spaceHint:
		if v == nil {
			return nil // it may have a state that can be read: see salvage
		}
		return c.join(k, v, sequence != 0)
	case spaceMeta, spaceStore:
		if k[0] == spaceStore && !noteOutlivesSalvage(k, v) {
			return nil
		}
		if old, there := c.notes[string(k)]; !there || sequence >= old.sequence {
			c.notes[string(k)] = sequenced{bytes.Clone(v), sequence}
		}
	}
	return nil
}

// noteOutlivesSalvage tells which of the store's own notes are true of the copy.
func noteOutlivesSalvage(k, v []byte) bool {
	if _, _, ok := parseDivergent(k); ok {
		return true
	}
	for _, note := range []struct {
		prefix string
		size   int
	}{{noteFence, 8}, {noteFiled, filedLen}} { // what others hold this store to; where objects were filed
		if bytes.HasPrefix(k, storeKey(note.prefix)) {
			return v == nil || len(v) == note.size
		}
	}
	if string(k) != string(storeKey(notePartitions)) {
		return false
	}
	_, err := parsePartitions(v)
	return v == nil || err == nil
}

// join puts one object or hint, joined with the state of it that came before, if there may be one.
func (c *copier) join(k, v []byte, again bool) error {
	rec, err := parseRecord(k, v)
	if err != nil {
		c.refused++
		return nil
	}
	var old []byte
	if again {
		if c.held[string(k)] {
			if err := c.flush(); err != nil {
				return err
			}
		}
		if old, err = c.s.read(k); err != nil {
			return err
		}
		c.held[string(k)] = true
	}
	switch {
	case old != nil:
		before, err := parseRecord(k, old)
		if err != nil {
			return err
		}
		v = before.join(rec)
	case k[0] == spaceData:
		c.objects++
	default:
		c.hints++
	}
	c.batch.Put(k, v)
	c.bytes += int64(len(k) + len(v))
	if len(c.batch.Dump()) < salvageBatch {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	if err := c.s.write(&c.batch); err != nil {
		return err
	}
	c.batch.Reset()
	clear(c.held)
	if time.Since(c.told) >= salvageProgress {
		c.told = time.Now()
		c.s.log.Info("copying what can be read of the damaged database", "objects", c.objects, "hints", c.hints, "bytes", c.bytes)
	}
	return nil
}

// record is a stored object, or a hint with or without one.
type record struct {
	head   []byte // of a hint: time and version
	object *vclock.Object
}

// parseRecord takes a record of the data or hint space apart and checks everything that reading it would check.
func parseRecord(k, v []byte) (record, error) {
	var r record
	var err error
	if k[0] == spaceData {
		_, err = parseDataKey(k)
	} else {
		if _, _, err = parseHintKey(k); err == nil {
			if len(v) < hintHeadLen {
				return r, errors.New("hint cut short")
			}
			if r.head, v = v[:hintHeadLen], v[hintHeadLen:]; len(v) == 0 {
				return r, nil
			}
		}
	}
	if err != nil {
		return r, err
	}
	object, _, err := splitValue(v)
	if err != nil {
		return r, err
	}
	o, err := vclock.DecodeObject(object)
	if err == nil && o.Empty() {
		err = errors.New("empty object")
	}
	r.object = &o
	return r, err
}

// join is the stored form of both: of an object the merge; of a hint with its object, if either has one, and the head of o.
func (r record) join(o record) []byte {
	v := bytes.Clone(o.head)
	switch {
	case r.object == nil && o.object == nil:
		return v
	case r.object == nil:
		r.object = o.object
	case o.object != nil:
		merged := vclock.Merge(*r.object, *o.object)
		r.object = &merged
	}
	return appendValue(v, vclock.AppendObject(nil, *r.object))
}

// parsePartitions reads the note of the partition count.
func parsePartitions(v []byte) (int, error) {
	n, size := binary.Uvarint(v)
	if size <= 0 || n < 1 || n > 1<<16 || n&(n-1) != 0 {
		return 0, fmt.Errorf("partition count %x", v)
	}
	return int(n), nil
}

// salvagedFrom is how a loss is told.
func salvagedFrom(note *salvageNote) string {
	return strings.TrimSpace("a damaged database was salvaged: " + note.What)
}
