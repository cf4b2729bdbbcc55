package storage

import (
	"sync/atomic"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
)

// counters are the store's own. All only grow.
type counters struct {
	gets, hits, merges, unchanged, updates, syncs, corrupt atomic.Uint64
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
	LiveKeys          int64     // keys with at least one value
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
	LenientStart      bool   // damaged records were dropped at this start
	Damage            string // what was found lost; "" = nothing
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
	if what := s.damage.Load(); what != nil {
		out.Damage = *what
	}
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
