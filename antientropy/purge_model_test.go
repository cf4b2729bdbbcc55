package antientropy

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// world is a party with clients, faults, and a book of what was promised.
type world struct {
	*party
	rand    *rand.Rand
	keys    []ring.Key
	written map[event]*version
	late    []lateWrite
	old     map[ring.NodeID]oldState
	history []string
	one     chan struct{} // full while something happens beside messages; no mutex, since time may pass meanwhile
	values  int
}

// event names a write: dots are counted for each key.
type event struct {
	key ring.Key
	dot vclock.Dot
}

// version is one write, and what is known of it.
type version struct {
	value    string // "" = a delete
	acked    bool   // on one disk or two
	replaced bool   // some write replaces it, whatever became of that one
	deleted  bool   // a write that replaces it was acknowledged by all owners
}

// lateWrite is a replica write that has not arrived yet, and may never.
type lateWrite struct {
	key    ring.Key
	object []byte
	to     *guest
}

type oldState struct {
	data  map[ring.Key][]byte
	marks map[ring.Class]Marks
}

func newWorld(t testing.TB, nodes, replicas int, seed uint64) *world {
	w := &world{
		party: newParty(t, nodes, nil), rand: rand.New(rand.NewPCG(seed, 1)),
		one: make(chan struct{}, 1), written: make(map[event]*version), old: make(map[ring.NodeID]oldState),
	}
	// Three keys, of which two are in one partition.
	w.keys = []ring.Key{key}
	for i := 0; len(w.keys) < 2; i++ {
		if k := ring.NewKey("b", fmt.Sprint(i)); w.layout.Partition(k.Token) == w.layout.Partition(key.Token) {
			w.keys = append(w.keys, k)
		}
	}
	w.keys = append(w.keys, ring.NewKey("b", "elsewhere"))
	for _, id := range w.ids {
		w.nodes[id].shelf.replicas = replicas
		w.nodes[id].skew = time.Duration(w.rand.IntN(6000)-3000) * time.Millisecond
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.history = append(w.history, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) node() *guest { return w.nodes[w.ids[w.rand.IntN(len(w.ids))]] }
func (w *world) key() ring.Key {
	return w.keys[w.rand.IntN(len(w.keys))]
}

func (w *world) votes(g *guest, k ring.Key) bool { return !g.shelf.lost[g.shelf.class(k)] }

// write has an owner coordinate a write, of which any part may fail.
func (w *world) write(value string) {
	k := w.key()
	owners := w.owners(k)
	g := owners[w.rand.IntN(len(owners))]
	if g.down || !w.votes(g, k) {
		return
	}
	o := g.shelf.write(k, value, w.rand.IntN(4) == 0)
	b := vclock.AppendObject(nil, o)
	var dot vclock.Dot
	for _, s := range o.Siblings {
		if w.written[event{k, s.Dot}] == nil && s.Dot.Actor == g.shelf.actor {
			dot = s.Dot
			w.written[event{k, dot}] = &version{value: value}
		}
	}
	if dot.Counter == 0 {
		w.t.Fatalf("a dot was issued twice: %+v", o)
	}
	acks := []*guest{g}
	owned := 1
	for _, to := range owners {
		if to == g {
			continue
		}
		switch fate := w.rand.IntN(6); {
		case to.down:
			g.shelf.Hint(to.id, k, nil)
			if others := w.others(k); fate < 4 && len(others) > 0 {
				if standin := others[w.rand.IntN(len(others))]; !standin.down {
					standin.shelf.Hint(to.id, k, b)
					acks = append(acks, standin)
				}
			}
		case fate == 0: // lost
		case fate == 1:
			w.late = append(w.late, lateWrite{k, b, to})
		default:
			if to.shelf.Merge(k, b) == nil {
				acks = append(acks, to)
				owned++
			}
		}
	}
	v, need := w.written[event{k, dot}], 1+w.rand.IntN(2)
	if v.acked = len(acks) >= need; v.acked {
		w.rand.Shuffle(len(acks), func(i, j int) { acks[i], acks[j] = acks[j], acks[i] })
		for _, a := range acks[:need] {
			a.shelf.Sync(func(error) {})
		}
	}
	everywhere := owned == len(owners) && w.rand.IntN(2) == 0
	if everywhere {
		for _, o := range owners {
			o.shelf.Sync(func(error) {})
		}
	}
	for e, other := range w.written {
		if e.key == k && e.dot != dot && o.Clock.Contains(e.dot) && !slices.ContainsFunc(o.Siblings, func(s vclock.Sibling) bool { return s.Dot == e.dot }) {
			other.replaced = true
			other.deleted = other.deleted || everywhere
		}
	}
	w.note("%s writes %q to %s, %d acks, %d of owners, as %v", name(g), value, k.Name, len(acks), owned, dot)
}

func name(g *guest) string { return "n" + string(g.id[31:]) }

// arrive lets a late write arrive. It may arrive again.
func (w *world) arrive() {
	if len(w.late) == 0 {
		return
	}
	i := w.rand.IntN(len(w.late))
	l := w.late[i]
	if l.to.down {
		return
	}
	err := l.to.shelf.Merge(l.key, l.object)
	w.note("a late write of %s arrives at %s: %v", l.key.Name, name(l.to), err)
	if w.rand.IntN(3) > 0 {
		w.late = slices.Delete(w.late, i, i+1)
	}
}

// disturbed makes messages fail, and may end ctx in the middle. Other things happen meanwhile.
func (w *world) disturbed(cancel func(), busy ...*guest) {
	calm, crash := w.rand.IntN(2) == 0, w.rand.IntN(40)
	quick := w.quick(busy)
	names := slices.Sorted(maps.Keys(quick))
	w.meddle = func(message) meddling {
		w.one <- struct{}{}
		defer func() { <-w.one }()
		if w.rand.IntN(4) == 0 {
			quick[names[w.rand.IntN(len(names))]]()
		}
		if crash--; crash == 0 && !calm {
			cancel()
		}
		if calm || w.rand.IntN(12) > 0 {
			return meddling{}
		}
		return [...]meddling{{lost: true}, {answerLost: true}, {twice: true}, {held: true}, {takes: time.Second}}[w.rand.IntN(5)]
	}
}

// under runs f with disturbed messages.
func (w *world) under(f func(ctx context.Context), busy ...*guest) (crashed bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.disturbed(cancel, busy...)
	f(ctx)
	w.meddle = nil
	return ctx.Err() != nil
}

func (w *world) crash(g *guest) {
	g.shelf.crash(w.actor())
	g.start(nil)
	w.note("%s crashes", name(g))
}

// quick are the actions that need no messages, and may happen while messages are under way. They leave busy nodes running.
func (w *world) quick(busy []*guest) map[string]func() {
	idle := func() *guest {
		if g := w.node(); !g.down && !slices.Contains(busy, g) {
			return g
		}
		return nil
	}
	return map[string]func(){
		"write": func() {
			w.values++
			w.write(fmt.Sprint("v", w.values))
		},
		"delete": func() { w.write("") },
		"late":   w.arrive,
		"time":   func() { time.Sleep(time.Duration(w.rand.IntN(5000)) * time.Millisecond) },
		"drop": func() {
			if g := idle(); g != nil {
				g.purges.dropReleased(context.Background())
				w.note("%s drops what was released, %d objects left", name(g), len(g.shelf.data))
			}
		},
		"crash": func() {
			if g := idle(); g != nil {
				w.crash(g)
			}
		},
		"down": func() {
			if g := idle(); g != nil && w.rand.IntN(2) == 0 {
				w.setDown(g.id, true)
				w.note("%s is down", name(g))
			}
		},
		"up": func() { // nothing is collected while one is down
			for _, id := range w.ids {
				w.setDown(id, false)
			}
			w.note("all are up")
		},
		"snapshot": func() {
			g := w.node()
			data, marks := g.shelf.snapshot()
			w.old[g.id] = oldState{data, marks}
		},
		"restore": func() {
			if g := idle(); g != nil && w.rand.IntN(4) == 0 {
				w.restore(g)
			}
		},
	}
}

func (w *world) actions() map[string]func() {
	actions := w.quick(nil)
	actions["late message"] = func() {
		w.letGo()
		w.note("late messages arrive")
	}
	actions["hints"] = func() {
		g := w.node()
		if g.down {
			return
		}
		g.wakeHints("")
		before := g.left()
		w.under(g.deliver, g)
		w.note("%s delivers hints: %d before, %d after", name(g), before, g.left())
	}
	collect := func() {
		g := w.owners(w.key())[0]
		if g.down {
			return
		}
		time.Sleep(time.Duration(w.rand.IntN(4)) * time.Second) // mostly there is something old enough
		before := len(g.shelf.steps)
		w.note("%s collects", name(g))
		crashed := w.under(g.purges.collect, g)
		w.note("%s has collected: %v, blocker %q", name(g), g.shelf.steps[before:], g.purges.blocker)
		if crashed {
			w.crash(g)
		}
	}
	exchange := func() {
		k := w.key()
		owners := w.owners(k)
		a, b := owners[w.rand.IntN(len(owners))], owners[w.rand.IntN(len(owners))]
		if a == b || a.down || b.down {
			return
		}
		w.under(func(ctx context.Context) {
			w.note("%s exchanges with %s", name(a), name(b))
			why := a.level(ctx, b.id, []ring.Class{a.shelf.class(k)})
			w.note("%s has exchanged with %s: %v", name(a), name(b), why)
		}, a)
	}
	for i := range 3 { // the more of the same, the more often
		actions[fmt.Sprint("collect ", i)] = collect
		actions[fmt.Sprint("exchange ", i)] = exchange
		actions[fmt.Sprint("up ", i)] = actions["up"]
		actions[fmt.Sprint("write ", i)] = actions["write"]
		actions[fmt.Sprint("delete ", i)] = actions["delete"]
	}
	return actions
}

// restore sets a node's disk back, where what it loses is on others: one node at a time.
func (w *world) restore(g *guest) {
	old, ok := w.old[g.id]
	for _, o := range w.nodes {
		ok = ok && len(o.shelf.lost) == 0
	}
	for e, v := range w.written {
		ok = ok && (!v.acked || v.replaced || v.value == "" || w.somewhere(e.dot, e.key, g))
	}
	if !ok {
		return
	}
	var known []ring.Class
	for _, k := range w.keys {
		if slices.Contains(w.owners(k), g) {
			known = append(known, g.shelf.class(k))
		}
	}
	g.shelf.restore(old.data, old.marks, w.actor(), known)
	g.start(nil)
	w.note("%s is set back", name(g))
}

// check compares what the nodes hold with what was promised.
func (w *world) check() error {
	for _, k := range w.keys {
		for _, g := range w.owners(k) {
			if !w.votes(g, k) {
				continue
			}
			for _, s := range g.shelf.object(k).Siblings {
				v := w.written[event{k, s.Dot}]
				switch {
				case v == nil || v.value != string(s.Value):
					return fmt.Errorf("phantom: %s holds %q of %v in %s", name(g), s.Value, s.Dot, k.Name)
				case v.deleted && !s.Tombstone:
					return fmt.Errorf("zombie: %s shows %q of %s, which was deleted on all owners", name(g), v.value, k.Name)
				}
			}
		}
	}
	for e, v := range w.written {
		if v.acked && !v.replaced && v.value != "" && !w.somewhere(e.dot, e.key, nil) {
			return fmt.Errorf("lost: %q of %s is nowhere, as %v", v.value, e.key.Name, e.dot)
		}
	}
	return nil
}

// somewhere tells whether an owner's store or a stand-in's hint holds a version. One node is not looked at; of the others, with that,
// only disks are.
func (w *world) somewhere(d vclock.Dot, k ring.Key, but *guest) bool {
	holds := func(o vclock.Object) bool {
		return slices.ContainsFunc(o.Siblings, func(s vclock.Sibling) bool { return s.Dot == d })
	}
	for _, g := range w.owners(k) {
		if _, dirty := g.shelf.durable[k]; g != but && holds(g.shelf.object(k)) && (but == nil || !dirty) {
			return true
		}
	}
	for _, g := range w.nodes {
		for _, of := range g.shelf.hints {
			if h := of[k]; g != but && h != nil && h.object != nil {
				if o, err := vclock.DecodeObject(h.object); err != nil || holds(o) {
					return err == nil
				}
			}
		}
	}
	return false
}

// settle ends all faults, and has everything done that is left to do.
func (w *world) settle() error {
	ctx := context.Background()
	w.meddle, w.late, w.held = nil, slices.Clone(w.late), nil
	for _, g := range w.nodes {
		g.down = false
		g.wakeHints("")
	}
	for range 5 {
		time.Sleep(20 * time.Second)
		for _, id := range w.ids {
			w.nodes[id].deliver(ctx)
		}
		for _, a := range w.ids {
			for _, b := range w.ids {
				if a != b {
					if _, err := w.nodes[a].exchangeWith(ctx, b, nil, nil); err != nil {
						return err
					}
				}
			}
		}
		for _, id := range w.ids {
			w.nodes[id].round(ctx)
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	for _, l := range w.late {
		if err := l.to.shelf.Merge(l.key, l.object); err != nil && !isPurged(err) {
			return err
		}
		if err := w.check(); err != nil {
			return fmt.Errorf("in the end a late write arrives at %s: %w", name(l.to), err)
		}
	}
	return w.settled()
}

// settled is what must be once there is nothing left to do.
func (w *world) settled() error {
	for _, g := range w.nodes {
		if g.left() != 0 || len(g.shelf.lost) != 0 {
			s, _ := g.hintStatus()
			return fmt.Errorf("%s has %d hints left (%+v), %d classes without a vote", name(g), g.left(), s, len(g.shelf.lost))
		}
	}
	for _, k := range w.keys {
		owners := w.owners(k)
		if len(w.late) == 0 {
			for _, g := range owners[1:] {
				if !slices.Equal(g.shelf.data[k], owners[0].shelf.data[k]) {
					return fmt.Errorf("diverged: %s is %+v on %s, %+v on %s", k.Name, g.shelf.object(k), name(g), owners[0].shelf.object(k), name(owners[0]))
				}
			}
			if _, ok := collectable(owners[0].shelf.object(k)); ok && owners[0].shelf.data[k] != nil {
				return fmt.Errorf("%s is not collected: %+v, marks %+v, %q", k.Name, owners[0].shelf.object(k), owners[0].shelf.marks, owners[0].blocker())
			}
		}
		for e, v := range w.written {
			if e.key != k || !v.acked || v.replaced || v.value == "" {
				continue
			}
			for _, g := range owners {
				if !slices.Contains(g.shelf.values(k), v.value) {
					return fmt.Errorf("lost: %s does not hold %q of %s, %v", name(g), v.value, k.Name, e.dot)
				}
			}
		}
	}
	return nil
}

// play does random things, then settles.
func (w *world) play(steps int) error {
	actions := w.actions()
	names := slices.Sorted(maps.Keys(actions))
	for range steps {
		actions[names[w.rand.IntN(len(names))]]()
		if err := w.check(); err != nil {
			return err
		}
	}
	return w.settle()
}

// Random histories of three to five nodes: writes, deletes, late writes, hints, exchanges and rounds of collection whose messages are lost,
// late, or come twice, crashes, absences and disks that are set back.
func TestCollectModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nodes, seed, steps := rapid.IntRange(3, 5).Draw(rt, "nodes"), rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(20, 150).Draw(rt, "steps")
		replicas := rapid.IntRange(2, nodes).Draw(rt, "replicas")
		var history []string
		var err error
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nodes, replicas, seed)
			err = w.play(steps)
			history = w.history
		})
		if err != nil {
			rt.Fatalf("%v\n%s", err, strings.Join(history, "\n"))
		}
	})
}
