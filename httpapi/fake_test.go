package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// replica is a whole database with one replica: what the API needs behind it to keep all its promises. A function in its
// place overrides an operation.
type replica struct {
	mu      sync.Mutex
	objects map[ring.Key]vclock.Object
	buckets map[string]quorum.Bucket
	time    uint64
	layout  *ring.Layout

	get     func(context.Context, ring.Key, quorum.ReadOptions) (quorum.ReadResult, error)
	put     func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error)
	explain func(context.Context, ring.Key) (quorum.Explanation, error)
	set     func(string, quorum.Bucket) error
	ready   func() (bool, string)
	repair  func(context.Context, int, func(RepairProgress)) error
	repairs *RepairView
	paused  bool
}

func newReplica(t testing.TB) *replica {
	t.Helper()
	var members []ring.Member
	for i := range 3 {
		members = append(members, ring.Member{ID: ring.NodeID(strings.Repeat(fmt.Sprint(i), 32)), Name: fmt.Sprintf("n%d", i+1), Weight: 1})
	}
	layout, err := ring.First("cluster-under-test", 16, members)
	if err != nil {
		t.Fatal(err)
	}
	return &replica{objects: map[ring.Key]vclock.Object{}, buckets: map[string]quorum.Bucket{}, time: 1_700_000_000_123_456_789, layout: layout}
}

const testActor vclock.Actor = 0xa1

func (f *replica) receipt(w int) quorum.Receipt {
	return quorum.Receipt{N: 3, Required: w, Acked: w, Durable: w, Replied: w, Agreed: true, Ring: 1, Coordinator: "n1"}
}

func (f *replica) Get(ctx context.Context, key ring.Key, o quorum.ReadOptions) (quorum.ReadResult, error) {
	if f.get != nil {
		return f.get(ctx, key, o)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	object := shown(f.objects[key])
	if o.Session != nil && !object.Clock.Covers(o.Session.Clock) {
		return quorum.ReadResult{}, &quorum.Error{Code: quorum.CodeTimeout, Detail: "no reachable replica has seen everything that the context covers", N: 3, Required: 2, Acked: 3}
	}
	return quorum.ReadResult{Object: object, Receipt: f.full(f.receipt(2), o.FullReceipt)}, nil
}

// shown is an object as readers see it: what has expired is deleted.
func shown(o vclock.Object) vclock.Object {
	o.Siblings = slices.Clone(o.Siblings)
	for i, s := range o.Siblings {
		if s.Expiry != 0 && s.Expiry <= uint64(time.Now().UnixNano()) {
			o.Siblings[i] = vclock.Sibling{Dot: s.Dot, Time: s.Time, Tombstone: true}
		}
	}
	return o
}

func (f *replica) full(r quorum.Receipt, full bool) quorum.Receipt {
	if full {
		r.Replicas = []quorum.ReplicaReceipt{{Node: "n1", Role: "owner", OK: true, Durable: true, Took: 1234567}, {Node: "n2", Role: "owner", Error: "no answer in time"}}
	}
	return r
}

func (f *replica) Put(ctx context.Context, key ring.Key, v quorum.Value, o quorum.WriteOptions) (quorum.WriteResult, error) {
	if f.put != nil {
		return f.put(ctx, key, v, o)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.objects[key]
	var seen vclock.Context
	switch {
	case o.Context != nil:
		seen = *o.Context
	case !o.Fresh:
		seen = old.Context()
	}
	if len(old.Siblings) >= 100 && o.Fresh {
		c := old.Context()
		return quorum.WriteResult{}, &quorum.Error{Code: quorum.CodeSiblings, Detail: "100 siblings", Outcome: quorum.NotApplied, Context: &c}
	}
	f.time = max(f.time, seen.Time) + 1
	s := vclock.Sibling{Tombstone: v.Delete}
	if ttl := cmp.Or(v.TTL, f.settingsOf(key.Bucket).TTL); ttl > 0 && !v.Delete {
		f.time = max(f.time, uint64(time.Now().UnixNano()))
		s.Expiry = f.time + uint64(ttl)
	}
	s.Time = f.time
	if !v.Delete {
		s.ContentType, s.Value = strings.Clone(v.ContentType), bytes.Clone(v.Bytes)
	}
	object, dot := old.Put(testActor, seen.Clock, s)
	if f.buckets[key.Bucket].LWW {
		object = object.LastWriter()
	}
	f.objects[ring.Key{Bucket: strings.Clone(key.Bucket), Name: strings.Clone(key.Name), Token: key.Token}] = object
	w := 2
	if o.W > 0 {
		w = int(o.W)
	}
	result := quorum.WriteResult{Context: seen.With(dot, s.Time), Dot: dot, Expiry: s.Expiry, Receipt: f.full(f.receipt(w), o.FullReceipt)}
	if o.ReturnValue {
		result.Object = shown(object)
	}
	return result, nil
}

func (f *replica) List(_ context.Context, bucket string, o quorum.ListOptions) (quorum.ListPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for k, object := range f.objects {
		if k.Bucket == bucket && strings.HasPrefix(k.Name, o.Prefix) && shown(object).Values() > 0 {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	if o.Cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(o.Cursor)
		if err != nil {
			return quorum.ListPage{}, &quorum.Error{Code: quorum.CodeInvalid, Detail: "this is not a cursor"}
		}
		i, found := slices.BinarySearch(names, string(after))
		if found {
			i++
		}
		names = names[i:]
	}
	var page quorum.ListPage
	if len(names) > o.Limit {
		names = names[:o.Limit]
		page.Cursor = base64.RawURLEncoding.EncodeToString([]byte(names[len(names)-1]))
	}
	page.Keys = names
	if o.Values {
		for _, name := range names {
			page.Objects = append(page.Objects, shown(f.objects[ring.NewKey(bucket, name)]))
		}
	}
	return page, nil
}

func (f *replica) Explain(ctx context.Context, key ring.Key) (quorum.Explanation, error) {
	if f.explain != nil {
		return f.explain(ctx, key)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	object := f.objects[key]
	e := quorum.Explanation{Partition: f.layout.Partition(key.Token), Token: key.Token, Ring: 1, Bucket: f.settingsOf(key.Bucket), Preference: []string{"n1", "n2", "n3"}}
	for _, name := range e.Preference {
		e.Replicas = append(e.Replicas, quorum.ReplicaState{
			ReplicaReceipt: quorum.ReplicaReceipt{Node: name, Role: "owner", OK: true}, Found: !object.Empty(), Object: object,
			Digest: ring.Digest(vclock.AppendObject(nil, object)),
		})
	}
	return e, nil
}

// settingsOf is Get of the settings, with the lock held.
func (f *replica) settingsOf(bucket string) quorum.Bucket {
	if b, ok := f.buckets[bucket]; ok {
		return b
	}
	return quorum.DefaultBucket
}

// settings is the replica as a registry of bucket settings.
type settings struct{ f *replica }

func (s settings) Get(bucket string) quorum.Bucket {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return s.f.settingsOf(bucket)
}

func (s settings) All() map[string]quorum.Bucket {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	return maps.Clone(s.f.buckets)
}

func (s settings) Set(_ context.Context, bucket string, b quorum.Bucket) error {
	if s.f.set != nil {
		return s.f.set(bucket, b)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if b.N != s.f.settingsOf(bucket).N {
		for k := range s.f.objects {
			if k.Bucket == bucket {
				return &quorum.Error{Code: quorum.CodeConflict, Detail: "the bucket holds keys", Outcome: quorum.NotApplied}
			}
		}
	}
	s.f.buckets[strings.Clone(bucket)] = b
	return nil
}

func (s settings) Delete(ctx context.Context, bucket string) error {
	if err := s.Set(ctx, bucket, quorum.DefaultBucket); err != nil {
		return err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	delete(s.f.buckets, bucket)
	return nil
}

// Node.

func (f *replica) Ready() (bool, string) {
	if f.ready != nil {
		return f.ready()
	}
	return true, ""
}
func (f *replica) Layout() *ring.Layout { return f.layout }
func (f *replica) Cluster() ClusterView {
	v := ClusterView{Cluster: "test", Ring: 1}
	for _, m := range f.layout.Members() {
		v.Members = append(v.Members, MemberView{Name: m.Name, ID: string(m.ID), HTTP: "127.0.0.1:1", Peer: "127.0.0.1:2", Gossip: "127.0.0.1:3", Weight: 1, State: "member", Health: "alive", Partitions: 16, Version: "test"})
	}
	return v
}

func (f *replica) Status() NodeView {
	return NodeView{Name: "n1", ID: strings.Repeat("0", 32), Cluster: "test", Ring: 1, HTTP: "127.0.0.1:1", Peer: "127.0.0.1:2", Gossip: "127.0.0.1:3", Weight: 1, Version: "test", Incarnation: "00000000000000a1", Ready: true, UptimeS: 1.5, Partitions: 16, Hints: f.Hints().Targets, Repair: f.debt(), Disk: DiskView{FreeBytes: 1 << 30, TotalBytes: 8 << 30, ReserveBytes: 1 << 28}, Tombstones: f.Tombstones().TombstonesSummary}
}

func (f *replica) debt() RepairView {
	if f.repairs != nil {
		return *f.repairs
	}
	age := 3600.0
	return RepairView{
		OldestEqualS: 12.5, NeverEqual: 1, Unsynced: 2, Exchanges: 9, Failed: 2, ObjectsSent: 5, ObjectsReceived: 6, Bytes: 700,
		VerifiedObjects: 80, DamagedObjects: 1, WrongLeaves: 3, VerifyAgeS: &age,
	}
}

func (f *replica) Stats() Stats {
	d := Durations{Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []uint64{3, 2, 1}, Count: 6, Sum: 5 * time.Second}
	return Stats{
		Store: StoreStats{Gets: 7, CacheHits: 3, JournalSyncs: d, OtherSyncs: d, LiveKeys: 5, LiveKeysKnown: true, Levels: []LevelStats{{Tables: 1, Bytes: 2}}},
		Peers: []PeerStats{{ID: "1", Connections: 2}},
		Hints: f.Hints(), Repair: f.debt(), Disk: DiskView{FreeBytes: 1 << 30, TotalBytes: 8 << 30, ReserveBytes: 1 << 28}, Tombstones: f.Tombstones(),
	}
}

func (f *replica) Partitions() []PartitionView {
	age := 3.5
	return []PartitionView{
		{Partition: 0, N: 3, Root: "00000000000000ff", EqualS: &age, Peers: []PeerDebt{{Node: "n2", EqualS: &age}, {Node: "n3", EqualS: &age}}, Synced: true},
		{Partition: 7, N: 3, Root: "0000000000000000", Peers: []PeerDebt{{Node: "n2", Error: "no answer in time"}}},
	}
}

func (f *replica) Hints() HintsView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return HintsView{Paused: f.paused, Known: true, Targets: []HintView{
		{Target: "n2", ID: strings.Repeat("1", 32), Count: 3, Bytes: 300, OldestS: 12.5, Delivered: 7, Rate: 1.5, Error: "not alive", DivergentPartitions: 2},
	}}
}

func (f *replica) PauseHints(paused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = paused
}

func (f *replica) Tombstones() TombstonesView {
	age := 60.0
	return TombstonesView{
		TombstonesSummary: TombstonesSummary{Waiting: 5, OldestS: 90, Blocker: "n3 is not alive"}, Collected: 11, Refused: 1,
		Partitions: []TombstonesPartition{{Partition: 3, N: 3, Waiting: 5, OldestS: 90, WatermarkS: &age, Blocker: "n3 is not alive"}},
	}
}

func (f *replica) Repair(ctx context.Context, partition int, progress func(RepairProgress)) error {
	if f.repair != nil {
		return f.repair(ctx, partition, progress)
	}
	total := f.layout.Partitions()
	if partition >= 0 {
		total = 1
	}
	progress(RepairProgress{Peer: "n2", Partitions: total, Total: total, Different: 1, Sent: 2, Received: 3, Read: 5, Bytes: 900, Seconds: .25})
	progress(RepairProgress{Partitions: total, Total: total, Different: 1, Sent: 2, Received: 3, Read: 5, Bytes: 900, Seconds: .5, Done: true, OK: true})
	return nil
}

// serve runs a server over loopback sockets, with its own limits on connections.
func serve(t testing.TB, f *replica, change func(*Config)) (url string, s *Server) {
	t.Helper()
	sealer := vclock.NewSealer(f.layout.Cluster())
	config := Config{Coordinator: f, Buckets: settings{f}, Node: f, Sealer: func() *vclock.Sealer { return sealer }, Version: "test"}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	l := httptest.NewUnstartedServer(nil).Listener
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), s
}
