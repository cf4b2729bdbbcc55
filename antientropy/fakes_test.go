package antientropy

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// errDamaged is what a store says of an object that cannot be read.
var errDamaged = errors.New("checksum is wrong")

// purgedError is what a store says of an object that was collected.
type purgedError struct{}

func (purgedError) Error() string    { return "all of it was collected" }
func (purgedError) Purged() bool     { return true }
func (purgedError) NotApplied() bool { return true }

// treeStore is a Store in memory with real trees. The fields below faults are read under mu.
type treeStore struct {
	partitions int
	replicas   func(bucket string) int

	mu       sync.Mutex
	objects  map[ring.Key][]byte
	leaf     map[int]map[ring.Key]bool
	trees    map[ring.Class][]uint64
	marks    map[ring.Class]Marks
	unsynced map[ring.Class]bool
	restored bool
	synced   []ring.Class // ever marked, in order
	why      []string     // of Distrust

	// faults
	damaged    map[ring.Key]bool // cannot be read
	unsound    map[int]bool      // leaves whose tree is not what they hold
	recomputed bool              // trees are unknown
	mergeErr   error
	syncErr    error
	syncDelay  time.Duration
	onMerge    func(ring.Key)
	verify     func(partition int, pace func(int) error) (VerifyResult, error)

	merges, reads, syncs, leafReads atomic.Int64
}

func newTreeStore(partitions int) *treeStore {
	return &treeStore{
		partitions: partitions, replicas: func(string) int { return 3 }, objects: map[ring.Key][]byte{}, leaf: map[int]map[ring.Key]bool{}, trees: map[ring.Class][]uint64{},
		marks: map[ring.Class]Marks{}, unsynced: map[ring.Class]bool{}, damaged: map[ring.Key]bool{}, unsound: map[int]bool{},
	}
}

func (s *treeStore) class(key ring.Key) ring.Class {
	leaf := ring.Leaf(key.Token)
	return ring.Class{Partition: leaf / (ring.Leaves / s.partitions), N: s.replicas(key.Bucket)}
}

func leafHash(token, digest uint64) uint64 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], token)
	binary.BigEndian.PutUint64(b[8:], digest)
	return ring.Digest(b[:])
}

// put stores an encoding, nil for none, and keeps the tree. The caller holds mu.
func (s *treeStore) put(key ring.Key, object []byte) {
	c := s.class(key)
	if s.trees[c] == nil {
		s.trees[c] = make([]uint64, ring.Leaves/s.partitions)
	}
	leaf := ring.Leaf(key.Token)
	at := &s.trees[c][leaf-c.Partition*(ring.Leaves/s.partitions)]
	if old := s.objects[key]; old != nil {
		*at ^= leafHash(key.Token, ring.Digest(old))
	}
	if object == nil {
		delete(s.objects, key)
		delete(s.leaf[leaf], key)
		return
	}
	*at ^= leafHash(key.Token, ring.Digest(object))
	s.objects[key] = object
	if s.leaf[leaf] == nil {
		s.leaf[leaf] = map[ring.Key]bool{}
	}
	s.leaf[leaf][key] = true
}

// computed tells whether the trees are not being computed anew.
func (s *treeStore) computed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.recomputed
}

// vanish takes an object away behind the tree's back.
func (s *treeStore) vanish(key ring.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	delete(s.leaf[ring.Leaf(key.Token)], key)
	s.unsound[ring.Leaf(key.Token)] = true
}

func (s *treeStore) Classes() []ring.Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ring.Class
	for c, leaves := range s.trees {
		if slices.ContainsFunc(leaves, func(h uint64) bool { return h != 0 }) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, ring.Class.Compare)
	return out
}

func (s *treeStore) Leaves(dst []uint64, c ring.Class) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if leaves := s.trees[c]; leaves != nil {
		return append(dst, leaves...)
	}
	return append(dst, make([]uint64, ring.Leaves/s.partitions)...)
}

func (s *treeStore) ReadLeaf(c ring.Class, leaf int, yield func(ring.Key, []byte, uint64) bool) (bool, error) {
	s.leafReads.Add(1)
	s.mu.Lock()
	var keys []ring.Key
	for key := range s.leaf[leaf] {
		if s.class(key) == c {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b ring.Key) int {
		return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name))
	})
	objects := make([][]byte, len(keys))
	var err error
	for i, key := range keys {
		if s.damaged[key] {
			err = fmt.Errorf("%q: %w", key.Name, errDamaged)
			continue
		}
		objects[i] = s.objects[key]
	}
	sound := !s.unsound[leaf] && !s.recomputed
	s.mu.Unlock()
	for i, key := range keys {
		if objects[i] == nil {
			continue
		}
		s.reads.Add(1)
		if !yield(key, objects[i], ring.Digest(objects[i])) {
			break
		}
	}
	return sound, err
}

func (s *treeStore) VerifyPartition(partition int, pace func(int) error) (VerifyResult, error) {
	if s.verify != nil {
		return s.verify(partition, pace)
	}
	return VerifyResult{}, nil
}

func (s *treeStore) Get(key ring.Key) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damaged[key] {
		return nil, 0, errDamaged
	}
	if o := s.objects[key]; o != nil {
		return o, ring.Digest(o), nil
	}
	return nil, 0, nil
}

// Merge is what the real store does, with its rule about what was collected: a version at or below the watermark that is not known is
// taken for covered, where the leaf proves that the key is absent.
func (s *treeStore) Merge(key ring.Key, object []byte) error {
	s.merges.Add(1)
	if s.onMerge != nil {
		s.onMerge(key)
	}
	incoming, err := vclock.DecodeObject(slices.Clone(object))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mergeErr != nil {
		return s.mergeErr
	}
	if s.damaged[key] {
		return errDamaged
	}
	var old vclock.Object
	if have := s.objects[key]; have != nil {
		if old, err = vclock.DecodeObject(have); err != nil {
			return err
		}
	}
	if at := s.marks[s.class(key)].Watermark; at > 0 {
		clock := old.Clock
		late := false
		for _, sib := range incoming.Siblings {
			if sib.Time <= at && !old.Clock.Contains(sib.Dot) {
				clock, late = clock.With(sib.Dot), true
			}
		}
		if late {
			if s.unsound[ring.Leaf(key.Token)] {
				return errors.New("the leaf is not sound")
			}
			covered := vclock.Object{Clock: clock, Siblings: old.Siblings}
			if old.Empty() {
				left := slices.DeleteFunc(slices.Clone(incoming.Siblings), func(sib vclock.Sibling) bool { return clock.Contains(sib.Dot) })
				if len(left) == 0 {
					return purgedError{}
				}
			}
			old = covered
		}
	}
	s.put(key, vclock.AppendObject(nil, vclock.Merge(old, incoming)))
	return nil
}

func (s *treeStore) Sync(done func(error)) {
	s.mu.Lock()
	err, delay := s.syncErr, s.syncDelay
	s.mu.Unlock()
	s.syncs.Add(1)
	if delay == 0 {
		done(err)
		return
	}
	time.AfterFunc(delay, func() { done(err) })
}

func (s *treeStore) Unsynced() []ring.Class {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.unsynced), ring.Class.Compare)
}

func (s *treeStore) Restored() bool { return s.restored }

func (s *treeStore) MarkSynced(classes []ring.Class) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range classes {
		delete(s.unsynced, c)
	}
	s.synced = append(s.synced, classes...)
	return nil
}

func (s *treeStore) Distrust(why string, classes []ring.Class) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range classes {
		s.unsynced[c] = true
		delete(s.marks, c)
	}
	s.why = append(s.why, why)
	return nil
}

func (s *treeStore) Marks(c ring.Class) Marks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marks[c]
}

func (s *treeStore) mark(classes []ring.Class, set func(*Marks)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range classes {
		m := s.marks[c]
		set(&m)
		s.marks[c] = m
	}
	return nil
}

func (s *treeStore) SetFence(classes []ring.Class, at uint64) error {
	return s.mark(classes, func(m *Marks) { m.Fence = max(m.Fence, at) })
}

func (s *treeStore) SetWatermark(classes []ring.Class, at uint64) error {
	return s.mark(classes, func(m *Marks) { m.Watermark = max(m.Watermark, at) })
}

func (s *treeStore) SetReleased(classes []ring.Class, at uint64) error {
	return s.mark(classes, func(m *Marks) { m.Released = max(m.Released, at) })
}

func (s *treeStore) Purge(ring.Class, int) (int, bool, error) { return 0, false, nil }

func (s *treeStore) Forget(key ring.Key, digest uint64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[key]; o == nil || ring.Digest(o) != digest {
		return false, nil
	}
	s.put(key, nil)
	return true, nil
}

func (s *treeStore) Tombstones() []TombstoneStat { return nil }

func (s *treeStore) Hints(ring.NodeID, *ring.Key, func(Hint) bool) error { return nil }
func (s *treeStore) DropHint(ring.NodeID, ring.Key, uint64) error        { return nil }
func (s *treeStore) HintStats() ([]HintStat, bool)                       { return nil, true }
func (s *treeStore) HintsIn(int) (int64, bool)                           { return 0, true }
func (s *treeStore) Undiverge(ring.NodeID, int) error                    { return nil }

// write is what a client's write does on one replica: it replaces what is there. It returns the object.
func (s *treeStore) write(actor vclock.Actor, key ring.Key, sib vclock.Sibling) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old vclock.Object
	if have := s.objects[key]; have != nil {
		old, _ = vclock.DecodeObject(have)
	}
	sib.Time = max(sib.Time, old.MaxTime()+1)
	next, _ := old.Put(actor, old.Clock, sib)
	b := vclock.AppendObject(nil, next)
	s.put(key, b)
	return b
}

func (s *treeStore) dump() map[ring.Key]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[ring.Key]string, len(s.objects))
	for key, o := range s.objects {
		out[key] = string(o)
	}
	return out
}

// sea is the network between the Repairers of a test.
type sea struct {
	nodes map[ring.NodeID]*ship

	mu       sync.Mutex
	messages int
	bytes    int
	kinds    map[byte]int
	// fault sees each message before it is delivered. An error of it is what the sender gets; twice delivers it two times.
	fault func(from, to ring.NodeID, request []byte) (delay time.Duration, twice bool, err error)
}

// ship is one node of a test.
type ship struct {
	*Repairer
	id     ring.NodeID
	sea    *sea
	store  *treeStore
	layout atomic.Pointer[ring.Layout]
	dead   atomic.Bool // as the others see it; and it answers nothing
	config Config
	actor  vclock.Actor
}

func (s *ship) Self() ring.NodeID          { return s.id }
func (s *ship) Layout() *ring.Layout       { return s.layout.Load() }
func (s *ship) Alive(id ring.NodeID) bool  { n := s.sea.nodes[id]; return n != nil && !n.dead.Load() }
func (s *ship) name(id ring.NodeID) string { return "n" + string(id[:1]) }

func (s *ship) Exchange(ctx context.Context, to ring.NodeID, layout uint64, request []byte) ([]byte, error) {
	net, target := s.sea, s.sea.nodes[to]
	net.mu.Lock()
	net.messages++
	net.kinds[request[0]]++
	net.bytes += len(request)
	fault := net.fault
	net.mu.Unlock()
	var delay time.Duration
	var twice bool
	if fault != nil {
		var err error
		if delay, twice, err = fault(s.id, to, request); err != nil {
			return nil, err
		}
	}
	if delay > 0 {
		if err := sleep(ctx, delay); err != nil {
			return nil, err
		}
	}
	if target == nil || target.dead.Load() {
		return nil, errors.New("unreachable")
	}
	if twice {
		if _, err := target.Handle(ctx, s.id, layout, slices.Clone(request)); err != nil {
			return nil, err
		}
	}
	answer, err := target.Handle(ctx, s.id, layout, slices.Clone(request))
	if err != nil {
		return nil, err
	}
	net.mu.Lock()
	net.bytes += len(answer)
	net.mu.Unlock()
	return slices.Clone(answer), nil
}

// forgetTraffic sets the counts of messages back.
func (n *sea) forgetTraffic() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.messages, n.bytes, n.kinds = 0, 0, map[byte]int{}
}

// traffic is how many messages were sent, how many of them by kind, and the bytes of both ways.
func (n *sea) traffic() (messages, bytes int, kinds map[byte]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.messages, n.bytes, maps.Clone(n.kinds)
}

func nodeID(i int) ring.NodeID { return ring.NodeID(fmt.Sprintf("%x%031x", i+1, i+1)) }

// testLayout is version 1 for so many nodes.
func testLayout(t testing.TB, partitions, nodes int) *ring.Layout {
	t.Helper()
	var members []ring.Member
	for i := range nodes {
		members = append(members, ring.Member{ID: nodeID(i), Name: fmt.Sprintf("n%x", i+1), Weight: 1})
	}
	l, err := ring.First("test", partitions, members)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fleet makes nodes that own everything together where there are three, and know each other. Nothing runs yet.
func fleet(t testing.TB, partitions, nodes int, adapt func(*Config)) []*ship {
	t.Helper()
	net := &sea{nodes: map[ring.NodeID]*ship{}, kinds: map[byte]int{}}
	l := testLayout(t, partitions, nodes)
	var ships []*ship
	for i := range nodes {
		s := &ship{id: nodeID(i), sea: net, store: newTreeStore(partitions), actor: vclock.Actor(i + 1)}
		s.layout.Store(l)
		s.config = Config{Store: s.store, Peers: s, Membership: s, Name: s.name, Rand: rand.New(rand.NewPCG(uint64(i), 1)), NoHints: true, NoPurge: true, NoVerify: true}
		s.config.Sound = func(ring.Class) bool { return s.store.computed() }
		if adapt != nil {
			adapt(&s.config)
		}
		s.reopen(t)
		net.nodes[s.id] = s
		ships = append(ships, s)
	}
	return ships
}

// reopen makes a new Repairer, as a restart of the process does.
func (s *ship) reopen(t testing.TB) {
	t.Helper()
	r, err := New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.Repairer = r
}

// run starts the Repairers, and returns what stops them.
func run(t testing.TB, ships ...*ship) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range ships {
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// write writes one value on one node.
func (s *ship) write(key ring.Key, value string) []byte {
	return s.store.write(s.actor, key, vclock.Sibling{Time: uint64(time.Now().UnixNano()), ContentType: vclock.TypeText, Value: []byte(value)})
}

// remove writes a tombstone.
func (s *ship) remove(key ring.Key) []byte {
	return s.store.write(s.actor, key, vclock.Sibling{Time: uint64(time.Now().UnixNano()), Tombstone: true})
}

func testKey(i int) ring.Key { return ring.NewKey("b", fmt.Sprintf("key-%d", i)) }

// everywhere writes the same on all nodes.
func everywhere(t testing.TB, ships []*ship, keys int) {
	t.Helper()
	for i := range keys {
		o := ships[0].write(testKey(i), fmt.Sprintf("value %d", i))
		for _, s := range ships[1:] {
			if err := s.store.Merge(testKey(i), o); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// mustExchange exchanges all shared classes and wants no error.
func mustExchange(t testing.TB, a, b *ship) exchangeResult {
	t.Helper()
	result, err := a.exchangeWith(t.Context(), b.id, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// unequal lists the classes that an exchange did not find or make equal.
func unequal(result exchangeResult) (out []classResult) {
	for _, c := range result.Classes {
		if !c.Equal {
			out = append(out, c)
		}
	}
	return out
}

// sameEverywhere fails the test unless all nodes hold the same.
func sameEverywhere(t testing.TB, ships ...*ship) {
	t.Helper()
	want := ships[0].store.dump()
	for _, s := range ships[1:] {
		got := s.store.dump()
		for key := range want {
			if got[key] != want[key] {
				t.Fatalf("%s and %s differ in %q", s.name(s.id), ships[0].name(ships[0].id), key.Name)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s holds %d objects, %s %d", s.name(s.id), len(got), ships[0].name(ships[0].id), len(want))
		}
	}
}

func decoded(t testing.TB, b []byte) vclock.Object {
	t.Helper()
	o, err := vclock.DecodeObject(b)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
