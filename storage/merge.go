package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// maxScratch bounds the buffers that are kept for the next write.
const maxScratch = 256 << 10

// scratch is the working space of one write.
type scratch struct {
	key    []byte // data key
	other  []byte // another record's key
	stored []byte // value before: digest and object; empty where there is none
	value  []byte // value after
	batch  leveldb.Batch
	large  bool // the batch has grown past maxScratch
}

func (s *Store) takeScratch(key ring.Key) *scratch {
	w, _ := s.scratch.Get().(*scratch)
	if w == nil {
		w = &scratch{}
	}
	w.key = appendDataKey(w.key[:0], key)
	return w
}

func (s *Store) giveScratch(w *scratch) {
	if !w.large && cap(w.stored) <= maxScratch && cap(w.value) <= maxScratch {
		w.batch.Reset()
		s.scratch.Put(w)
	}
}

// digest is that of the stored object, 0 where there is none.
func (w *scratch) digest() uint64 {
	if len(w.stored) < digestLen {
		return 0
	}
	return binary.BigEndian.Uint64(w.stored)
}

// facts are what other records than the object itself say of it. The zero facts are those of no object.
type facts struct {
	entry indexEntry
	due   uint64 // from when it can be collected, 0 = never
	hash  uint64 // its part of its leaf
}

func factsOf(key ring.Key, digest uint64, o vclock.Object) facts {
	if o.Empty() {
		return facts{}
	}
	return facts{entry: entryOf(o), due: dueTime(o), hash: objectHash(key.Token, digest)}
}

// change is one object's step from what is stored to what will be.
type change struct {
	key     ring.Key
	class   ring.Class
	value   []byte // digest and object; nil = none any more
	was, is facts
	floor   uint64 // the counter floor to be set with it, 0 = none
}

// assemble puts all that follows from a change into one batch, so that it is stored wholly or not at all. The index is touched only where
// its entry changes: overwriting a key costs two records, its own and its leaf's.
func (s *Store) assemble(w *scratch, c change, leaf int, hash uint64) {
	b := &w.batch
	b.Reset()
	if c.value == nil {
		b.Delete(w.key)
	} else {
		b.Put(w.key, c.value)
	}
	if c.was.entry != c.is.entry {
		w.other = appendIndexKey(w.other[:0], c.class.Partition, c.key.Bucket, c.key.Name)
		if c.is.entry == (indexEntry{}) {
			b.Delete(w.other)
		} else {
			var space [17]byte
			b.Put(w.other, c.is.entry.append(space[:0]))
		}
	}
	if c.was.due != c.is.due {
		if c.was.due != 0 {
			w.other = appendDueKey(w.other[:0], c.class, c.was.due, c.key.Bucket, c.key.Name)
			b.Delete(w.other)
		}
		if c.is.due != 0 {
			w.other = appendDueKey(w.other[:0], c.class, c.is.due, c.key.Bucket, c.key.Name)
			b.Put(w.other, nil)
		}
	}
	if c.floor > 0 {
		s.putFloor(b, c.floor)
	}
	if !s.cfg.noTrees && !plant.On(plant.TreeNotUpdated) {
		putLeaf(b, c.class, leaf, hash)
	}
}

// put stores a change in the database, then in what is kept of it in memory. The caller holds the stripe.
func (s *Store) put(st *stripe, w *scratch, c change) error {
	t := s.trees.of(c.class)
	leaf := ring.Leaf(c.key.Token)
	hash := t.leaf(leaf).Load() ^ c.was.hash ^ c.is.hash
	w.large = len(c.value) > maxScratch
	s.assemble(w, c, leaf, hash)
	if c.was.due != c.is.due {
		t.due.mu.RLock()
		defer t.due.mu.RUnlock()
	}
	if err := s.write(&w.batch); err != nil {
		return err
	}
	if !s.cfg.noTrees && !plant.On(plant.TreeNotUpdated) {
		t.set(leaf, hash)
	}
	if c.was.due != c.is.due {
		t.due.moved(c.was.due, c.is.due)
	}
	switch {
	case c.value == nil:
		s.cache.set(w.key, absent)
	case !plant.On(plant.StaleCache):
		s.cache.set(w.key, c.value)
	}
	st.generation.Add(1)
	s.live.changed(c.was.entry.state, c.is.entry.state)
	return nil
}

// replace stores value, whose digest it fills in, in place of what w holds. The caller holds the stripe.
func (s *Store) replace(st *stripe, w *scratch, key ring.Key, class ring.Class, value []byte, old, new vclock.Object) error {
	digest := ring.Digest(value[digestLen:])
	binary.BigEndian.PutUint64(value, digest)
	c := change{key: key, class: class, value: value, was: factsOf(key, w.digest(), old), is: factsOf(key, digest, new)}
	if plant.On(plant.TombstoneDropped) && new.State() == vclock.Deleted {
		c.value, c.is = nil, facts{}
	}
	return s.put(st, w, c)
}

// Merge joins object into what is stored. It returns once a crash of the process cannot lose the result; power loss can, until
// Sync. object is not kept. Bytes that are not an object are refused with vclock.ErrCorrupt; a stored object that cannot be
// trusted is an error that wraps ErrCorrupt, and is left as it is.
//
// Versions that were collected here (Marks.Watermark) count as replaced. Where nothing else is left of object, the error has Purged and
// NotApplied, both true: whoever sent it may forget it. Before the trees can be trusted such versions are refused with ErrUnsound.
func (s *Store) Merge(key ring.Key, object []byte) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	if err := s.disk.stalled(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	if err := s.space.repair(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	s.count.merges.Add(1)
	vanished, class, err := s.merge(key, object)
	if vanished {
		err = errors.Join(err, s.vanished(ring.Leaf(key.Token), []ring.Class{class}))
	}
	return err
}

// merge is Merge under the key's stripe. vanished tells that the key's leaf is not what the tree says.
func (s *Store) merge(key ring.Key, object []byte) (vanished bool, class ring.Class, err error) {
	st, class, err := s.lock(key)
	if err != nil {
		return false, class, err
	}
	defer st.Unlock()
	w := s.takeScratch(key)
	defer s.giveScratch(w)

	stored, err := s.stored(w, key)
	if err != nil {
		return false, class, err
	}
	if stored != nil && bytes.Equal(stored, object) {
		s.count.unchanged.Add(1)
		return false, class, s.disk.failed() // what is there may not be synced, and never will be
	}
	incoming, err := vclock.DecodeObject(object)
	if err != nil {
		return false, class, fmt.Errorf("decode object to merge: %w", err)
	}
	if incoming.Empty() {
		return false, class, nil
	}
	var old vclock.Object
	if stored != nil {
		if old, err = vclock.DecodeObject(stored); err != nil {
			return false, class, s.corrupt(key, err)
		}
	}
	whole := true // incoming is what object encodes
	if t := s.trees.get(class); t != nil && len(incoming.Siblings) > 0 {
		if oldest := incoming.Siblings[len(incoming.Siblings)-1].Time; oldest <= t.marks.watermark.Load() {
			left, err := s.withoutCollected(t, key, old, incoming)
			if vanished = errors.Is(err, errVanished); err != nil && !vanished {
				return false, class, err
			}
			whole = len(left.Siblings) == len(incoming.Siblings)
			incoming = left
		}
	}
	last := s.cfg.LastWriteWins(key.Bucket)
	result := incoming
	w.value = append(w.value[:0], absent...)
	if whole && replaces(incoming, old) && (!last || len(incoming.Siblings) <= 1) {
		w.value = append(w.value, object...) // the bytes on the wire are the bytes on disk
	} else {
		result = vclock.Merge(old, incoming)
		if last {
			result = result.LastWriter()
		}
		w.value = vclock.AppendObject(w.value, result)
	}
	if stored != nil && bytes.Equal(w.value[digestLen:], stored) {
		s.count.unchanged.Add(1)
		return vanished, class, s.disk.failed()
	}
	return vanished, class, s.replace(st, w, key, class, w.value, old, result)
}

// Update replaces what is stored by what fn makes of it, atomically for this key, and returns the new encoding, which is the
// caller's to keep. An error of fn is returned as it is and changes nothing. fn is called once at most, under the key's lock: it
// must not block nor call the store; what it is given lives until it returns, but may be part of its result. A new version must be
// stamped later than after. The clock that fn is given may have seen more of this incarnation's dots than the stored one, and is not
// empty then where there is no object: a clock without siblings as the result leaves the key as it is. Durability as Merge.
func (s *Store) Update(key ring.Key, fn func(old vclock.Object, after uint64) (vclock.Object, error)) (object []byte, digest uint64, err error) {
	if !s.gate.enter() {
		return nil, 0, ErrClosed
	}
	defer s.gate.leave()
	if err := s.disk.stalled(); err != nil {
		return nil, 0, fmt.Errorf("update: %w", err)
	}
	if err := s.space.client(); err != nil {
		return nil, 0, fmt.Errorf("update: %w", err)
	}
	s.count.updates.Add(1)
	st, class, err := s.lock(key)
	if err != nil {
		return nil, 0, err
	}
	defer st.Unlock()
	w := s.takeScratch(key)
	defer s.giveScratch(w)

	old, err := s.storedObject(w, key)
	if err != nil {
		return nil, 0, err
	}
	result, err := fn(s.seen(old), s.trees.of(class).marks.after())
	if err != nil {
		return nil, 0, err
	}
	if s.cfg.LastWriteWins(key.Bucket) {
		result = result.LastWriter()
	}
	if len(result.Siblings) == 0 && old.Empty() {
		return nil, 0, nil
	}
	if result.Empty() {
		return nil, 0, errors.New("update object: the result is empty")
	}
	value := make([]byte, digestLen, digestLen+vclock.EncodedSize(result))
	value = vclock.AppendObject(value, result)
	object = value[digestLen:]
	if len(w.stored) > digestLen && bytes.Equal(object, w.stored[digestLen:]) {
		s.count.unchanged.Add(1)
		return object, w.digest(), s.disk.failed()
	}
	if err := s.replace(st, w, key, class, value, old, result); err != nil {
		return nil, 0, err
	}
	return object, binary.BigEndian.Uint64(value), nil
}

// stored reads the object that is stored now, into w; nil where there is none. The caller holds the stripe.
func (s *Store) stored(w *scratch, key ring.Key) ([]byte, error) {
	value, ok := s.cache.get(w.stored[:0], w.key)
	if ok {
		w.stored = value
		if len(value) <= digestLen {
			w.stored = value[:0]
			return nil, nil
		}
		return value[digestLen:], nil
	}
	w.stored = w.stored[:0]
	value, err := s.read(w.key)
	if err != nil || value == nil {
		return nil, err
	}
	object, _, err := splitValue(value)
	if err != nil {
		return nil, s.corrupt(key, err)
	}
	w.stored = value
	return object, nil
}

// storedObject reads and decodes the object that is stored now; the empty one where there is none. The caller holds the stripe.
func (s *Store) storedObject(w *scratch, key ring.Key) (vclock.Object, error) {
	stored, err := s.stored(w, key)
	if err != nil || stored == nil {
		return vclock.Object{}, err
	}
	o, err := vclock.DecodeObject(stored)
	if err != nil {
		return vclock.Object{}, s.corrupt(key, err)
	}
	return o, nil
}

// replaces tells whether vclock.Merge(stored, incoming) is incoming itself, so that its bytes can be stored as they came.
//
// Let incoming's clock cover stored's. Then the union of the clocks is incoming's clock, and clocks are canonical. Of stored's
// siblings the merge keeps those whose dot incoming holds, for incoming's clock has seen all of them; of incoming's it adds
// those whose dot stored's clock has not seen. So the result is incoming exactly if the siblings that the merge keeps from
// stored are the siblings of incoming that stored's clock has seen. Both come newest first, so they are compared in step, whole
// siblings and not only dots: then it holds even for objects that no correct history makes. incoming was decoded from canonical
// bytes, so encoding it again would give the same ones.
func replaces(incoming, stored vclock.Object) bool {
	if !incoming.Clock.Covers(stored.Clock) {
		return false
	}
	kept := stored.Siblings
	for i := range incoming.Siblings {
		in := &incoming.Siblings[i]
		if !stored.Clock.Contains(in.Dot) {
			continue
		}
		kept = skipReplaced(kept, incoming)
		if len(kept) == 0 || !same(&kept[0], in) {
			return false
		}
		kept = kept[1:]
	}
	return len(skipReplaced(kept, incoming)) == 0
}

// skipReplaced drops the leading siblings whose dots o does not hold.
func skipReplaced(siblings []vclock.Sibling, o vclock.Object) []vclock.Sibling {
next:
	for len(siblings) > 0 {
		for i := range o.Siblings {
			if o.Siblings[i].Dot == siblings[0].Dot {
				break next
			}
		}
		siblings = siblings[1:]
	}
	return siblings
}

func same(a, b *vclock.Sibling) bool {
	return a.Dot == b.Dot && a.Time == b.Time && a.Expiry == b.Expiry && a.Tombstone == b.Tombstone &&
		a.ContentType == b.ContentType && bytes.Equal(a.Value, b.Value)
}
