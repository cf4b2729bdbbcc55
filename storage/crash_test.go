package storage

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// ack is a write that Sync has reported, or a merge that was, in the order of the reports.
type ack struct {
	key    ring.Key
	object []byte
}

// ledger is what has been acknowledged. Entries are only added.
type ledger struct {
	mu   sync.Mutex
	acks []ack
}

func (l *ledger) add(a []ack) {
	l.mu.Lock()
	l.acks = append(l.acks, a...)
	l.mu.Unlock()
}

func (l *ledger) snapshot() []ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks[:len(l.acks):len(l.acks)]
}

// crash is a disk after a power cut, and what had been acknowledged before it.
type crash struct {
	disk  *memdisk.Disk
	acked []ack
	op    string
}

// crashes runs a workload of writers that wait for Sync now and then, with a small write buffer, and cuts the power at every
// every-th operation of the disk.
func crashes(t *testing.T, seed uint64, every int, adjust func(*disk)) []crash {
	live := memdisk.New()
	var (
		acked ledger
		ops   atomic.Int64
		mu    sync.Mutex
		out   []crash
		rng   = rand.New(rand.NewPCG(seed, 1))
	)
	live.Fault = func(op memdisk.Op, fd storage.FileDesc) error {
		if op == memdisk.OpRead || op == memdisk.OpOpen || ops.Add(1)%int64(every) != 0 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		before := acked.snapshot() // first: all of these were on disk before the disk is copied
		residue := memdisk.Residue(rng.IntN(3))
		out = append(out, crash{live.Crash(residue, rng), before, fmt.Sprintf("%s %s, residue %d", op, fd, residue)})
		return nil
	}
	cfg := small(t, live)
	cfg.adjust = adjust
	s := mustOpen(t, cfg)
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)+100))
			var unsynced []ack
			for i := range 250 {
				k := testKey(rng.IntN(200))
				var err error
				var enc []byte
				if rng.IntN(2) == 0 {
					enc, err = put(s, k, strings.Repeat(string(rune('a'+i%26)), rng.IntN(900)))
				} else {
					enc = object(vclock.Actor(w+1), rng.IntN(8)+1, fmt.Sprint("value ", w))
					err = s.Merge(k, enc)
				}
				if err != nil {
					t.Error(err)
					return
				}
				unsynced = append(unsynced, ack{k, enc})
				if rng.IntN(3) == 0 {
					if err := wait(s); err != nil {
						t.Error(err)
						return
					}
					acked.add(unsynced)
					unsynced = nil
				}
			}
		})
	}
	writers.Wait()
	mustClose(t, s)
	if len(acked.acks) < 300 || s.Stats().JournalSyncs.Count < 50 && !plant.On(plant.AckBeforeSync) {
		t.Fatalf("the workload did too little: %d acknowledged, %d syncs", len(acked.acks), s.Stats().JournalSyncs.Count)
	}
	return out
}

// lost opens the store on the disk after the crash and says what is wrong with it; "" = nothing.
func (c crash) lost(t *testing.T) string {
	s, err := Open(small(t, c.disk))
	if err != nil {
		return "cannot be opened: " + err.Error()
	}
	defer s.Close()
	if err := s.SetPartitions(testPartitions); err != nil {
		return err.Error()
	}
	if err := s.Healthy(); err != nil {
		return err.Error()
	}
	held := map[ring.Key]vclock.Object{}
	for _, a := range c.acked {
		stored, there := held[a.key]
		if !there {
			object, _, err := s.Get(a.key)
			if err != nil {
				return err.Error()
			}
			if object != nil {
				if stored, err = vclock.DecodeObject(object); err != nil {
					return err.Error()
				}
			}
			held[a.key] = stored
		}
		want, err := vclock.DecodeObject(a.object)
		if err != nil {
			return err.Error()
		}
		if !stored.Clock.Covers(want.Clock) {
			return fmt.Sprintf("an acknowledged write of %q is gone", a.key.Name)
		}
	}
	if what := s.misindexed(t); what != "" {
		return what
	}
	return inconsistent(s)
}

// misindexed compares the index with the objects.
func (s *Store) misindexed(t testing.TB) string {
	s.background.Wait()
	states := map[string]vclock.State{}
	live := int64(0)
	err := s.Scan(0, math.MaxUint64, func(k ring.Key, object []byte) bool {
		o, err := vclock.DecodeObject(object)
		if err != nil {
			t.Error(err)
		}
		states[k.Name] = o.State()
		live += holdsValue(o.State())
		return true
	})
	if err != nil {
		return err.Error()
	}
	wrong := ""
	err = s.List("b", "", allPartitions(), -1, "", func(p int, name string, st vclock.State) bool {
		if states[name] != st {
			wrong = fmt.Sprintf("%q is listed as %v and is %v", name, st, states[name])
		}
		delete(states, name)
		return true
	})
	if err != nil {
		return err.Error()
	}
	if len(states) > 0 {
		wrong = fmt.Sprintf("not listed: %v", states)
	}
	if got, known := s.live.get(); !known || got != live {
		wrong += fmt.Sprintf("counted %d live keys (%v), there are %d", got, known, live)
	}
	return wrong
}

func TestNoAcknowledgedWriteIsLostToPowerLoss(t *testing.T) {
	every := 17
	if testing.Short() {
		every = 61
	}
	n := 0
	for seed := range uint64(3) {
		for _, c := range crashes(t, seed+1, every+int(seed), nil) {
			if what := c.lost(t); what != "" {
				t.Errorf("seed %d, crash before %s, %d acknowledged: %s", seed+1, c.op, len(c.acked), what)
			}
			n++
		}
	}
	t.Logf("%d crashes", n)
}

// The same test finds the store at fault where it does what goleveldb alone does.
func TestPowerLossTestFindsPlantedFaults(t *testing.T) {
	for name, plant := range map[string]func(*disk){
		"rotated journals are not synced": func(d *disk) { d.retire = func(*journal) error { return nil } },
		"the directory is not synced":     func(d *disk) { d.syncDir = func() error { return nil } },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				for _, c := range crashes(t, seed+1, 5, plant) {
					if c.lost(t) != "" {
						return
					}
				}
			}
			t.Error("not found")
		})
	}
}

// A failed fsync is final: nothing is acknowledged after it, nothing is synced again, and the next start is a new incarnation.
func TestFailedFsyncIsFinal(t *testing.T) {
	live := memdisk.New()
	broken := errors.New("input/output error")
	var fail, syncs atomic.Int64
	live.Fault = func(op memdisk.Op, fd storage.FileDesc) error {
		if op == memdisk.OpSync && fd.Type == storage.TypeJournal {
			syncs.Add(1)
			if fail.CompareAndSwap(1, 2) { // once: a retry would succeed, and lie
				return broken
			}
		}
		return nil
	}
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	mustPut(t, s, testKey(1), "safe")
	if err := wait(s); err != nil {
		t.Fatal(err)
	}
	fail.Store(1)
	mustPut(t, s, testKey(2), "lost")
	if err := wait(s); !errors.Is(err, ErrFailed) || !errors.Is(err, broken) {
		t.Fatalf("sync: %v, want ErrFailed and the cause", err)
	}
	before := syncs.Load()
	for what, err := range map[string]error{
		"sync again": wait(s), "health": s.Healthy(), "merge": s.Merge(testKey(3), object(1, 1, "v")),
		"merge of the same": s.Merge(testKey(2), mustGet(t, s, testKey(2))), "meta": s.PutMeta("x", []byte("y")),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v, want ErrFailed", what, err)
		}
	}
	wantValues(t, s, testKey(1), "safe")
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v, want ErrFailed", err)
	}
	if after := syncs.Load(); after != before {
		t.Errorf("a failed fsync was followed by %d more", after-before)
	}
	again := cfg
	again.Backend = live.Crash(memdisk.Nothing, nil)
	s2 := mustOpen(t, again)
	defer mustClose(t, s2)
	wantValues(t, s2, testKey(1), "safe")
	if s2.Incarnation() == s.Incarnation() {
		t.Error("the incarnation was used again after a failed fsync")
	}
}

// A full disk fails the journal for good, leaves reads alone, and loses nothing acknowledged.
func TestFullDiskFailsWritesAndNotReads(t *testing.T) {
	live := memdisk.New()
	full := errors.New("no space left on device")
	var fail atomic.Bool
	live.Fault = func(op memdisk.Op, fd storage.FileDesc) error {
		if op == memdisk.OpWrite && fail.Load() {
			return full
		}
		return nil
	}
	cfg := small(t, live)
	s := mustOpen(t, cfg)
	mustPut(t, s, testKey(1), "v")
	if err := wait(s); err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if _, err := put(s, testKey(1), "w"); !errors.Is(err, ErrFailed) || !errors.Is(err, full) {
		t.Fatalf("write to a full disk: %v", err)
	}
	fail.Store(false)
	if _, err := put(s, testKey(1), "w"); !errors.Is(err, ErrFailed) {
		t.Fatalf("a journal with a hole was written on: %v", err)
	}
	wantValues(t, s, testKey(1), "v")
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Fatalf("close: %v", err)
	}
	s = mustOpen(t, cfg)
	defer mustClose(t, s)
	wantValues(t, s, testKey(1), "v")
	mustPut(t, s, testKey(1), "w")
}

func mustGet(t *testing.T, s *Store, key ring.Key) []byte {
	t.Helper()
	object, _, err := s.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// The power fails again while the store is being opened after it failed.
func TestPowerLossWhileOpeningLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	n := 0
	for _, first := range crashes(t, 9, 150, nil) {
		var again []crash
		_, end := underFault(first.disk, func(op memdisk.Op, fd storage.FileDesc) error {
			if op != memdisk.OpRead && op != memdisk.OpOpen && len(again) < 30 {
				again = append(again, crash{first.disk.Crash(memdisk.Residue(rng.IntN(3)), rng), first.acked, string(op)})
			}
			return nil
		})
		s, err := Open(small(t, first.disk))
		if err != nil {
			t.Fatal(err)
		}
		s.background.Wait()
		mustClose(t, s)
		end()
		for i, c := range again {
			if i%3 != 0 {
				continue
			}
			n++
			if what := c.lost(t); what != "" {
				t.Errorf("second crash before %s: %s", c.op, what)
			}
		}
	}
	t.Logf("%d crashes", n)
}

// A node that is killed, or loses its power, while it makes its database for the first time starts the next time.
func TestFirstStartBrokenOffAnywhere(t *testing.T) {
	disk := memdisk.New()
	cfg := small(t, disk)
	rng := rand.New(rand.NewPCG(4, 4))
	type start struct {
		cfg Config
		op  string
	}
	var broken []start
	_, end := underFault(disk, func(op memdisk.Op, fd storage.FileDesc) error {
		if op == memdisk.OpRead || op == memdisk.OpOpen {
			return nil
		}
		for _, residue := range []memdisk.Residue{memdisk.Nothing, memdisk.Something, memdisk.Everything} {
			at := small(t, disk.Crash(residue, rng))
			copyDir(t, at.Dir, cfg.Dir)
			broken = append(broken, start{at, fmt.Sprintf("%s %s, residue %d", op, fd, residue)})
		}
		return nil
	})
	s := mustOpen(t, cfg)
	end()
	mustClose(t, s)
	if len(broken) < 15 {
		t.Fatalf("broken off at %d places only", len(broken))
	}
	for _, b := range broken {
		s, err := Open(b.cfg)
		if err != nil {
			t.Errorf("broken off before %s: %v", b.op, err)
			continue
		}
		if err := s.SetPartitions(16); err != nil {
			t.Errorf("broken off before %s: %v", b.op, err)
		}
		mustPut(t, s, testKey(1), "v")
		mustClose(t, s)
	}
}
