package antientropy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestMain(m *testing.M) {
	if raceDetector { // what models look for is found by the plain run
		if err := flag.Set("rapid.checks", "20"); err != nil {
			panic(err)
		}
	}
	// goleveldb's pool drainer outlives Close by a second.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// Differences go away by themselves within an interval; then only roots are compared, at the pace that was asked for.
func TestRunningNodesBecomeEqualAndStayQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 256, 3, nil)
		everywhere(t, ships, 2000)
		stop := run(t, ships...)
		defer stop()
		time.Sleep(5 * time.Second)
		for i := range 300 {
			ships[i%3].write(testKey(i), "changed")
		}
		time.Sleep(25 * time.Second) // once around, and once more for what went through a third node
		sameEverywhere(t, ships...)
		ships[0].sea.forgetTraffic()
		time.Sleep(100 * time.Second)
		got, bytes, kinds := ships[0].sea.traffic()
		if got != kinds[kindRoots] || got < 3*2*9 || got > 3*2*11+6 {
			t.Errorf("%d messages in 100 s, by kind %v; want about 60, roots only", got, kinds)
		}
		if most := got * 4500; bytes > most {
			t.Errorf("%d bytes in 100 s", bytes)
		}
	})
}

// A node that was away is compared with as soon as it is back: when membership sees it, or when it has been met.
func TestNodeThatIsBackIsComparedAtOnce(t *testing.T) {
	for _, met := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ships := fleet(t, 16, 3, func(c *Config) { c.Interval = time.Hour })
			everywhere(t, ships, 100)
			stop := run(t, ships[:2]...)
			defer stop()
			time.Sleep(10 * time.Second)
			if met {
				ships[0].write(testKey(1), "changed") // nothing to be seen by membership
			} else {
				ships[2].dead.Store(true)
				time.Sleep(10 * time.Second)
				ships[0].write(testKey(1), "changed")
				ships[2].dead.Store(false)
			}
			if met {
				ships[0].Met(ships[1].id)
				ships[0].Met(ships[2].id)
			}
			time.Sleep(1500 * time.Millisecond)
			if got, want := ships[2].store.dump()[testKey(1)], ships[0].store.dump()[testKey(1)]; got != want {
				t.Error("the node that is back has not got what it missed")
			}
		})
	}
}

func TestNoExchangeMeansNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, func(c *Config) { c.NoExchange = true })
		ships[0].write(testKey(1), "changed")
		stop := run(t, ships...)
		defer stop()
		ships[0].Met(ships[1].id)
		time.Sleep(time.Hour)
		if got, _, _ := ships[0].sea.traffic(); got != 0 {
			t.Errorf("%d messages", got)
		}
		if err := ships[0].Repair(t.Context(), -1, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		sameEverywhere(t, ships...)
	})
}

// A node starts about four exchanges a second at most, however many others there are.
func TestManyNodesExchangeLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLayout(t, 1024, 15)
		net := &sea{nodes: map[ring.NodeID]*ship{}, kinds: map[byte]int{}}
		var ships []*ship
		for i := range 15 {
			s := &ship{id: nodeID(i), sea: net, store: newTreeStore(1024), actor: vclock.Actor(i + 1)}
			s.layout.Store(l)
			s.config = Config{Store: s.store, Peers: s, Membership: s, Interval: 2 * time.Second, NoHints: true, NoPurge: true, NoVerify: true}
			s.reopen(t)
			net.nodes[s.id] = s
			ships = append(ships, s)
		}
		ships[0].write(testKey(1), "x")
		stop := run(t, ships[0])
		defer stop()
		time.Sleep(10 * time.Second)
		net.forgetTraffic()
		time.Sleep(time.Minute)
		if _, _, kinds := net.traffic(); kinds[kindRoots] < 180 || kinds[kindRoots] > 60*45/10 {
			t.Errorf("%d exchanges in a minute, want about 240", kinds[kindRoots])
		}
	})
}

// contains tells whether merging what was there before into what is there now changes nothing.
func contains(t testing.TB, now, before string) bool {
	if before == "" || now == before {
		return true
	}
	if now == "" {
		return false
	}
	a, b := decoded(t, []byte(now)), decoded(t, []byte(before))
	return string(vclock.AppendObject(nil, vclock.Merge(a, b))) == now
}

// Under writes, over a network that is slow: what an exchange calls equal holds, on both nodes, what either of them held when it began.
func TestEqualMeansBothHoldEverythingUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, nil)
		everywhere(t, ships[:2], 1000)
		ships[0].sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			return 20 * time.Millisecond, false, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 7))
				for i := 0; ctx.Err() == nil; i++ {
					k := testKey(r.IntN(1200))
					o := ships[w%2].write(k, fmt.Sprint(w, i))
					time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
					if r.IntN(3) > 0 {
						if err := ships[1-w%2].store.Merge(k, o); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		equal, moved := 0, int64(0)
		for round := range 30 {
			from, to := ships[round%2], ships[1-round%2]
			x, y := from.store.dump(), to.store.dump()
			result := mustExchange(t, from, to)
			moved += result.Sent + result.Received
			good := map[ring.Class]bool{}
			for _, c := range result.Classes {
				good[c.Class] = c.Equal
				if c.Equal {
					equal++
				}
			}
			after := [2]map[ring.Key]string{from.store.dump(), to.store.dump()}
			for _, before := range [2]map[ring.Key]string{x, y} {
				for k, o := range before {
					if !good[from.store.class(k)] {
						continue
					}
					for side := range after {
						if !contains(t, after[side][k], o) {
							t.Fatalf("round %d: %q is called equal, and side %d lacks what was there before", round, k.Name, side)
						}
					}
				}
			}
		}
		cancel()
		writers.Wait()
		if equal != 30*64 || moved == 0 {
			t.Errorf("%d of %d classes equal, %d objects moved", equal, 30*64, moved)
		}
		mustExchange(t, ships[0], ships[1])
		sameEverywhere(t, ships[:2]...)
	})
}

// Messages are lost, come twice, late, or fail: nodes that go on trying become equal all the same.
func TestExchangeOverABadNetwork(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			ships := fleet(t, 64, 3, nil)
			r := rand.New(rand.NewPCG(seed, 3))
			var mu sync.Mutex
			ships[0].sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				if r.IntN(4) == 0 {
					err = errors.New("connection broke")
				}
				return time.Duration(r.IntN(3000)) * time.Millisecond, r.IntN(5) == 0, err
			}
			for i := range 1000 {
				ships[r.IntN(3)].write(testKey(r.IntN(700)), fmt.Sprint(i))
			}
			stop := run(t, ships...)
			defer stop()
			time.Sleep(3 * time.Minute)
			sameEverywhere(t, ships...)
			moved := uint64(0)
			for _, s := range ships {
				st := s.Status()
				moved += st.ObjectsSent + st.ObjectsReceived
				if st.Exchanges == 0 {
					t.Errorf("%s has not exchanged", s.name(s.id))
				}
			}
			if moved == 0 {
				t.Error("nothing has moved")
			}
		})
	}
}

// Two nodes that begin at the same moment end both, without waiting for each other.
func TestBothSidesExchangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, nil)
		a, b := ships[0], ships[1]
		a.sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			return 100 * time.Millisecond, false, nil
		}
		for i := range 1000 {
			ships[i%2].write(testKey(i), "x")
			ships[(i+1)%2].write(testKey(i), "y")
		}
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				if bad := unequal(mustExchange(t, ships[i], ships[1-i])); len(bad) > 0 {
					t.Errorf("unequal: %v", bad)
				}
			})
		}
		both.Wait()
		sameEverywhere(t, a, b)
		if got := a.sea.messages; got > 40 {
			t.Errorf("%d messages", got)
		}
		a.sea.forgetTraffic()
		if got := mustExchange(t, a, b); got.Different != 0 {
			t.Errorf("afterwards: %+v", got.exchangeStep)
		}
	})
}

// A second exchange with the same node waits for the first one, so that what it finds is later than its call; its context ends the
// wait.
func TestOneExchangeWithANodeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 16, 3, nil)
		a, b := ships[0], ships[1]
		everywhere(t, ships, 10)
		a.sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			return 2 * time.Second, false, nil
		}
		start := time.Now()
		var all sync.WaitGroup
		var began [2]time.Duration
		for i := range 2 {
			all.Go(func() { began[i] = mustExchange(t, a, b).Began.Sub(start) })
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			synctest.Wait()
			if _, err := a.exchangeWith(ctx, b.id, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
		all.Go(func() { // another node does not wait
			if got := mustExchange(t, a, ships[2]).Began.Sub(start); got != 0 {
				t.Errorf("the exchange with another node began after %v", got)
			}
		})
		all.Wait()
		if min(began[0], began[1]) != 0 || max(began[0], began[1]) != 2*time.Second {
			t.Errorf("they began after %v, want 0 and 2 s", began)
		}
	})
}

// Nodes that know different rings do not exchange; a change half way ends an exchange, and the next one goes through.
func TestExchangeUnderAChangingLayout(t *testing.T) {
	for _, side := range []int{0, 1} {
		ships := fleet(t, 64, 3, nil)
		a, b := ships[0], ships[1]
		for i := range 200 {
			a.write(testKey(i), "x")
		}
		next, err := a.layout.Load().Next(a.layout.Load().Members())
		if err != nil {
			t.Fatal(err)
		}
		a.sea.fault = func(_, _ ring.NodeID, request []byte) (time.Duration, bool, error) {
			if request[0] == kindLists {
				ships[side].layout.Store(next)
			}
			return 0, false, nil
		}
		result, err := a.exchangeWith(t.Context(), b.id, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "ring") {
			t.Fatalf("got %v", err)
		}
		for _, c := range result.Classes {
			if c.Equal {
				t.Errorf("%v is equal", c)
			}
		}
		if got := a.debts.of(result.Classes[0].Class, b.id); got.seq != 0 || got.err == "" {
			t.Errorf("got %+v", got)
		}
		for _, s := range ships {
			s.layout.Store(next)
		}
		if bad := unequal(mustExchange(t, a, b)); len(bad) > 0 {
			t.Fatalf("unequal: %v", bad)
		}
		sameEverywhere(t, a, b)
	}
}

// A message of another ring says so in a way that the sender's side understands.
func TestHandleRefuses(t *testing.T) {
	ships := fleet(t, 64, 3, nil)
	a := ships[0]
	good := rootsRequest{end: 64}.encode()
	next, err := a.layout.Load().Next(a.layout.Load().Members())
	if err != nil {
		t.Fatal(err)
	}
	a.layout.Store(next)
	type fault interface {
		NotApplied() bool
		StaleLayout() uint64
		Outcome() string
	}
	for version, stale := range map[uint64]uint64{1: 2, 3: 0} {
		_, err := a.Handle(t.Context(), ships[1].id, version, good)
		var f fault
		if !errors.As(err, &f) || !f.NotApplied() || f.StaleLayout() != stale || f.Outcome() != "stale" {
			t.Errorf("version %d: got %v", version, err)
		}
	}
	foreign := ring.Class{Partition: 64, N: 3}
	alone := ring.Class{Partition: 1, N: 1}
	for name, b := range map[string][]byte{
		"empty":          {},
		"unknown kind":   {9, wireVersion},
		"no partition":   rootsRequest{classes: []classRoot{{class: foreign}}}.encode(),
		"not shared":     rootsRequest{classes: []classRoot{{class: alone}}}.encode(),
		"beyond":         rootsRequest{end: 65}.encode(),
		"no such level":  nodesRequest{groups: []nodeGroup{{class: ring.Class{N: 3}, level: 2, children: make([]uint64, 64)}}}.encode(),
		"another fan":    nodesRequest{groups: []nodeGroup{{class: ring.Class{N: 3}, children: make([]uint64, 8)}}}.encode(),
		"foreign leaf":   listsRequest{items: []listItem{{class: ring.Class{N: 3}, leaf: 4096, from: 4096 << 46, to: 4096<<46 | (1<<46 - 1)}}}.encode(),
		"unshared nodes": nodesRequest{groups: []nodeGroup{{class: alone}}}.encode(),
	} {
		if _, err := a.Handle(t.Context(), ships[1].id, 2, b); !errors.Is(err, errWire) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := a.Handle(t.Context(), "stranger", 2, rootsRequest{}.encode()); err == nil {
		t.Error("a stranger was answered")
	}
	push := pushRequest{objects: []pushed{{n: 1, key: testKey(1), object: a.write(ring.NewKey("x", "y"), "v")}}}
	b, err := a.Handle(t.Context(), ships[1].id, 2, push.encode())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodePushAnswer(b, 1, 0); err != nil || got.objects[0] != failed || got.why == "" {
		t.Errorf("an object of a class that is not shared: %+v, %v", got, err)
	}
}

// Background work gives way as requests grow slower, and does not where nothing moves.
func TestPressureSlowsExchanges(t *testing.T) {
	took := map[float64]time.Duration{}
	for _, pressure := range []float64{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			ships := fleet(t, 16, 3, func(c *Config) { c.Pressure = func() float64 { return pressure } })
			ships[0].sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
				return 10 * time.Millisecond, false, nil
			}
			for i := range 3000 {
				ships[0].write(testKey(i), strings.Repeat("x", 1000))
			}
			start := time.Now()
			mustExchange(t, ships[0], ships[1])
			took[pressure] = time.Since(start)
		})
	}
	if took[3] < 2*took[1] || took[3] > 3*took[1]+10*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}
