package antientropy

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
)

// walker stands in for VerifyPartition.
type walker struct {
	mu    sync.Mutex
	walks []int // partitions, in order
	bytes int   // in each
	found func(partition int) (VerifyResult, error)
	took  []time.Duration
}

func (w *walker) verify(partition int, pace func(int) error) (VerifyResult, error) {
	start := time.Now()
	for read := 0; read < w.bytes; read += 64 << 10 {
		if err := pace(64 << 10); err != nil {
			return VerifyResult{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walks = append(w.walks, partition)
	w.took = append(w.took, time.Since(start))
	result, err := VerifyResult{}, error(nil)
	if w.found != nil {
		result, err = w.found(partition)
	}
	result.Objects, result.Bytes = 10, int64(w.bytes)
	return result, err
}

func verifying(c *Config) { c.NoVerify, c.NoExchange, c.VerifyCycle = false, true, time.Hour }

// Everything is walked once in a cycle, beginning anywhere, and gently.
func TestVerificationWalksEverythingInItsCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, verifying)
		a := ships[0]
		w := &walker{bytes: 8 << 20}
		a.store.verify = w.verify
		stop := run(t, a)
		time.Sleep(59 * time.Minute)
		if s := a.Status(); s.VerifyAge != 0 {
			t.Errorf("verified wholly %v ago", s.VerifyAge)
		}
		time.Sleep(2 * time.Minute)
		if s := a.Status(); s.VerifyAge == 0 || s.VerifyAge > 2*time.Minute || s.VerifiedObjects < 640 {
			t.Errorf("verified wholly %v ago, %d objects", s.VerifyAge, s.VerifiedObjects)
		}
		time.Sleep(time.Hour)
		stop()
		if got := len(w.walks); got < 128 || got > 132 {
			t.Errorf("%d walks in two hours, want about 130", got)
		}
		first := slices.Sorted(slices.Values(w.walks[:64]))
		if len(slices.Compact(first)) != 64 {
			t.Errorf("a cycle over %v", w.walks[:64])
		}
		for _, took := range w.took {
			if took < 1900*time.Millisecond || took > 2100*time.Millisecond { // 8 MiB at 4 MiB/s
				t.Errorf("a walk took %v", took)
			}
		}
	})
}

// Where the cycle is short for what there is, walks are faster, and the cycle is kept.
func TestVerificationKeepsItsCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, verifying)
		a := ships[0]
		w := &walker{bytes: 256 << 20} // four minutes for 16 GiB
		a.store.verify = w.verify
		a.config.VerifyCycle = 4 * time.Minute
		a.Repairer.config.VerifyCycle = a.config.VerifyCycle
		stop := run(t, a)
		time.Sleep(4*time.Minute + time.Minute + 4*time.Minute) // the first walk does not know yet how much there is
		stop()
		if got := len(w.walks); got < 128 {
			t.Errorf("%d walks in two cycles, want 128", got)
		}
	})
}

// Walks give way to requests.
func TestVerificationGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, func(c *Config) { verifying(c); c.Pressure = func() float64 { return 3 } })
		a := ships[0]
		w := &walker{bytes: 8 << 20}
		a.store.verify = w.verify
		stop := run(t, a)
		time.Sleep(10 * time.Minute)
		stop()
		for _, took := range w.took {
			if took < 5900*time.Millisecond {
				t.Errorf("a walk took %v, want 6 s", took)
			}
		}
		if len(w.took) < 8 {
			t.Errorf("%d walks", len(w.took))
		}
	})
}

// What a walk finds wrong is exchanged soon; that it could not be walked is not a complete cycle.
func TestVerificationThatFindsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 4, 3, func(c *Config) { verifying(c); c.NoExchange, c.Interval = false, 24*time.Hour })
		a := ships[0]
		everywhere(t, ships, 40)
		var broken atomic.Bool
		broken.Store(true)
		w := &walker{bytes: 1000}
		w.found = func(partition int) (VerifyResult, error) {
			if partition == 2 && broken.Load() {
				return VerifyResult{WrongLeaves: 3, Damaged: 1}, errors.New("block is damaged")
			}
			return VerifyResult{}, nil
		}
		a.store.verify = w.verify
		stop := run(t, a)
		defer stop()
		time.Sleep(59 * time.Minute)
		s := a.Status()
		if s.WrongLeaves != 3 || s.DamagedObjects != 1 || s.VerifyAge != 0 {
			t.Errorf("got %+v", s)
		}
		if s.Exchanges < 4 || s.Exchanges > 6 { // two at the start, and one more with each
			t.Errorf("%d exchanges, want 4", s.Exchanges)
		}
		broken.Store(false)
		time.Sleep(62 * time.Minute)
		if s := a.Status(); s.VerifyAge == 0 {
			t.Error("no complete cycle")
		}
	})
}

// A leaf that an exchange finds wrong is put right at once, on the side that has it, not only when its turn comes; but not again and again.
func TestSuspectsAreVerifiedAtOnce(t *testing.T) {
	for _, at := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			ships := fleet(t, 16, 3, nil) // NoVerify: nothing is walked but suspects
			everywhere(t, ships, 100)
			s := ships[at]
			s.store.vanish(testKey(7))
			w := &walker{}
			w.found = func(partition int) (VerifyResult, error) {
				s.store.mu.Lock()
				defer s.store.mu.Unlock()
				leaf := ring.Leaf(testKey(7).Token)
				s.store.trees[s.store.class(testKey(7))][leaf%(ring.Leaves/16)] = 0 // nothing else is in it
				delete(s.store.unsound, leaf)
				return VerifyResult{WrongLeaves: 1}, nil
			}
			s.store.verify = w.verify
			other := ships[1-at]
			for i := 1000; ; i++ { // another key of that leaf is new, so that the leaf is read
				if k := testKey(i); ring.Leaf(k.Token) == ring.Leaf(testKey(7).Token) {
					o := other.write(k, "new")
					defer func() {
						if got := s.store.dump()[k]; got != string(o) {
							t.Error("the new key has not come")
						}
					}()
					break
				}
			}
			stop := run(t, ships[0])
			if at == 1 {
				stopOther := run(t, ships[1])
				defer stopOther()
			}
			time.Sleep(15 * time.Second)
			stop()
			if want := []int{s.store.class(testKey(7)).Partition}; !slices.Equal(w.walks, want) {
				t.Errorf("walked over %v, want %v", w.walks, want)
			}
			if got, want := s.store.dump()[testKey(7)], other.store.dump()[testKey(7)]; got != want {
				t.Error("what had vanished has not come back")
			}
		})
	}
}

// Verification ends when it is told to, also in the middle of a walk.
func TestVerificationStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 4, 3, verifying)
		w := &walker{bytes: 1 << 40}
		ships[0].store.verify = w.verify
		stop := run(t, ships[0])
		time.Sleep(time.Minute)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}
