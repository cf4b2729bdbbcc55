package quorum

import (
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// nextNodes is how many nodes after the owners may be asked for what they hold (Explain looks there).
const nextNodes = 2

// Replica serves reads and writes of other coordinators from the local store. It trusts none of them: the layout, the
// ownership, the encoding and the timestamps are checked first. Safe for concurrent use.
type Replica struct {
	local      Local
	membership Membership
	buckets    *Buckets
	observer   Observer
	catchUp    func(from ring.NodeID, version uint64)
	state      condition        // of the local store
	now        func() time.Time // the wall clock
	began      time.Time
	mergePace  pace
}

// TryRead answers from memory only, and never blocks; ok is false where Read must be asked. A key never written has a nil
// object and digest 0.
func (r *Replica) TryRead(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest, watermark uint64, ok bool, err error) {
	if err := r.admitRead(from, layout, key); err != nil {
		return nil, 0, 0, true, err
	}
	watermark = r.state.read(key, func() { object, digest, ok = r.local.TryGet(key) })
	if digestOnly {
		object = nil
	}
	return object, digest, watermark, ok, nil
}

// Read answers from the store. The bytes are shared with the store and must not be changed. watermark is the store's; see Collector.
func (r *Replica) Read(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest, watermark uint64, err error) {
	if err := r.admitRead(from, layout, key); err != nil {
		return nil, 0, 0, err
	}
	watermark = r.state.read(key, func() { object, digest, err = r.local.Get(key) })
	if err != nil {
		return nil, 0, 0, err
	}
	if digestOnly {
		object = nil
	}
	return object, digest, watermark, nil
}

// Write merges object into the store, and answers once a crash of the process (with sync, of the machine) cannot lose it.
// done is called once, maybe later and from another goroutine; object must not change until then. An error with
// NotApplied has not touched the store. A repair brings what other replicas hold already: a disk that is full to its reserve takes it all the same.
// What was collected here as deleted is refused, unless the object holds nothing that could be shown: then this replica knows all of it.
func (r *Replica) Write(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
	o, err := r.check(from, layout, key, object)
	if err != nil {
		done(err)
		return
	}
	if !repair {
		if err := r.state.full(); err != nil {
			done(err)
			return
		}
	}
	began := time.Now()
	err = r.local.Merge(key, object)
	now := time.Now()
	r.mergePace.note(int64(now.Sub(r.began)), now.Sub(began))
	switch {
	case err != nil && purged(err) && !live(o, uint64(r.now().UnixNano())):
		done(nil)
	case err != nil:
		done(r.state.explain(err))
	case sync:
		r.local.Sync(done)
	default:
		done(nil)
	}
}

func (r *Replica) check(from ring.NodeID, layout uint64, key ring.Key, object []byte) (vclock.Object, error) {
	if _, err := r.admit(from, layout, key, 0); err != nil {
		return vclock.Object{}, err
	}
	return r.checkObject(from, object)
}

// checkObject decodes what another node sent to be kept.
func (r *Replica) checkObject(from ring.NodeID, object []byte) (vclock.Object, error) {
	o, err := vclock.DecodeObject(object)
	if err != nil {
		return vclock.Object{}, refuse("replica write: %v", err)
	}
	if o.Empty() {
		return vclock.Object{}, refuse("replica write of an empty object")
	}
	newest, now := o.MaxTime(), uint64(r.now().UnixNano())
	if newest > latestTime {
		return vclock.Object{}, refuse("a version is stamped %d ns after 1970, beyond the year 2250", newest)
	}
	for i := range o.Siblings {
		if e := o.Siblings[i].Expiry; e > latestTime {
			return vclock.Object{}, refuse("a version expires %d ns after 1970, beyond the year 2250", e)
		}
	}
	if newest > now+uint64(noticeAhead) { // kept all the same: it may stand on other disks, and contexts tell what replaces what
		r.observer.ClockSkew(from, time.Duration(newest-now))
	}
	return o, nil
}

// admitRead is admit for reads. A store that has lost something would vote for what is left of it, so it casts no vote.
func (r *Replica) admitRead(from ring.NodeID, layout uint64, key ring.Key) error {
	if err := r.state.healthy(); err != nil {
		return fmt.Errorf("this replica casts no read votes: %w", err)
	}
	c, err := r.admit(from, layout, key, nextNodes)
	if err != nil || c.N == 0 {
		return err
	}
	return r.state.votes(c)
}

// admit checks that both sides work with the same layout, and that this node owns the key under it, or is among the
// further nodes behind its owners. It returns the class of the key, the zero class where this node is no owner.
func (r *Replica) admit(from ring.NodeID, layout uint64, key ring.Key, further int) (ring.Class, error) {
	l := r.membership.Layout()
	if l == nil {
		return ring.Class{}, &refusal{text: notReady(r.membership).Detail, outcome: outcomeStale}
	}
	if err := r.sameLayout(from, l, layout); err != nil {
		return ring.Class{}, err
	}
	n, partition, self := r.buckets.Get(key.Bucket).N, l.Partition(key.Token), r.membership.Self()
	switch {
	case l.Owns(self, partition, n):
		return ring.Class{Partition: partition, N: n}, nil
	case further > 0 && l.Owns(self, partition, n+further):
		return ring.Class{}, nil
	}
	return ring.Class{}, refuse("this node does not own partition %d (n=%d): bucket settings may still be spreading", partition, n+further)
}

// sameLayout compares the layout of a message with this node's. Nodes that know different layouts may disagree about who
// owns a key, so nothing is done until the one behind has caught up.
func (r *Replica) sameLayout(from ring.NodeID, own *ring.Layout, layout uint64) error {
	switch {
	case layout == own.Version():
		return nil
	case layout < own.Version():
		return &refusal{text: "the ring has changed", stale: own.Version(), outcome: outcomeStale}
	}
	if r.catchUp != nil {
		r.catchUp(from, layout)
	}
	return &refusal{text: "this node does not know the new ring yet", outcome: outcomeStale}
}
