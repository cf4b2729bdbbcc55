package storage

import (
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
)

// counters are the store's own. All only grow.
type counters struct {
	gets, hits, merges, unchanged, updates, syncs, corrupt atomic.Uint64
	wrongLeaves, late, purged, forgotten                   atomic.Uint64
}

// syncBounds are the upper bounds of the histogram's buckets; one more takes what is above.
var syncBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond,
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second,
}

// histogram counts durations by bucket, without a lock.
type histogram struct {
	buckets [len(syncBounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(syncBounds) && d > syncBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.nanos.Add(int64(d))
}

func (h *histogram) snapshot() Histogram {
	out := Histogram{Bounds: syncBounds[:], Counts: make([]uint64, len(h.buckets)), Sum: time.Duration(h.nanos.Load())}
	for i := range h.buckets {
		out.Counts[i] = h.buckets[i].Load()
		out.Count += out.Counts[i]
	}
	return out
}

// Histogram is a snapshot of measured durations.
type Histogram struct {
	Bounds []time.Duration // upper bounds, ascending; not to be changed
	Counts []uint64        // per bucket, not cumulative; one more than Bounds, for what is above the last
	Count  uint64
	Sum    time.Duration
}

// Level is one level of the database.
type Level struct {
	Tables int
	Bytes  int64
}

// Stats is a snapshot for metrics. Counters count from Open.
type Stats struct {
	Gets, CacheHits   uint64 // reads; those of them that the object cache answered
	Merges, Updates   uint64
	Unchanged         uint64 // merges and updates that changed nothing and wrote nothing
	Syncs             uint64 // calls of Sync
	SyncWaiting       int    // of them waiting now
	CorruptObjects    uint64 // reads that met damage
	JournalSyncs      Histogram
	OtherSyncs        Histogram // tables, manifests and the directory
	LiveKeys          int64     // keys with at least one value; those whose values have expired count until they are collected
	LiveKeysKnown     bool      // false until they have been counted after the start
	DiskBytes         int64     // tables and journals
	CacheBytes        uint64    // memory that the object cache has touched, with its index; Config.CacheBytes at most
	CacheEntries      uint64    // objects in it, and keys of which it knows that there is none; both 0 after Close
	BlockCacheBytes   int
	OpenTables        int
	Levels            []Level
	WriteDelays       int64 // write groups that goleveldb slowed down
	WriteDelay        time.Duration
	WritePaused       bool // writes wait for compactions
	MemoryCompactions uint64
	TableCompactions  uint64
	CompactionTime    time.Duration
	UncleanStart      bool   // no clean stop came before this start
	LenientStart      bool   // damaged records were dropped at this start, or at one after which the index was not made to fit again
	Damage            string // what was found lost and has not been brought back; "" = nothing
	Unsynced          int    // classes without a vote; -1 = all, of a number that is not known yet
	Restored          bool   // they have none because the data are a copy, and not because of a loss
	FreeBytes         int64  // of the volume; 0 where it cannot be told
	TotalBytes        int64  // of the volume; 0 where it cannot be told
	ReserveBytes      int64  // client writes are refused where less is free
	Full              bool   // they are refused
	UnsoundPartitions int    // whose Merkle trees are being computed
	WrongLeaves       uint64 // leaves that were not what their objects say
	LateVersions      uint64 // versions that came after they had been collected
	Purged, Forgotten uint64 // objects that were collected; and that were dropped because another owner had collected them
}

// Stats takes a snapshot. It is cheap: no disk is read.
func (s *Store) Stats() Stats {
	out := Stats{
		Gets: s.count.gets.Load(), CacheHits: s.count.hits.Load(), Merges: s.count.merges.Load(), Updates: s.count.updates.Load(),
		Unchanged: s.count.unchanged.Load(), Syncs: s.count.syncs.Load(), SyncWaiting: s.sync.waiters(),
		CorruptObjects: s.count.corrupt.Load(), JournalSyncs: s.disk.journalSyncs.snapshot(), OtherSyncs: s.disk.otherSyncs.snapshot(),
		DiskBytes: s.disk.journalBytes(), UncleanStart: s.unclean, LenientStart: s.lenient,
	}
	out.LiveKeys, out.LiveKeysKnown = s.live.get()
	out.UnsoundPartitions, out.WrongLeaves, out.LateVersions = s.unsound(), s.count.wrongLeaves.Load(), s.count.late.Load()
	out.Purged, out.Forgotten = s.count.purged.Load(), s.count.forgotten.Load()
	if u := s.votes.now.Load(); u != nil {
		if out.Unsynced, out.Restored = u.classes(), u.restored; !u.restored {
			out.Damage = u.why
		}
	}
	out.FreeBytes, out.TotalBytes, out.ReserveBytes = s.space.figures()
	out.Full = s.space.client() != nil
	out.CacheBytes, out.CacheEntries = s.cache.usage()
	if !s.gate.enter() {
		return out
	}
	defer s.gate.leave()
	var db leveldb.DBStats
	if err := s.db.Stats(&db); err != nil {
		return out // closed
	}
	out.BlockCacheBytes, out.OpenTables = db.BlockCacheSize, db.OpenedTablesCount
	out.WriteDelays, out.WriteDelay, out.WritePaused = int64(db.WriteDelayCount), db.WriteDelayDuration, db.WritePaused
	out.MemoryCompactions = uint64(db.MemComp)
	out.TableCompactions = uint64(db.Level0Comp) + uint64(db.NonLevel0Comp)
	for i, size := range db.LevelSizes {
		out.Levels = append(out.Levels, Level{Tables: db.LevelTablesCounts[i], Bytes: size})
		out.CompactionTime += db.LevelDurations[i]
		out.DiskBytes += size
	}
	return out
}
