package antientropy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// shelf is a store in memory that keeps the rules of collection.
type shelf struct {
	mu         sync.Mutex
	partitions int
	replicas   int
	now        func() time.Time
	actor      vclock.Actor

	data    map[ring.Key][]byte
	durable map[ring.Key][]byte // what a power cut leaves of the keys that changed since the last sync
	floor   uint64
	marks   map[ring.Class]Marks
	lost    map[ring.Class]bool
	copied  bool // Restored

	hints     map[ring.NodeID]map[ring.Key]*shelfHint
	divergent map[ring.NodeID][]int
	counting  bool // HintStats and HintsIn are not known yet
	versions  uint64

	broken map[ring.Key]error // Merge of these fails
	steps  []string           // what was set, in order
}

type shelfHint struct {
	object  []byte // nil = own
	version uint64
	at      int64
}

func newShelf(actor vclock.Actor, now func() time.Time) *shelf {
	return &shelf{
		partitions: testPartitions, replicas: 3, now: now, actor: actor,
		data: make(map[ring.Key][]byte), durable: make(map[ring.Key][]byte), marks: make(map[ring.Class]Marks), lost: make(map[ring.Class]bool),
		hints: make(map[ring.NodeID]map[ring.Key]*shelfHint), divergent: make(map[ring.NodeID][]int), broken: make(map[ring.Key]error),
	}
}

const testPartitions = 1 << 10 // few leaves in each

func (s *shelf) class(k ring.Key) ring.Class {
	return ring.Class{Partition: int(k.Token / (1 << 63 / uint64(s.partitions) * 2)), N: s.replicas}
}

// object decodes what is stored. The caller holds mu.
func (s *shelf) object(k ring.Key) vclock.Object {
	if s.data[k] == nil {
		return vclock.Object{}
	}
	o, err := vclock.DecodeObject(s.data[k])
	if err != nil {
		panic(err)
	}
	return o
}

func (s *shelf) put(k ring.Key, b []byte) {
	if _, dirty := s.durable[k]; !dirty {
		s.durable[k] = s.data[k]
	}
	if s.data[k] = b; b == nil {
		delete(s.data, k)
	}
}

func (s *shelf) Get(k ring.Key) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.data[k]; b != nil {
		return b, ring.Digest(b), nil
	}
	return nil, 0, nil
}

func (s *shelf) Merge(k ring.Key, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.broken[k]; err != nil {
		return err
	}
	in, err := vclock.DecodeObject(b)
	if err != nil {
		return err
	}
	old, watermark := s.object(k), s.marks[s.class(k)].Watermark
	kept := slices.DeleteFunc(slices.Clone(in.Siblings), func(v vclock.Sibling) bool { return v.Time <= watermark && !old.Clock.Contains(v.Dot) })
	if len(kept) == 0 && len(in.Siblings) > 0 {
		return purgedError{}
	}
	in.Siblings = kept
	if out := vclock.AppendObject(nil, vclock.Merge(old, in)); !slices.Equal(out, s.data[k]) {
		s.put(k, out)
	}
	return nil
}

// write mints a version, as a coordinator would have it done: it replaces what is stored here, but for blind writes.
func (s *shelf) write(k ring.Key, value string, blind bool) vclock.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.object(k)
	for n := range s.floor { // whatever the key: another node may have written it again since it was dropped here
		o.Clock = o.Clock.With(vclock.Dot{Actor: s.actor, Counter: n + 1})
	}
	m := s.marks[s.class(k)]
	v := vclock.Sibling{Time: max(uint64(s.now().UnixNano()), m.Fence+1, m.Watermark+1, o.MaxTime()+1), Tombstone: value == ""}
	if value != "" {
		v.Value, v.ContentType = []byte(value), vclock.TypeText
	}
	var replaced vclock.Clock
	if !blind {
		replaced = o.Clock
	}
	o, _ = o.Put(s.actor, replaced, v)
	s.put(k, vclock.AppendObject(nil, o))
	return o
}

func (s *shelf) Sync(done func(error)) {
	s.mu.Lock()
	clear(s.durable)
	s.mu.Unlock()
	done(nil)
}

// crash is a power cut: what was not synced is gone.
func (s *shelf) crash(actor vclock.Actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, b := range s.durable {
		if s.data[k] = b; b == nil {
			delete(s.data, k)
		}
	}
	clear(s.durable)
	s.actor, s.floor = actor, 0
}

// restore puts the store back to an older state, and takes the votes of the classes that are known to be set back.
func (s *shelf) restore(old map[ring.Key][]byte, marks map[ring.Class]Marks, actor vclock.Actor, known []ring.Class) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.durable)
	s.data, s.actor, s.floor = maps.Clone(old), actor, 0
	if s.marks = maps.Clone(marks); known != nil {
		s.marks, s.copied = make(map[ring.Class]Marks), true
		for _, c := range known {
			s.lost[c] = true
		}
	}
}

func (s *shelf) snapshot() (map[ring.Key][]byte, map[ring.Class]Marks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.data), maps.Clone(s.marks)
}

func (s *shelf) Classes() []ring.Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[ring.Class]bool)
	for k := range s.data {
		seen[s.class(k)] = true
	}
	return slices.SortedFunc(maps.Keys(seen), ring.Class.Compare)
}

func shelfHash(token, digest uint64) uint64 {
	return ring.Digest(fmt.Appendf(nil, "%016x%016x", token, digest))
}

func (s *shelf) Leaves(dst []uint64, c ring.Class) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := ring.Leaves / s.partitions
	leaves := make([]uint64, n)
	for k, b := range s.data {
		if s.class(k) == c {
			leaves[ring.Leaf(k.Token)%n] ^= shelfHash(k.Token, ring.Digest(b))
		}
	}
	return append(dst, leaves...)
}

func (s *shelf) ReadLeaf(c ring.Class, leaf int, yield func(ring.Key, []byte, uint64) bool) (bool, error) {
	s.mu.Lock()
	var keys []ring.Key
	objects := make(map[ring.Key][]byte)
	for k, b := range s.data {
		if s.class(k) == c && ring.Leaf(k.Token) == leaf {
			keys, objects[k] = append(keys, k), b
		}
	}
	s.mu.Unlock()
	slices.SortFunc(keys, byToken)
	for _, k := range keys {
		if !yield(k, objects[k], ring.Digest(objects[k])) {
			break
		}
	}
	return true, nil
}

func byToken(a, b ring.Key) int {
	return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name))
}

func (s *shelf) VerifyPartition(int, func(int) error) (VerifyResult, error) {
	return VerifyResult{}, nil
}

func (s *shelf) Unsynced() []ring.Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lost) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(s.lost), ring.Class.Compare)
}

func (s *shelf) Restored() bool { return s.copied }

func (s *shelf) MarkSynced(classes []ring.Class) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range classes {
		delete(s.lost, c)
	}
	return nil
}

func (s *shelf) Distrust(_ string, classes []ring.Class) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range classes {
		s.lost[c] = true
		delete(s.marks, c)
	}
	return nil
}

func (s *shelf) Marks(c ring.Class) Marks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[c]
}

// set raises one mark. It is on disk, and so is everything that was written before.
func (s *shelf) set(what string, classes []ring.Class, at uint64, raise func(*Marks)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, what)
	clear(s.durable)
	for _, c := range classes {
		m := s.marks[c]
		raise(&m)
		if m.Watermark > m.Fence || m.Released > m.Watermark {
			return fmt.Errorf("marks out of order: %+v", m)
		}
		s.marks[c] = m
	}
	return nil
}

func (s *shelf) SetFence(classes []ring.Class, at uint64) error {
	return s.set("fence", classes, at, func(m *Marks) { m.Fence = max(m.Fence, at) })
}

func (s *shelf) SetWatermark(classes []ring.Class, at uint64) error {
	return s.set("watermark", classes, at, func(m *Marks) { m.Watermark = max(m.Watermark, at) })
}

func (s *shelf) SetReleased(classes []ring.Class, at uint64) error {
	return s.set("released", classes, at, func(m *Marks) { m.Released = max(m.Released, at) })
}

// collectable tells when an object may go, ok where it may at all.
func collectable(o vclock.Object) (at uint64, ok bool) {
	for _, v := range o.Siblings {
		switch {
		case v.Tombstone:
			at = max(at, v.Time)
		case v.Expiry != 0:
			at = max(at, v.Expiry)
		default:
			return 0, false
		}
	}
	return at, true
}

// drop forgets an object, but not the counters of this store. The caller holds mu.
func (s *shelf) drop(k ring.Key) {
	s.object(k).Clock.Dots(func(d vclock.Dot, _ bool) bool {
		if d.Actor == s.actor {
			s.floor = max(s.floor, d.Counter)
		}
		return true
	})
	s.put(k, nil)
}

func (s *shelf) Purge(c ring.Class, limit int) (dropped int, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.data {
		if at, ok := collectable(s.object(k)); s.class(k) == c && ok && at <= s.marks[c].Released {
			if dropped == limit {
				return dropped, true, nil
			}
			s.drop(k)
			dropped++
		}
	}
	return dropped, false, nil
}

func (s *shelf) Forget(k ring.Key, digest uint64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.data[k]; b == nil || ring.Digest(b) != digest {
		return false, nil
	}
	s.drop(k)
	return true, nil
}

func (s *shelf) Tombstones() []TombstoneStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := make(map[ring.Class]TombstoneStat)
	for k := range s.data {
		at, ok := collectable(s.object(k))
		if !ok || at > uint64(s.now().UnixNano()) {
			continue
		}
		c := s.class(k)
		t, known := stats[c]
		if !known || at < t.Oldest {
			t.Oldest = at
		}
		stats[c] = TombstoneStat{Class: c, Count: t.Count + 1, Oldest: t.Oldest}
	}
	return slices.SortedFunc(maps.Values(stats), func(a, b TombstoneStat) int { return a.Class.Compare(b.Class) })
}

// Hint keeps a hint, as writes do: with an object it is a stand-in's.
func (s *shelf) Hint(target ring.NodeID, k ring.Key, object []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.hints[target]
	if of == nil {
		of = make(map[ring.Key]*shelfHint)
		s.hints[target] = of
	}
	if h := of[k]; h != nil && h.object != nil && object != nil {
		a, errA := vclock.DecodeObject(h.object)
		b, errB := vclock.DecodeObject(object)
		if errA != nil || errB != nil {
			panic(errors.Join(errA, errB))
		}
		object = vclock.AppendObject(nil, vclock.Merge(a, b))
	}
	s.versions++
	of[k] = &shelfHint{object: object, version: s.versions, at: s.now().UnixNano()}
}

func (s *shelf) Hints(target ring.NodeID, after *ring.Key, yield func(Hint) bool) error {
	s.mu.Lock()
	keys := slices.SortedFunc(maps.Keys(s.hints[target]), byToken)
	s.mu.Unlock()
	from := 0
	if after != nil {
		from, _ = slices.BinarySearchFunc(keys, *after, byToken)
		for from < len(keys) && byToken(keys[from], *after) <= 0 {
			from++
		}
	}
	for _, k := range keys[from:] {
		s.mu.Lock()
		h := s.hints[target][k]
		var out Hint
		if h != nil {
			out = Hint{Key: k, Object: slices.Clone(h.object), Own: h.object == nil, Version: h.version}
			if out.Own {
				out.Object = slices.Clone(s.data[k])
			}
		}
		s.mu.Unlock()
		if h != nil && !yield(out) {
			break
		}
		clear(out.Object) // it was valid until then
	}
	return nil
}

func (s *shelf) DropHint(target ring.NodeID, k ring.Key, version uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.hints[target][k]; h != nil && h.version == version {
		delete(s.hints[target], k)
	}
	return nil
}

func (s *shelf) HintStats() ([]HintStat, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	targets := make(map[ring.NodeID]bool)
	for id, of := range s.hints {
		targets[id] = targets[id] || len(of) > 0
	}
	for id, of := range s.divergent {
		targets[id] = targets[id] || len(of) > 0
	}
	var out []HintStat
	for _, id := range slices.Sorted(maps.Keys(targets)) {
		if targets[id] {
			out = append(out, HintStat{Target: id, Count: int64(len(s.hints[id])), Divergent: slices.Clone(s.divergent[id])})
		}
	}
	return out, !s.counting
}

func (s *shelf) HintsIn(partition int) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for _, of := range s.hints {
		for k, h := range of {
			if h.object != nil && s.class(k).Partition == partition {
				n++
			}
		}
	}
	return n, !s.counting
}

func (s *shelf) Undiverge(target ring.NodeID, partition int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.divergent[target] = slices.DeleteFunc(s.divergent[target], func(p int) bool { return p == partition })
	return nil
}

// values lists what a reader of this node alone is shown, oldest first.
func (s *shelf) values(k ring.Key) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for _, v := range s.object(k).Siblings {
		if !v.Tombstone && (v.Expiry == 0 || v.Expiry > uint64(s.now().UnixNano())) {
			out = append(out, string(v.Value))
		}
	}
	slices.Reverse(out)
	return out
}

// party is a few nodes that talk to each other in memory.
type party struct {
	t      testing.TB
	layout *ring.Layout
	nodes  map[ring.NodeID]*guest
	ids    []ring.NodeID
	actors vclock.Actor

	mu     sync.Mutex
	meddle func(m message) meddling // nil = every message arrives
	asked  map[byte]int             // messages by kind
	held   []func()                 // messages that arrive late, if they are let go
}

type message struct {
	from, to ring.NodeID
	kind     byte
	request  []byte
}

// meddling is what becomes of a message.
type meddling struct {
	lost, answerLost, twice, held bool
	takes                         time.Duration
}

// guest is one node: it is its own Peers and Membership.
type guest struct {
	*party
	id    ring.NodeID
	shelf *shelf
	*Repairer
	down bool
	skew time.Duration
}

var errUnreachable = errors.New("connection refused")

func newParty(t testing.TB, n int, change func(*Config)) *party {
	p := &party{t: t, nodes: make(map[ring.NodeID]*guest), asked: make(map[byte]int)}
	var members []ring.Member
	for i := range n {
		id := ring.NodeID(fmt.Sprintf("%032x", i+1))
		p.ids = append(p.ids, id)
		members = append(members, ring.Member{ID: id, Name: fmt.Sprintf("n%d", i+1), Weight: 1})
	}
	layout, err := ring.First("party", testPartitions, members)
	if err != nil {
		t.Fatal(err)
	}
	p.layout = layout
	for _, id := range p.ids {
		g := &guest{party: p, id: id}
		g.shelf = newShelf(p.actor(), g.now)
		p.nodes[id] = g
		g.start(change)
	}
	return p
}

func (p *party) actor() vclock.Actor {
	p.actors++
	return p.actors
}

func (g *guest) now() time.Time { return time.Now().Add(g.skew) }

// start makes a new Repairer, as a start of the process does.
func (g *guest) start(change func(*Config)) {
	config := Config{
		Store: g.shelf, Peers: g, Membership: g, Now: g.now, NoExchange: true, NoVerify: true,
		Replicas: func(string) int { return g.shelf.replicas },
		Name:     func(id ring.NodeID) string { return "n" + string(id[31:]) },
	}
	if change != nil {
		change(&config)
	}
	r, err := New(config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.party.mu.Lock()
	g.Repairer = r
	g.party.mu.Unlock()
}

func (g *guest) Self() ring.NodeID { return g.id }

func (g *guest) Layout() *ring.Layout {
	g.party.mu.Lock()
	defer g.party.mu.Unlock()
	return g.layout
}

func (g *guest) Alive(id ring.NodeID) bool {
	g.party.mu.Lock()
	defer g.party.mu.Unlock()
	to := g.nodes[id]
	return to != nil && !to.down
}

func (p *party) setDown(id ring.NodeID, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[id].down = down
}

func (g *guest) Exchange(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	g.party.mu.Lock()
	kind := request[0]
	g.asked[kind]++
	target := g.nodes[to]
	var m meddling
	if meddle := g.meddle; meddle != nil {
		g.party.mu.Unlock()
		m = meddle(message{g.id, to, kind, request})
		g.party.mu.Lock()
	}
	dead := target == nil || target.down || g.down
	g.party.mu.Unlock()
	if dead || ctx.Err() != nil {
		return nil, errUnreachable
	}
	handle := func(ctx context.Context) ([]byte, error) {
		return target.Handle(ctx, g.id, layout, slices.Clone(request))
	}
	if m.held {
		g.party.mu.Lock()
		g.held = append(g.held, func() { _, _ = handle(context.Background()) })
		g.party.mu.Unlock()
		return nil, context.DeadlineExceeded
	}
	if m.lost {
		return nil, errUnreachable
	}
	if m.twice {
		_, _ = handle(ctx)
	}
	if err := sleep(ctx, m.takes); err != nil {
		return nil, err
	}
	answer, err := handle(ctx)
	if m.answerLost {
		return nil, context.DeadlineExceeded
	}
	return answer, err
}

// letGo has the messages arrive that were held.
func (p *party) letGo() {
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	for _, f := range held {
		f()
	}
}

// owners of a key, the collector first.
func (p *party) owners(k ring.Key) []*guest {
	var out []*guest
	for _, id := range p.layout.Owners(p.layout.Partition(k.Token), p.nodes[p.ids[0]].shelf.replicas) {
		out = append(out, p.nodes[id])
	}
	return out
}

// others are the members that do not own a key.
func (p *party) others(k ring.Key) []*guest {
	var out []*guest
	owners := p.owners(k)
	for _, id := range p.ids {
		if !slices.Contains(owners, p.nodes[id]) {
			out = append(out, p.nodes[id])
		}
	}
	return out
}

// spread gives an object to nodes.
func spread(t testing.TB, k ring.Key, o vclock.Object, to ...*guest) {
	t.Helper()
	for _, g := range to {
		if err := g.shelf.Merge(k, vclock.AppendObject(nil, o)); err != nil {
			t.Fatalf("merge on %s: %v", g.id, err)
		}
	}
}

// deliver runs what is due of the delivery of hints, once.
func (g *guest) deliver(ctx context.Context) {
	for _, start := range g.hints.due() {
		start(ctx)
	}
}

// round runs a round of collection and drops what it released, on all nodes.
func (g *guest) round(ctx context.Context) {
	g.purges.collect(ctx)
	for _, id := range g.ids {
		if n := g.nodes[id]; !n.down {
			n.purges.dropReleased(ctx)
		}
	}
}
