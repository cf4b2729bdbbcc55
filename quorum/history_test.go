package quorum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// opSet is a set of write ids below 512.
type opSet [8]uint64

func (s *opSet) add(i int)          { s[i/64] |= 1 << (i % 64) }
func (s opSet) has(i int) bool      { return s[i/64]&(1<<(i%64)) != 0 }
func (s opSet) union(o opSet) opSet { return s.merge(o, func(a, b uint64) uint64 { return a | b }) }
func (s opSet) minus(o opSet) opSet { return s.merge(o, func(a, b uint64) uint64 { return a &^ b }) }

func (s opSet) merge(o opSet, f func(a, b uint64) uint64) opSet {
	for i := range s {
		s[i] = f(s[i], o[i])
	}
	return s
}

// written is one write of a history: what it was certainly meant to replace, and how it ended.
type written struct {
	key         int
	past        opSet
	outcome     Outcome // "" = acknowledged
	invoke, ret int     // order of events; an unknown write never returns
	late        bool    // stand-ins took it, which its writer allowed: readers get it after they have handed it over
}

// seen is one read: the values shown and all that they replaced.
type seen struct {
	key         int
	shown, inc  opSet
	invoke, ret int
	quorum      bool // not a read of a single replica, nor one that rests on stand-ins
}

// history records what clients did and saw, and checks it.
type history struct {
	mu     sync.Mutex
	clock  int
	writes []written
	reads  []seen
	bad    []error
}

func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bad = append(h.bad, fmt.Errorf(format, args...))
}

func (h *history) tick() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

func (h *history) begin(key int, past opSet) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.writes = append(h.writes, written{key: key, past: past, outcome: Unknown, invoke: h.clock})
	return len(h.writes) - 1
}

func (h *history) end(id int, outcome Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.writes[id].outcome, h.writes[id].ret = outcome, h.clock
}

// delay notes that stand-ins took a write.
func (h *history) delay(id int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes[id].late = true
}

func (h *history) past(id int) opSet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.writes[id].past
}

// read records an answer: a value's bytes are the id of its write.
func (h *history) read(key, invoke int, o vclock.Object, quorum bool) opSet {
	var shown, inc opSet
	for _, s := range o.Siblings {
		id, err := strconv.Atoi(string(s.Value))
		if err != nil {
			h.fault("a value that nobody wrote: %q", s.Value)
			continue
		}
		if shown.has(id) {
			h.fault("write %d is shown twice", id)
		}
		shown.add(id)
		inc = inc.union(h.past(id))
	}
	if stale := shown.minus(shown.minus(inc)); stale != (opSet{}) {
		h.fault("key %d: shows %v beside writes that replaced them", key, stale)
	}
	inc = inc.union(shown)
	ret := h.tick()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, seen{key, shown, inc, invoke, ret, quorum})
	return inc
}

// check is the checker for lost updates and exact siblings, for reads that miss acknowledged writes, and for reads that go
// back in time. final is the last read of each key.
func (h *history) check(final []opSet, finalInc []opSet) error {
	bad := h.bad
	for id, w := range h.writes {
		switch c := finalInc[w.key]; {
		case w.outcome == "" && !c.has(id):
			bad = append(bad, fmt.Errorf("lost: acknowledged write %d of key %d", id, w.key))
		case w.outcome == NotApplied && c.has(id):
			bad = append(bad, fmt.Errorf("dishonest: write %d of key %d was answered not applied", id, w.key))
		}
		if w.outcome == "" {
			if zombies := w.past.minus(w.past.minus(final[w.key])); zombies != (opSet{}) {
				bad = append(bad, fmt.Errorf("zombies: key %d still shows %v, which write %d replaced", w.key, zombies, id))
			}
		}
		for _, r := range h.reads {
			if r.key != w.key || !r.quorum {
				continue
			}
			if w.outcome == "" && !w.late && r.invoke > w.ret && !r.inc.has(id) {
				bad = append(bad, fmt.Errorf("missed: a quorum read of key %d began after write %d was acknowledged", w.key, id))
			}
			if w.outcome == NotApplied && r.shown.has(id) {
				bad = append(bad, fmt.Errorf("dishonest: write %d was answered not applied, and shown", id))
			}
		}
	}
	for i, a := range h.reads {
		for _, b := range h.reads[i+1:] {
			if a.key == b.key && a.quorum && b.quorum && a.ret < b.invoke && a.inc.minus(b.inc) != (opSet{}) {
				bad = append(bad, fmt.Errorf("back in time: a later read of key %d misses %v", a.key, a.inc.minus(b.inc)))
			}
		}
	}
	return errors.Join(bad...)
}

// plan of one random history.
type storm struct {
	nodes, clients, keys, ops int
	planted                   func(c *cluster) // a fault that the checker must find
	wide                      bool             // likewise: contexts of writes cover siblings that the writer was not shown
	sloppy                    bool             // half of the requests allow stand-ins, and two nodes at a time are away
}

// run plays one random history in virtual time: concurrent clients through all nodes, slow, lost, doubled and reordered
// messages, nodes that crash and come back as new incarnations. It returns what the checker says.
func (s storm) run(t *testing.T, seed uint64) (acked, failed int, err error) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, s.nodes)
		if s.planted != nil {
			s.planted(c)
		}
		h := &history{}
		chaos := rand.New(rand.NewPCG(seed, 0)) // under c.mu, which fates is called with
		c.fates = func(_, _ ring.NodeID, class string) fate {
			f := fate{delay: time.Duration(chaos.IntN(8000)) * time.Microsecond, back: time.Duration(chaos.IntN(4000)) * time.Microsecond}
			switch chaos.IntN(40) {
			case 0:
				f.dropRequest = true
			case 1:
				f.dropReply = true
			case 2, 3:
				f.twice = class != "coordinate" // the one message that is not a merge; a stream never doubles it
			case 4:
				f.delay += 200 * time.Millisecond
			}
			return f
		}
		var clients sync.WaitGroup
		for i := range s.clients {
			clients.Go(func() { s.client(t, c, h, rand.New(rand.NewPCG(seed, uint64(i+1)))) })
		}
		stop := make(chan struct{})
		crashed := make(chan struct{})
		go func() { s.crashes(c, rand.New(rand.NewPCG(seed, 999)), stop); close(crashed) }()
		clients.Wait()
		close(stop)
		<-crashed
		c.set(func() { c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{} } })
		time.Sleep(10 * time.Second) // late messages, breakers
		if s.sloppy {
			c.deliver()
		}
		final, inc := make([]opSet, s.keys), make([]opSet, s.keys)
		for k := range s.keys {
			for range 2 { // the second one sees what the first one repaired
				key := stormKey(k)
				invoke := h.tick()
				got, err := c.nodes[c.ids[0]].coordinator.Get(t.Context(), key, ReadOptions{R: All})
				if err != nil {
					t.Fatal(err)
				}
				inc[k], final[k] = h.read(k, invoke, got.Object, true), h.reads[len(h.reads)-1].shown
				time.Sleep(time.Second)
			}
		}
		c.close()
		for k := range s.keys {
			owners := c.owners(stormKey(k))[:3]
			for _, n := range owners[1:] {
				if digestOf(n.store.object(stormKey(k))) != digestOf(owners[0].store.object(stormKey(k))) {
					h.fault("key %d: replicas differ after a read of all", k)
				}
			}
		}
		err = h.check(final, inc)
		for _, w := range h.writes {
			if w.outcome == "" {
				acked++
			} else {
				failed++
			}
		}
	})
	return acked, failed, err
}

func stormKey(k int) ring.Key { return ring.NewKey("storm", fmt.Sprint("key", k)) }

// client reads, writes with the context of what it saw, writes blindly, reads with a session.
func (s storm) client(t *testing.T, c *cluster, h *history, r *rand.Rand) {
	contexts, incs := make([]*vclock.Context, s.keys), make([]opSet, s.keys)
	sessions, known := make([]vclock.Context, s.keys), make([]opSet, s.keys)
	for range s.ops {
		time.Sleep(time.Duration(r.IntN(10_000)) * time.Microsecond)
		k := r.IntN(s.keys)
		c.mu.Lock()
		node := c.nodes[c.ids[r.IntN(len(c.ids))]]
		coordinator, down := node.coordinator, c.down[node.id]
		c.mu.Unlock()
		if down {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		note := func(context vclock.Context, inc opSet) {
			sessions[k] = vclock.Context{Clock: sessions[k].Clock.Join(context.Clock), Time: max(sessions[k].Time, context.Time)}
			known[k] = known[k].union(inc)
		}
		var sloppy Choice
		if s.sloppy && r.IntN(2) == 0 {
			sloppy = Yes
		}
		switch r.IntN(4) {
		case 0, 1: // write
			options, past := WriteOptions{Fresh: true}, opSet{}
			if contexts[k] != nil && r.IntN(4) > 0 {
				options, past = WriteOptions{Context: contexts[k]}, incs[k]
			}
			options.ReturnValue, options.Sloppy = s.wide, sloppy
			id := h.begin(k, past)
			got, err := coordinator.Put(ctx, stormKey(k), text(strconv.Itoa(id)), options)
			if err != nil {
				var e *Error
				if errors.As(err, &e) && e.Outcome == NotApplied {
					h.end(id, NotApplied)
				}
				break
			}
			past.add(id)
			if s.wide {
				got.Context = got.Object.Context()
			}
			contexts[k], incs[k] = &got.Context, past
			if sloppy == Yes && got.Receipt.Standins > 0 {
				h.delay(id)
			}
			h.end(id, "")
			note(got.Context, past)
		case 2: // quorum read
			invoke := h.tick()
			got, err := coordinator.Get(ctx, stormKey(k), ReadOptions{Sloppy: sloppy})
			if err == nil {
				context := got.Object.Context()
				contexts[k], incs[k] = &context, h.read(k, invoke, got.Object, got.Receipt.Standins == 0)
				note(context, incs[k])
			}
		case 3: // one replica, but as new as the session
			invoke, session, want := h.tick(), sessions[k], known[k]
			got, err := coordinator.Get(ctx, stormKey(k), ReadOptions{R: 1, Session: &session, Sloppy: sloppy})
			if err == nil {
				inc := h.read(k, invoke, got.Object, false)
				if missing := want.minus(inc); missing != (opSet{}) {
					h.fault("session read of key %d misses %v", k, missing)
				}
				note(got.Object.Context(), inc)
			}
		}
		cancel()
	}
}

// crashes stops one node after the other, in a sloppy storm two at once, and brings them back as new incarnations: their memory of dots is gone,
// their stores are not. Hints are handed over now and then.
func (s storm) crashes(c *cluster, r *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(20+r.IntN(60)) * time.Millisecond):
		}
		away := []ring.NodeID{c.ids[r.IntN(len(c.ids))]}
		if s.sloppy {
			if second := c.ids[r.IntN(len(c.ids))]; second != away[0] {
				away = append(away, second)
			}
		}
		c.set(func() {
			for _, id := range away {
				c.down[id], c.dead[id] = true, r.IntN(2) == 0
			}
		})
		time.Sleep(time.Duration(10+r.IntN(60)) * time.Millisecond)
		for _, id := range away {
			node := c.nodes[id]
			old := node.coordinator
			c.set(func() {
				node.start(Config{})
				c.down[id], c.dead[id] = false, false
			})
			c.group.Go(old.Close)
		}
		if s.sloppy && r.IntN(3) == 0 {
			c.deliver()
		}
	}
}

func TestHistories(t *testing.T) {
	acked, failed := 0, 0
	for seed := range uint64(150) {
		a, f, err := storm{nodes: 3 + int(seed%3), clients: 4, keys: 2, ops: 25}.run(t, seed)
		if acked, failed = acked+a, failed+f; err != nil || t.Failed() {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d writes acknowledged, %d not", acked, failed)
	if acked < 9*failed {
		t.Errorf("only %d of %d writes were acknowledged", acked, acked+failed)
	}
}

// Stand-ins change what readers may miss, and nothing else: no acknowledged write is lost, nothing replaced comes back, strict requests among
// sloppy ones keep their promises.
func TestSloppyHistories(t *testing.T) {
	acked, failed, standins, reads := 0, 0, 0, 0
	for seed := range uint64(100) {
		s := storm{nodes: 4 + int(seed%3), clients: 4, keys: 2, ops: 25, sloppy: true}
		var nodes map[ring.NodeID]*memNode
		s.planted = func(c *cluster) { nodes = c.nodes }
		a, f, err := s.run(t, seed)
		for _, n := range nodes {
			standins += n.events.count("standin_write")
			reads += n.events.count("standin_read")
		}
		if acked, failed = acked+a, failed+f; err != nil || t.Failed() {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d writes acknowledged, %d not; stand-ins took %d and answered reads %d times", acked, failed, standins, reads)
	if acked < 5*failed || standins < 100 || reads < 10 {
		t.Error("too few")
	}
}

// The checker finds planted faults; a checker that finds nothing proves nothing.
func TestHistoriesFindPlantedFaults(t *testing.T) {
	faults := map[string]storm{
		"a dot is issued twice": {planted: func(c *cluster) {
			for _, n := range c.nodes {
				n.coordinator.config.Incarnation = 7
			}
		}},
		"two replicas forget writes": {planted: func(c *cluster) {
			for _, id := range c.ids[:2] {
				c.nodes[id].coordinator.replica.local = forgetful{c.nodes[id].store}
			}
		}},
		"a write's context covers what its writer was not shown": {wide: true},
	}
	for name, s := range faults {
		t.Run(name, func(t *testing.T) {
			s.nodes, s.clients, s.keys, s.ops = 3, 4, 1, 25
			for seed := range uint64(60) {
				if _, _, err := s.run(t, seed); err != nil {
					return
				}
			}
			t.Error("not found in 60 histories")
		})
	}
}

// forgetful says that it merged, and did not.
type forgetful struct{ *memStore }

func (forgetful) Merge(ring.Key, []byte) error { return nil }
