package storage

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/memdisk"
)

// wantRefusals checks what a store takes.
func wantRefusals(t testing.TB, s *Store, client, repair bool) {
	t.Helper()
	k := testKey(1)
	_, updateErr := put(s, k, strings.Repeat("v", 100))
	for what, c := range map[string]struct {
		err  error
		full bool
	}{
		"update": {updateErr, client}, "hint": {s.Hint(nodeA, k, nil), client}, "kept hint": {s.Hint(nodeB, k, object1), client},
		"full": {s.Full(), client}, "merge": {s.Merge(k, object1), repair}, "settings": {s.PutMeta("m", []byte("v")), false}, "health": {s.Healthy(), false},
	} {
		if !c.full {
			if c.err != nil {
				t.Errorf("%s: %v", what, c.err)
			}
			continue
		}
		var refused interface{ NotApplied() bool }
		if !errors.Is(c.err, ErrFull) || !errors.As(c.err, &refused) || !refused.NotApplied() {
			t.Errorf("%s: %v, want ErrFull, not applied", what, c.err)
		}
	}
	if got := s.Stats().Full; got != client {
		t.Errorf("full is told: %v, want %v", got, client)
	}
}

// F31: a volume that fills up refuses client writes first, repairs at half of the reserve, and takes both again by itself.
func TestReserveOfSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Int64
		free.Store(900)
		cfg := small(t, memdisk.New())
		cfg.Reserve = 160
		cfg.room = func() (int64, int64, error) { return free.Load(), 1000, nil }
		s := mustOpen(t, cfg)
		for _, c := range []struct {
			free           int64
			client, repair bool
		}{
			{900, false, false},
			{160, false, false},
			{159, true, false},
			{160, true, false},
			{179, true, false},
			{180, false, false},
			{170, false, false},
			{100, true, false},
			{80, true, false},
			{79, true, true},
			{99, true, true},
			{100, true, false},
			{179, true, false},
			{0, true, true},
			{500, false, false},
		} {
			free.Store(c.free)
			time.Sleep(roomInterval + time.Millisecond)
			wantRefusals(t, s, c.client, c.repair)
			if st := s.Stats(); st.FreeBytes != c.free || st.TotalBytes != 1000 || st.ReserveBytes != 160 {
				t.Errorf("figures %+v", st)
			}
			if t.Failed() {
				t.Errorf("%d of 1000 free, 160 in reserve", c.free)
				break
			}
		}
		free.Store(10)
		mustClose(t, s)
		s = mustOpen(t, cfg) // known from the first moment
		wantRefusals(t, s, true, true)
		s.background.Wait()
		if stats, _ := s.HintStats(); len(stats) != 2 || len(stats[0].Divergent) != 1 || stats[1].Divergent != nil {
			t.Errorf("own hints that were refused leave marks: %+v", stats)
		}
		mustClose(t, s)
		time.Sleep(2 * time.Second) // a goroutine of goleveldb
	})
}

// A volume that cannot be looked at for a while is as it was last.
func TestRoomThatIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		cfg := small(t, memdisk.New())
		cfg.room = func() (int64, int64, error) {
			if failing.Load() {
				return 0, 0, errors.New("no")
			}
			return 1 << 30, 1 << 30, nil
		}
		s := mustOpen(t, cfg)
		failing.Store(true)
		time.Sleep(5 * roomInterval)
		wantRefusals(t, s, false, false)
		mustClose(t, s)
		cfg.room = func() (int64, int64, error) { return 0, 0, errors.ErrUnsupported }
		s = mustOpen(t, cfg)
		time.Sleep(5 * roomInterval)
		wantRefusals(t, s, false, false)
		mustClose(t, s)
		time.Sleep(2 * time.Second)
	})
}

// A disk in memory fills up under load: the store refuses in time, never fails, and loses nothing.
func TestFillingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := memdisk.New()
		cfg := small(t, live)
		live.SetCapacity(6 << 20)
		cfg.Reserve = 4 << 20 // goleveldb compacts all of such a small database at once
		s := mustOpen(t, cfg)
		var err error
		written := 0
		for rng := rand.New(rand.NewPCG(1, 1)); err == nil; written++ {
			value := make([]byte, 2000) // that cannot be compressed
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			_, err = put(s, testKey(written), string(value))
			if written%32 == 0 {
				time.Sleep(roomInterval)
			}
		}
		var refused interface{ NotApplied() bool }
		if written--; !errors.Is(err, ErrFull) || !errors.As(err, &refused) || !refused.NotApplied() {
			t.Errorf("refused with %v", err)
		}
		if s.Healthy() != nil || written < 100 {
			t.Errorf("after %d writes: %v", written, s.Healthy())
		}
		live.SetCapacity(0)
		time.Sleep(time.Minute) // compactions try again after a while
		mustPut(t, s, testKey(written), "after")
		for i := range written {
			mustGet(t, s, testKey(i))
		}
		mustClose(t, s)
		time.Sleep(2 * time.Second)
	})
}

func TestRoom(t *testing.T) {
	dir := t.TempDir()
	free, total, err := Room(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not on this system")
	}
	if err != nil || total <= 0 || free <= 0 || free > total {
		t.Errorf("%d of %d free, %v", free, total, err)
	}
	_, later, err := Room(filepath.Join(dir, "not", "made", "yet"))
	if err != nil || later != total {
		t.Errorf("of a directory that is to be made: %d, %v; want %d", later, err, total)
	}
	for total, want := range map[int64]int64{0: 0, 1000: 250, 1 << 30: 64<<20 + 1<<30/20, 1 << 40: 64<<20 + 1<<40/20, 100 << 20: 25 << 20} {
		if got := defaultReserve(32 << 20)(total); got != want {
			t.Errorf("reserve of %d is %d, want %d", total, got, want)
		}
	}
	s := mustOpen(t, Config{Dir: dir})
	defer mustClose(t, s)
	if st := s.Stats(); st.TotalBytes != total || st.FreeBytes <= 0 || st.ReserveBytes <= 0 {
		t.Errorf("figures: %+v", st)
	}
}
