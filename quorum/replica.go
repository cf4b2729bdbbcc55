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
	healthy    func() error     // of the local store
	now        func() time.Time // the wall clock
}

// TryRead answers from memory only, and never blocks; ok is false where Read must be asked. A key never written has a nil
// object and digest 0.
func (r *Replica) TryRead(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest uint64, ok bool, err error) {
	if err := r.admitRead(from, layout, key); err != nil {
		return nil, 0, true, err
	}
	object, digest, ok = r.local.TryGet(key)
	if digestOnly {
		object = nil
	}
	return object, digest, ok, nil
}

// Read answers from the store. The bytes are shared with the store and must not be changed.
func (r *Replica) Read(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest uint64, err error) {
	if err := r.admitRead(from, layout, key); err != nil {
		return nil, 0, err
	}
	object, digest, err = r.local.Get(key)
	if err != nil {
		return nil, 0, err
	}
	if digestOnly {
		object = nil
	}
	return object, digest, nil
}

// Write merges object into the store, and answers once a crash of the process (with sync, of the machine) cannot lose it.
// done is called once, maybe later and from another goroutine; object must not change until then. An error with
// NotApplied has not touched the store.
func (r *Replica) Write(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
	if err := r.check(from, layout, key, object); err != nil {
		done(err)
		return
	}
	if err := r.local.Merge(key, object); err != nil {
		done(err)
		return
	}
	if sync {
		r.local.Sync(done)
		return
	}
	done(nil)
}

func (r *Replica) check(from ring.NodeID, layout uint64, key ring.Key, object []byte) error {
	if err := r.admit(from, layout, key, 0); err != nil {
		return err
	}
	o, err := vclock.DecodeObject(object)
	if err != nil {
		return refuse("replica write: %v", err)
	}
	if o.Empty() {
		return refuse("replica write of an empty object")
	}
	newest, now := o.MaxTime(), uint64(r.now().UnixNano())
	if newest > latestTime {
		return refuse("a version is stamped %d ns after 1970, beyond the year 2250", newest)
	}
	if newest > now+uint64(noticeAhead) { // kept all the same: it may stand on other disks, and contexts tell what replaces what
		r.observer.ClockSkew(from, time.Duration(newest-now))
	}
	return nil
}

// admitRead is admit for reads. A store that has lost something would vote for what is left of it, so it casts no vote.
func (r *Replica) admitRead(from ring.NodeID, layout uint64, key ring.Key) error {
	if err := r.healthy(); err != nil {
		return fmt.Errorf("this replica casts no read votes: %w", err)
	}
	return r.admit(from, layout, key, nextNodes)
}

// admit checks that both sides work with the same layout, and that this node owns the key under it, or is among the
// further nodes behind its owners.
func (r *Replica) admit(from ring.NodeID, layout uint64, key ring.Key, further int) error {
	l := r.membership.Layout()
	if l == nil {
		return &refusal{text: notReady(r.membership).Detail, outcome: outcomeStale}
	}
	if err := r.sameLayout(from, l, layout); err != nil {
		return err
	}
	n := r.buckets.Get(key.Bucket).N + further
	if partition := l.Partition(key.Token); !l.Owns(r.membership.Self(), partition, n) {
		return refuse("this node does not own partition %d (n=%d): bucket settings may still be spreading", partition, n)
	}
	return nil
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
