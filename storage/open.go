package storage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
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
// used. Errors wrap ErrLocked or ErrForeign where they are of that kind, and leave the directory unlocked. One that wraps ErrFull: a
// damaged database is to be saved, and there is no room for that.
//
// Damage: goleveldb is opened so that it reports a damaged journal or manifest rather than to skip it. A torn journal after an unclean
// stop is what such a stop leaves, and it is opened once more without the end. After a clean stop that is loss. Where goleveldb cannot be
// trusted with what is there, or damage was met before this start, the database is salvaged. After a loss, and where the directory is a
// copy, the store starts as a new incarnation, and casts no votes until it has synced (Votes).
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
	s := &Store{cfg: cfg, log: cfg.Logger, dir: dir, gate: newGate()}
	s.begin()
	if err := s.open(handles); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), dir.close())
	}
	return s, nil
}

func (s *Store) open(handles int) (err error) {
	if s.cache, err = newObjectCache(s.cfg.CacheBytes); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.abandon(), s.cache.close())
		}
	}()
	if err := s.openSpace(); err != nil {
		return err
	}
	if err = s.openNoted(handles); isDamage(err) { // met on the way: now there is a reason to salvage
		if err := s.dir.noteSalvage(err.Error()); err != nil {
			return err
		}
		if err := s.abandon(); err != nil {
			s.log.Warn("the damaged database did not close cleanly", "error", err)
		}
		s.begin()
		err = s.openNoted(handles)
	}
	if err != nil {
		return err
	}
	go s.sync.run()
	s.watching.Go(s.watchSpace)
	if s.space.level.Load() != roomForAll {
		s.logSpace()
	}
	return nil
}

// openNoted opens the database as it is, or salvages it where there is a note that it must be.
func (s *Store) openNoted(handles int) error {
	var mark *cleanMark
	if s.dir.known().Salvage == nil {
		var interrupted bool
		var err error
		if mark, interrupted, err = s.dir.readClean(); err != nil {
			return err
		}
		if err := s.openFiles(); err != nil {
			return err
		}
		if err := s.openDatabase(mark, interrupted, handles); err != nil {
			return err
		}
		// What was found is noted; from here on the journal is written to, and may be torn like any other.
		if err := s.dir.dropClean(); err != nil {
			return err
		}
	} else if err := s.salvage(handles); err != nil {
		return err
	}
	if err := s.takeStock(mark); err != nil {
		return err
	}
	if s.lenient = s.lenient || s.dir.known().Align; s.lenient {
		if err := s.distrustTrees(); err != nil {
			return err
		}
	}
	if err := s.dir.noteOpened(s.lenient); err != nil {
		return err
	}
	partitions, err := s.read(storeKey(notePartitions))
	if err != nil {
		return fmt.Errorf("read partition count: %w", err)
	}
	if partitions == nil {
		return nil
	}
	n, err := parsePartitions(partitions)
	if err != nil {
		return s.corruptNote(err)
	}
	return s.settle(n)
}

// aligned is told that the index fits the objects again.
func (s *Store) aligned() error {
	if err := s.disk.syncJournals(); err != nil {
		return err
	}
	return s.dir.noteAlign(false)
}

// begin makes the state of a store that is not open.
func (s *Store) begin() {
	s.stopping = make(chan struct{})
	s.breakage.report = make(chan error, 1)
	s.breakage.told.Store(false)
	s.breakage.damaged.Store(false)
	s.count.corrupt.Store(0)
	s.partitions.Store(0)
	s.votes.now.Store(nil)
	s.hints.reset()
	s.live.known.Store(false)
	s.live.base.Store(0)
	s.live.delta.Store(0)
	s.lenient = false
}

// abandon stops what has begun since begin, and closes what was opened.
func (s *Store) abandon() (err error) {
	close(s.stopping)
	s.background.Wait()
	if s.db != nil {
		err = wrap("close database", s.db.Close())
		s.db = nil
	}
	if s.backend != nil {
		err = errors.Join(err, wrap("close database files", s.backend.Close()))
		s.backend = nil
	}
	return err
}

// openFiles opens what goleveldb writes to.
func (s *Store) openFiles() error {
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
	s.disk = newDisk(backend)
	s.disk.onFailure, s.disk.onCorrupt = s.broken, s.broken
	s.sync = newSyncer(s.disk) // begins when the store is open
	s.disk.onBacklog = s.sync.nudge
	if s.cfg.adjust != nil {
		s.cfg.adjust(s.disk)
	}
	return nil
}

func (s *Store) options(handles int, strict opt.Strict) *opt.Options {
	return &opt.Options{
		WriteBuffer: s.cfg.WriteBuffer, BlockCacheCapacity: s.cfg.BlockCacheBytes, BlockCacheEvictRemoved: true,
		Filter: filter.NewBloomFilter(10), WriteL0SlowdownTrigger: 16, WriteL0PauseTrigger: 24, DisableSeeksCompaction: true,
		OpenFilesCacheCapacity: min(maxTables, handles/2), Strict: strict,
		DisableLargeBatchTransaction: true, // one way to disk for all records: the journal
	}
}

// openDatabase opens goleveldb. What it finds lost is noted in node.json before anything is written to the database, and before the clean
// mark is gone that shows it. An error that means damage says that the database must be salvaged.
func (s *Store) openDatabase(mark *cleanMark, interrupted bool, handles int) error {
	loss, wreck, err := s.inspect(mark)
	if err != nil {
		return err
	}
	if wreck {
		return fmt.Errorf("%w: %s", ErrCorrupt, loss)
	}
	if loss != "" {
		if err := s.dir.noteLoss(loss); err != nil {
			return err
		}
	}
	if err := s.clearUnborn(); err != nil {
		return err
	}
	if err := s.dir.takeClean(); err != nil {
		return err
	}
	s.db, err = leveldb.Open(s.disk, s.options(handles, strictOpen))
	if err == nil {
		return nil
	}
	s.db = nil
	var damage *lderrors.ErrCorrupted
	if !errors.As(err, &damage) {
		return wrap("open database", err)
	}
	// A journal may end torn after an unclean stop, and a manifest too, which then is its last record. A start that was broken off writes no
	// journal before goleveldb has opened.
	afterClean := mark != nil || interrupted
	if torn := damage.Fd.Type == storage.TypeJournal || damage.Fd.Type == storage.TypeManifest && !afterClean; !torn {
		return wrap("open database", err)
	}
	lost := afterClean
	if !lost && damage.Fd.Type == storage.TypeJournal {
		if lost, err = s.disk.tornInTheMiddle(); err != nil {
			return err
		}
	}
	if lost {
		if err := s.dir.noteLoss(damage.Error()); err != nil {
			return err
		}
	}
	s.lenient = true
	if err := s.dir.noteAlign(true); err != nil { // a record that is left out may have made an index entry for one that is not
		return err
	}
	if s.db, err = leveldb.Open(s.disk, s.options(handles, opt.DefaultStrict)); err != nil {
		s.db = nil
		return wrap("open database", err)
	}
	if s.dir.known().Loss == "" {
		s.log.Info("database opened without the torn end that an unclean stop leaves", "err", damage, "dropped", strings.Join(s.disk.dropped(), "; "))
	}
	return nil
}

// takeStock reads the store's own notes, once goleveldb is open, and makes what this start has found durable in the database: then
// node.json need not know it any longer. mark is the clean mark that was found.
func (s *Store) takeStock(mark *cleanMark) error {
	if err := s.loadVotes(); err != nil {
		return err
	}
	who := s.dir.known()
	loss := who.Loss
	if who.Salvage != nil {
		loss = salvagedFrom(who.Salvage)
	}
	switch {
	case loss != "":
		s.log.Error("data was lost: the store starts as a new incarnation with what is left, and casts no read votes until it has synced with the other owners",
			"found", loss, "dropped", strings.Join(s.disk.dropped(), "; "))
		if err := s.distrustAll(loss, false); err != nil {
			return err
		}
	case who.Copied:
		s.log.Warn("the data directory is a copy: the store starts as a new incarnation, and casts no read votes until it has synced with the other owners")
		if err := s.distrustAll("the data directory is a copy of an older state", true); err != nil {
			return err
		}
	}
	s.unclean = mark == nil || mark.copied
	return s.incarnate(mark, !s.unclean && loss == "" && !who.Copied && !s.lenient)
}

// incarnate finds the actor of this run: the last one after a clean stop that nothing happened to since, else a new one.
func (s *Store) incarnate(mark *cleanMark, again bool) error {
	if again {
		if a, ok := mark.actor(); ok {
			s.incarnation = a
			return nil
		}
	}
	if plant.On(plant.ReusedDot) {
		return s.incarnateAgain()
	}
	for s.incarnation = 0; s.incarnation == 0; {
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
	s.watching.Wait()
	s.sync.stop()
	err := s.disk.syncJournals()
	if cerr := s.db.Close(); err == nil {
		err = wrap("close database", cerr)
	}
	if err == nil {
		err = s.disk.failed()
	}
	if err == nil && s.count.corrupt.Load() == 0 && !s.breakage.damaged.Load() {
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
