package quorum

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memStore is a Local in memory. Fields that fail it may be set while nothing runs, or through set.
type memStore struct {
	mu         sync.Mutex
	objects    map[ring.Key][]byte
	layout     func() *ring.Layout
	cold       bool // TryGet never answers
	getErr     error
	updateErr  error // after fn was called: the write itself failed
	mergeErr   error
	syncErr    error
	syncDelay  time.Duration
	hints      map[hintName][]byte // nil = this node's own object
	hintErr    error
	silent     map[ring.Class]bool // classes without a vote
	fullErr    error
	watermark  uint64 // of every key
	gets       atomic.Int64
	syncs      atomic.Int64
	background sync.WaitGroup
}

type hintName struct {
	target ring.NodeID
	key    ring.Key
}

func (s *memStore) Hint(target ring.NodeID, key ring.Key, object []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hintErr != nil {
		return s.hintErr
	}
	name := hintName{target, key}
	if kept := s.hints[name]; kept != nil && object != nil {
		a, errA := vclock.DecodeObject(kept)
		b, errB := vclock.DecodeObject(slices.Clone(object))
		if errA != nil || errB != nil {
			return errors.Join(errA, errB)
		}
		object = vclock.AppendObject(nil, vclock.Merge(a, b))
	}
	s.hints[name] = slices.Clone(object)
	return nil
}

func (s *memStore) HintFor(key ring.Key) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hintErr != nil {
		return nil, 0, s.hintErr
	}
	var all vclock.Object
	for name, kept := range s.hints {
		if name.key == key && kept != nil {
			o, err := vclock.DecodeObject(kept)
			if err != nil {
				return nil, 0, err
			}
			all = vclock.Merge(all, o)
		}
	}
	if all.Empty() {
		return nil, 0, nil
	}
	b := vclock.AppendObject(nil, all)
	return b, ring.Digest(b), nil
}

// hinted lists the targets of the hints for a key: kept ones by their number, own ones with a minus before it.
func (s *memStore) hinted(c *cluster, key ring.Key) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for name, kept := range s.hints {
		if i := slices.Index(c.ids, name.target) + 1; name.key == key && kept != nil {
			out = append(out, i)
		} else if name.key == key {
			out = append(out, -i)
		}
	}
	slices.Sort(out)
	return out
}

func (s *memStore) Votes(c ring.Class) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.silent[c]
}

func (s *memStore) Watermark(ring.Key) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watermark
}

func (s *memStore) Full() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fullErr
}

// set changes what fails while things run.
func (s *memStore) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func (s *memStore) TryGet(key ring.Key) ([]byte, uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cold || s.getErr != nil {
		return nil, 0, false
	}
	return s.read(key)
}

func (s *memStore) read(key ring.Key) ([]byte, uint64, bool) {
	o := s.objects[key]
	if o == nil {
		return nil, 0, true
	}
	return o, ring.Digest(o), true
}

func (s *memStore) Get(key ring.Key) ([]byte, uint64, error) {
	s.gets.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.getErr != nil {
		return nil, 0, s.getErr
	}
	o, d, _ := s.read(key)
	return o, d, nil
}

func (s *memStore) object(key ring.Key) vclock.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[key] == nil {
		return vclock.Object{}
	}
	o, err := vclock.DecodeObject(s.objects[key])
	if err != nil {
		panic(err)
	}
	return o
}

func (s *memStore) Merge(key ring.Key, object []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mergeErr != nil {
		return s.mergeErr
	}
	o, err := vclock.DecodeObject(slices.Clone(object))
	if err != nil {
		return err
	}
	if have := s.objects[key]; have != nil {
		old, err := vclock.DecodeObject(have)
		if err != nil {
			return err
		}
		o = vclock.Merge(old, o)
	}
	s.objects[key] = vclock.AppendObject(nil, o)
	return nil
}

func (s *memStore) Update(key ring.Key, fn func(old vclock.Object, after uint64) (vclock.Object, error)) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.getErr != nil {
		return nil, 0, s.getErr
	}
	var old vclock.Object
	if have := s.objects[key]; have != nil {
		var err error
		if old, err = vclock.DecodeObject(have); err != nil {
			return nil, 0, err
		}
	}
	o, err := fn(old, 0)
	if err != nil {
		return nil, 0, err
	}
	if s.updateErr != nil {
		return nil, 0, s.updateErr
	}
	b := vclock.AppendObject(nil, o)
	s.objects[key] = b
	return b, ring.Digest(b), nil
}

func (s *memStore) Sync(done func(error)) {
	s.mu.Lock()
	delay, err := s.syncDelay, s.syncErr
	s.mu.Unlock()
	s.syncs.Add(1)
	if delay == 0 {
		done(err)
		return
	}
	s.background.Go(func() { time.Sleep(delay); done(err) })
}

func (s *memStore) List(bucket, prefix string, partitions []int, after int, name string, yield func(int, string, vclock.State) bool) error {
	type entry struct {
		position
		state vclock.State
	}
	s.mu.Lock()
	if s.getErr != nil {
		defer s.mu.Unlock()
		return s.getErr
	}
	var all []entry
	l := s.layout()
	for key, b := range s.objects {
		p := position{l.Partition(key.Token), key.Name}
		if key.Bucket == bucket && strings.HasPrefix(key.Name, prefix) && slices.Contains(partitions, p.partition) && (position{after, name}).before(p) {
			o, err := vclock.DecodeObject(b)
			if err != nil {
				s.mu.Unlock()
				return err
			}
			all = append(all, entry{p, shown(o, uint64(time.Now().UnixNano())).State()})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.name, b.name))
	})
	for _, e := range all {
		if !yield(e.partition, e.name, e.state) {
			return nil
		}
	}
	return nil
}

// memMeta is a MetaStore in memory.
type memMeta struct {
	mu     sync.Mutex
	values map[string][]byte
	err    error
}

func (m *memMeta) GetMeta(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[name], m.err
}

func (m *memMeta) PutMeta(name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.values[name] = slices.Clone(value)
	}
	return m.err
}

// netError is how calls over the fake network fail.
type netError struct {
	outcome    string
	notApplied bool
}

func (e *netError) Error() string    { return "fake network: " + e.outcome }
func (e *netError) Outcome() string  { return e.outcome }
func (e *netError) NotApplied() bool { return e.notApplied }

// wireError carries a replica's error with its class, as the replica protocol does.
type wireError struct {
	text       string
	outcome    string
	notApplied bool
	stale      uint64
}

func (e *wireError) Error() string       { return e.text }
func (e *wireError) Outcome() string     { return e.outcome }
func (e *wireError) NotApplied() bool    { return e.notApplied }
func (e *wireError) StaleLayout() uint64 { return e.stale }

func cross(err error) error {
	if err == nil {
		return nil
	}
	return &wireError{err.Error(), outcomeOf(err), notApplied(err), staleLayout(err)}
}

// fate is what happens to one message.
type fate struct {
	delay       time.Duration // before it arrives
	back        time.Duration // before the answer arrives
	dropRequest bool
	dropReply   bool
	twice       bool
	err         error // instead of anything
}

// cluster is n nodes in memory with a network that can be told to misbehave.
type cluster struct {
	t      testing.TB
	layout *ring.Layout
	nodes  map[ring.NodeID]*memNode
	ids    []ring.NodeID

	mu    sync.Mutex
	fates func(from, to ring.NodeID, class string) fate
	down  map[ring.NodeID]bool // unreachable
	dead  map[ring.NodeID]bool // not alive for the failure detector
	calls map[string]int       // class, and class + " " + receiver
	group sync.WaitGroup
}

type memNode struct {
	id          ring.NodeID
	cluster     *cluster
	store       *memStore
	meta        *memMeta
	membership  *memMembership
	buckets     *Buckets
	coordinator *Coordinator
	events      *eventLog
	incarnation vclock.Actor
}

type memMembership struct {
	node   *memNode
	layout atomic.Pointer[ring.Layout]
}

func (m *memMembership) Self() ring.NodeID    { return m.node.id }
func (m *memMembership) Layout() *ring.Layout { return m.layout.Load() }
func (m *memMembership) Ready() (bool, string) {
	return m.layout.Load() != nil, "waiting for 3 fresh nodes"
}

func (m *memMembership) Alive(id ring.NodeID) bool {
	m.node.cluster.mu.Lock()
	defer m.node.cluster.mu.Unlock()
	return !m.node.cluster.dead[id]
}

// eventLog counts what the observer was told.
type eventLog struct {
	mu     sync.Mutex
	events map[string]int
	calls  map[string]int // class + " " + outcome
}

func (l *eventLog) PeerCall(_ ring.NodeID, class, outcome string, _ time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[class+" "+outcome]++
}
func (l *eventLog) Quorum(op string, code Code) { l.Event("quorum "+op+" "+string(code), 1) }
func (l *eventLog) Event(name string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[name] += n
}
func (l *eventLog) ClockSkew(ring.NodeID, time.Duration) { l.Event("clock_skew", 1) }
func (l *eventLog) count(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[name]
}

func newCluster(t testing.TB, n int, zones ...string) *cluster {
	t.Helper()
	c := &cluster{
		t: t, nodes: map[ring.NodeID]*memNode{}, down: map[ring.NodeID]bool{}, dead: map[ring.NodeID]bool{}, calls: map[string]int{},
		fates: func(ring.NodeID, ring.NodeID, string) fate { return fate{} },
	}
	var members []ring.Member
	for i := range n {
		id := nodeID(i + 1)
		m := ring.Member{ID: id, Name: fmt.Sprintf("n%d", i+1), Weight: 1}
		if len(zones) > 0 {
			m.Zone = zones[i%len(zones)]
		}
		members = append(members, m)
		c.ids = append(c.ids, id)
	}
	var err error
	if c.layout, err = ring.First("test", 16, members); err != nil {
		t.Fatal(err)
	}
	for i, id := range c.ids {
		node := &memNode{id: id, cluster: c, meta: &memMeta{values: map[string][]byte{}}, incarnation: vclock.Actor(i+1) << 32}
		node.membership = &memMembership{node: node}
		node.membership.layout.Store(c.layout)
		node.store = &memStore{objects: map[ring.Key][]byte{}, hints: map[hintName][]byte{}, silent: map[ring.Class]bool{}, layout: node.membership.Layout}
		node.events = &eventLog{events: map[string]int{}, calls: map[string]int{}}
		c.nodes[id] = node
		if node.buckets, err = NewBuckets(BucketsConfig{Meta: node.meta, Peers: node, Membership: node.membership, Local: node.store}); err != nil {
			t.Fatal(err)
		}
		node.start(Config{})
	}
	return c
}

func nodeID(i int) ring.NodeID { return ring.NodeID(fmt.Sprintf("%032x", i)) }

// start gives the node a coordinator with a new incarnation.
func (n *memNode) start(config Config) {
	n.incarnation++
	config.Local, config.Peers, config.Membership, config.Buckets = n.store, n, n.membership, n.buckets
	config.Observer, config.Incarnation = n.events, n.incarnation
	config.Rand = rand.New(rand.NewPCG(1, uint64(n.incarnation)))
	var err error
	if n.coordinator, err = New(config); err != nil {
		n.cluster.t.Fatal(err)
	}
}

// serving is the node's coordinator of now: a crash replaces it.
func (n *memNode) serving() *Coordinator {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.coordinator
}

// close ends all coordinators and waits for what is on the network.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.coordinator.Close()
		n.store.background.Wait()
	}
	c.group.Wait()
}

func (c *cluster) set(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }

func (c *cluster) sent(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[what]
}

// deliver hands over all hints whose targets take them, as often as something moves.
func (c *cluster) deliver() {
	for moved := true; moved; {
		moved = false
		for _, n := range c.nodes {
			n.store.mu.Lock()
			hints := maps.Clone(n.store.hints)
			n.store.mu.Unlock()
			for name, object := range hints {
				if object == nil {
					n.store.mu.Lock()
					object = n.store.objects[name.key]
					n.store.mu.Unlock()
				}
				c.mu.Lock()
				away := c.down[name.target] || c.down[n.id]
				c.mu.Unlock()
				if away {
					continue
				}
				var failed error
				if object != nil {
					c.nodes[name.target].serving().Replica().Write(n.id, c.layout.Version(), name.key, object, false, true, func(err error) { failed = err })
				}
				if failed == nil {
					moved = true
					n.store.set(func() {
						if bytes.Equal(n.store.hints[name], hints[name]) {
							delete(n.store.hints, name)
						}
					})
				}
			}
		}
	}
}

// owners gives the nodes that own a key, in order, then the rest.
func (c *cluster) owners(key ring.Key) []*memNode {
	var out []*memNode
	for _, id := range c.layout.Preference(c.layout.Partition(key.Token)) {
		out = append(out, c.nodes[id])
	}
	return out
}

// carry runs one message: call at the receiver, answer back here, or the error that the network makes of it. It calls
// answer exactly once, by the deadline of ctx at the latest.
func (n *memNode) carry(ctx context.Context, to ring.NodeID, class string, call func(*memNode), answer func(error)) {
	c := n.cluster
	c.mu.Lock()
	c.calls[class]++
	c.calls[class+" "+string(to)]++
	f, down := c.fates(n.id, to, class), c.down[to] || c.down[n.id]
	c.mu.Unlock()
	switch {
	case f.err != nil:
		answer(f.err)
		return
	case down:
		answer(&netError{outcomeUnreachable, true})
		return
	case f == fate{}:
		call(c.nodes[to])
		answer(nil)
		return
	}
	limit, ok := ctx.Deadline()
	if !ok {
		limit = time.Now().Add(time.Minute)
	}
	c.group.Go(func() {
		lose := func() {
			time.Sleep(time.Until(limit))
			answer(&netError{outcomeTimeout, false})
		}
		time.Sleep(f.delay)
		c.mu.Lock()
		gone := c.down[to]
		c.mu.Unlock()
		if f.dropRequest || gone {
			lose()
			return
		}
		call(c.nodes[to])
		if f.twice {
			call(c.nodes[to])
		}
		time.Sleep(f.back)
		if f.dropReply || time.Now().After(limit) {
			lose()
			return
		}
		answer(nil)
	})
}

func (n *memNode) Read(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, digestOnly bool, done func([]byte, uint64, uint64, error)) {
	class := "read"
	if digestOnly {
		class = "digest"
	}
	var object []byte
	var digest, mark uint64
	var failed error
	n.carry(ctx, to, class, func(r *memNode) {
		var ok bool
		if object, digest, mark, ok, failed = r.serving().Replica().TryRead(n.id, layout, key, digestOnly); !ok {
			object, digest, mark, failed = r.serving().Replica().Read(n.id, layout, key, digestOnly)
		}
	}, func(err error) {
		if err != nil {
			done(nil, 0, 0, err)
			return
		}
		done(slices.Clone(object), digest, mark, cross(failed))
	})
}

func (n *memNode) Write(ctx context.Context, to ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
	object = slices.Clone(object)
	var failed error
	n.carry(ctx, to, "write", func(r *memNode) {
		wait := make(chan error, 1)
		r.serving().Replica().Write(n.id, layout, key, object, sync, repair, func(err error) { wait <- err })
		failed = <-wait
	}, func(err error) { done(errors.Join(err, cross(failed))) })
}

// blocking runs a call of the request and answer kind.
func (n *memNode) blocking(ctx context.Context, to ring.NodeID, class string, call func(*memNode) ([]byte, error)) ([]byte, error) {
	type reply struct {
		b   []byte
		err error
	}
	got := make(chan reply, 1)
	var b []byte
	var failed error
	n.carry(ctx, to, class, func(r *memNode) { b, failed = call(r) }, func(err error) {
		if err != nil {
			got <- reply{nil, err}
			return
		}
		got <- reply{b, cross(failed)}
	})
	select {
	case r := <-got:
		return r.b, r.err
	case <-ctx.Done():
		return nil, &netError{outcomeTimeout, false}
	}
}

func (n *memNode) Coordinate(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	return n.blocking(ctx, to, "coordinate", func(r *memNode) ([]byte, error) {
		return r.serving().HandleCoordinate(ctx, n.id, layout, slices.Clone(request))
	})
}

func (n *memNode) List(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	return n.blocking(ctx, to, "list", func(r *memNode) ([]byte, error) {
		return r.serving().HandleList(ctx, n.id, layout, request)
	})
}

func (n *memNode) Standin(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	return n.blocking(ctx, to, "standin", func(r *memNode) ([]byte, error) {
		return r.serving().HandleStandin(ctx, n.id, layout, slices.Clone(request))
	})
}

func (n *memNode) Settings(ctx context.Context, to ring.NodeID, payload []byte) ([]byte, error) {
	return n.blocking(ctx, to, "settings", func(r *memNode) ([]byte, error) {
		return r.buckets.HandleSettings(ctx, n.id, slices.Clone(payload))
	})
}

func text(s string) Value { return Value{ContentType: vclock.TypeText, Bytes: []byte(s)} }

// values are the texts that an object shows, sorted.
func values(o vclock.Object) []string {
	var out []string
	for _, s := range o.Siblings {
		if !s.Tombstone {
			out = append(out, string(s.Value))
		}
	}
	slices.Sort(out)
	return out
}

// errorOf checks that err is an *Error with this code.
func errorOf(t testing.TB, err error, code Code) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want one of type *Error with code %s", err, code)
	}
	if e.Code != code {
		t.Fatalf("got code %s (%v), want %s", e.Code, err, code)
	}
	return e
}
