package storage

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/vclock"
)

const (
	minHandles = 256  // open files that the process must be allowed
	maxTables  = 4096 // open tables
	strictOpen = opt.DefaultStrict | opt.StrictJournal | opt.StrictManifest
)

// Open locks the data directory and opens the store in it; a missing directory is made. Close must be called when it is no longer
// used. Errors wrap ErrLocked, ErrForeign or ErrCorrupt where they are of that kind, and leave the directory unlocked.
//
// Damage: goleveldb is opened so that it reports a damaged journal or manifest rather than to skip it. If it does, it is opened
// once more, skipping, as a new incarnation. After an unclean stop that is the ordinary torn end of a journal; after a clean one,
// or where files are missing, it is loss, and Healthy says so until ClearDamage. A database that cannot be opened even
// so is left as it is: goleveldb's repair can drop or bring back records.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	handles, err := handleLimit()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if handles < minHandles {
		return nil, fmt.Errorf("open store: the process may open %d files, at least %d are needed (ulimit -n, LimitNOFILE)", handles, minHandles)
	}
	dir, err := openDirectory(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{cfg: cfg, log: cfg.Logger, dir: dir, gate: newGate(), stopping: make(chan struct{})}
	if err := s.open(handles); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), dir.close())
	}
	return s, nil
}

func (s *Store) open(handles int) (err error) {
	backend := s.cfg.Backend
	if backend == nil {
		path := filepath.Join(s.dir.path, databaseName)
		files, err := storage.OpenFile(path, false)
		if err != nil {
			return fmt.Errorf("open database files: %w", err)
		}
		if err := syncDir(s.dir.path); err != nil {
			return errors.Join(fmt.Errorf("sync data directory: %w", err), files.Close())
		}
		backend = fileDisk{files, path}
		s.backend = backend
	}
	defer func() {
		if err != nil && s.backend != nil {
			err = errors.Join(err, s.backend.Close())
		}
	}()
	s.disk = newDisk(backend)
	s.sync = newSyncer(s.disk) // begins when the store is open
	s.disk.onBacklog = s.sync.nudge
	if s.cache, err = newObjectCache(s.cfg.CacheBytes); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.cache.close())
		}
	}()
	if s.cfg.adjust != nil {
		s.cfg.adjust(s.disk)
	}

	mark, err := s.dir.takeClean() // from here on this start counts as unclean
	if err != nil {
		return err
	}
	loss, err := s.openDatabase(mark, handles)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	if err := s.incarnate(mark, loss); err != nil {
		return err
	}
	if err := s.dir.noteDatabase(); err != nil {
		return err
	}
	partitions, err := s.read(storeKey(notePartitions))
	if err != nil {
		return fmt.Errorf("read partition count: %w", err)
	}
	if partitions != nil {
		n, size := binary.Uvarint(partitions)
		if size <= 0 || n < 1 || n > 1<<16 {
			return fmt.Errorf("%w: partition count %x", ErrCorrupt, partitions)
		}
		if err := s.settle(int(n)); err != nil {
			return err
		}
	}
	go s.sync.run()
	return nil
}

// openDatabase opens goleveldb. loss says what is found lost that an unclean stop does not explain; "" = nothing.
func (s *Store) openDatabase(mark *cleanMark, handles int) (loss string, err error) {
	if err := s.clearUnborn(); err != nil {
		return "", err
	}
	if loss, err = s.disk.missing(); err != nil {
		return "", err
	}
	if _, err := s.disk.GetMeta(); s.dir.who.Database && errors.Is(err, fs.ErrNotExist) {
		loss = "the database is gone"
	}
	if mark != nil && loss == "" {
		files, err := s.disk.lasting()
		if err != nil {
			return "", err
		}
		if loss = mark.differs(files); loss != "" {
			loss = "since the last stop: " + loss
		}
	}
	if loss = cmp.Or(loss, s.dir.who.Loss); loss != "" {
		if err := s.dir.noteLoss(loss); err != nil {
			return "", err
		}
	}
	options := &opt.Options{
		WriteBuffer: s.cfg.WriteBuffer, BlockCacheCapacity: s.cfg.BlockCacheBytes, BlockCacheEvictRemoved: true,
		Filter: filter.NewBloomFilter(10), WriteL0SlowdownTrigger: 16, WriteL0PauseTrigger: 24, DisableSeeksCompaction: true,
		OpenFilesCacheCapacity: min(maxTables, handles/2), Strict: strictOpen,
		DisableLargeBatchTransaction: true, // one way to disk for all records: the journal
	}
	s.db, err = leveldb.Open(s.disk, options)
	if err == nil || !lderrors.IsCorrupted(err) {
		return loss, wrap("open database", err)
	}
	strictErr := err
	if mark != nil && loss == "" {
		loss = strictErr.Error()
		if err := s.dir.noteLoss(loss); err != nil {
			return "", err
		}
	}
	s.lenient = true
	options.Strict = opt.DefaultStrict
	if s.db, err = leveldb.Open(s.disk, options); err != nil {
		if lderrors.IsCorrupted(err) {
			err = fmt.Errorf("%w: %w; move the folder %s out of the data directory and leave the rest: the node then starts with an empty "+
				"database, which the other nodes can fill", ErrCorrupt, err, databaseName)
		}
		return "", wrap("open database", err)
	}
	if loss == "" {
		s.log.Info("database opened without the torn end that an unclean stop leaves", "err", strictErr, "dropped", strings.Join(s.disk.dropped(), "; "))
	}
	return loss, nil
}

// clearUnborn removes what a crash has left of a database that was being made: a manifest that is not in use. goleveldb would
// refuse it for ever. Where there is a journal or a table too, there was a database, and nothing is removed.
func (s *Store) clearUnborn() error {
	if _, err := s.disk.GetMeta(); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	files, err := s.disk.List(storage.TypeAll)
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	if slices.ContainsFunc(files, func(f storage.FileDesc) bool { return f.Type != storage.TypeManifest && f.Type != storage.TypeTemp }) {
		return nil
	}
	for _, f := range files {
		if err := s.disk.Remove(f); err != nil {
			return fmt.Errorf("remove %s of a database that was never made: %w", f, err)
		}
	}
	return nil
}

// incarnate finds the actor of this run: the last one after a clean stop that nothing happened to since, else a new one. Found loss
// is noted in the database, so that it stays known.
func (s *Store) incarnate(mark *cleanMark, loss string) error {
	s.unclean = mark == nil
	if noted, err := s.read(storeKey(noteDamage)); err != nil {
		return fmt.Errorf("read damage note: %w", err)
	} else if noted != nil {
		what := string(noted)
		s.damage.Store(&what)
	}
	if loss != "" {
		s.log.Error("data was lost while the store was stopped; it starts as a new incarnation with what is left", "found", loss, "dropped", strings.Join(s.disk.dropped(), "; "))
		if err := s.putNote(storeKey(noteDamage), []byte(loss)); err != nil {
			return fmt.Errorf("note damage: %w", err)
		}
		if err := s.disk.syncJournals(); err != nil {
			return fmt.Errorf("note damage: %w", err)
		}
		if err := s.dir.noteLoss(""); err != nil {
			return err
		}
		s.damage.Store(&loss)
	}
	if mark != nil && loss == "" && !s.lenient {
		if a, ok := mark.actor(); ok {
			s.incarnation = a
			return nil
		}
	}
	if plant.On(plant.ReusedDot) {
		return s.incarnateAgain()
	}
	for s.incarnation == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		s.incarnation = vclock.Actor(binary.BigEndian.Uint64(b[:]))
	}
	s.log.Info("new store incarnation", "incarnation", formatActor(s.incarnation), "clean_stop", mark != nil)
	return nil
}

// Close waits for the operations under way, syncs everything, closes the database and unlocks the directory. Those who wait for a
// Sync get it. It leaves the mark of a clean stop only if nothing at all went wrong while the store was open. A second call
// returns ErrClosed.
func (s *Store) Close() error {
	if !s.gate.shut() {
		return ErrClosed
	}
	close(s.stopping)
	s.background.Wait()
	s.sync.stop()
	err := s.disk.syncJournals()
	if cerr := s.db.Close(); err == nil {
		err = wrap("close database", cerr)
	}
	if err == nil {
		err = s.disk.failed()
	}
	if err == nil && s.count.corrupt.Load() == 0 {
		var files map[string]int64
		if files, err = s.disk.lasting(); err == nil {
			err = s.dir.leaveClean(s.incarnation, files)
		}
	}
	if s.backend != nil {
		if cerr := s.backend.Close(); err == nil {
			err = wrap("close database files", cerr)
		}
	}
	if cerr := s.cache.close(); err == nil {
		err = cerr
	}
	if cerr := s.dir.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
