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
	index  []byte // index key
	stored []byte // value before: digest and object
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

// change is one object's step from what is stored to what will be.
type change struct {
	key      ring.Key
	dataKey  []byte
	value    []byte // digest and object
	old, new vclock.State
}

// assemble puts all that follows from a change into one batch, so that it is stored wholly or not at all. The index is touched
// only where its entry changes: overwriting a key costs one record.
func assemble(b *leveldb.Batch, c change, partition int, indexKey []byte) []byte {
	b.Put(c.dataKey, c.value)
	if c.old != c.new {
		indexKey = appendIndexKey(indexKey[:0], partition, c.key.Bucket, c.key.Name)
		b.Put(indexKey, []byte{byte(c.new)})
	}
	return indexKey
}

// Merge joins object into what is stored. It returns once a crash of the process cannot lose the result; power loss can, until
// Sync. object is not kept. Bytes that are not an object are refused with vclock.ErrCorrupt; a stored object that cannot be
// trusted is an error that wraps ErrCorrupt, and is left as it is.
func (s *Store) Merge(key ring.Key, object []byte) error {
	if !s.gate.enter() {
		return ErrClosed
	}
	defer s.gate.leave()
	if err := s.disk.stalled(); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	s.count.merges.Add(1)
	w := s.takeScratch(key)
	defer s.giveScratch(w)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()

	stored, err := s.stored(w, key)
	if err != nil {
		return err
	}
	if stored != nil && bytes.Equal(stored, object) {
		s.count.unchanged.Add(1)
		return s.disk.failed() // what is there may not be synced, and never will be
	}
	incoming, err := vclock.DecodeObject(object)
	if err != nil {
		return fmt.Errorf("decode object to merge: %w", err)
	}
	if incoming.Empty() {
		return nil
	}
	var old vclock.Object
	if stored != nil {
		if old, err = vclock.DecodeObject(stored); err != nil {
			return s.corrupt(key, err)
		}
	}
	last := s.cfg.LastWriteWins(key.Bucket)
	result := incoming
	w.value = append(w.value[:0], absent...)
	if replaces(incoming, old) && (!last || len(incoming.Siblings) <= 1) {
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
		return s.disk.failed()
	}
	return s.put(st, w, key, w.value, old.State(), result.State())
}

// Update replaces what is stored by what fn makes of it, atomically for this key, and returns the new encoding, which is the
// caller's to keep. An error of fn is returned as it is and changes nothing. fn is called once at most, under the key's lock: it
// must not block nor call the store; what it is given lives until it returns, but may be part of its result.
// Durability as Merge.
func (s *Store) Update(key ring.Key, fn func(old vclock.Object, after uint64) (vclock.Object, error)) (object []byte, digest uint64, err error) {
	if !s.gate.enter() {
		return nil, 0, ErrClosed
	}
	defer s.gate.leave()
	if err := s.disk.stalled(); err != nil {
		return nil, 0, fmt.Errorf("update: %w", err)
	}
	s.count.updates.Add(1)
	w := s.takeScratch(key)
	defer s.giveScratch(w)
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()

	stored, err := s.stored(w, key)
	if err != nil {
		return nil, 0, err
	}
	var old vclock.Object
	if stored != nil {
		if old, err = vclock.DecodeObject(stored); err != nil {
			return nil, 0, s.corrupt(key, err)
		}
	}
	result, err := fn(old, 0)
	if err != nil {
		return nil, 0, err
	}
	if s.cfg.LastWriteWins(key.Bucket) {
		result = result.LastWriter()
	}
	if result.Empty() {
		if stored != nil {
			return nil, 0, errors.New("update object: the result is empty")
		}
		return nil, 0, nil
	}
	value := make([]byte, digestLen, digestLen+vclock.EncodedSize(result))
	value = vclock.AppendObject(value, result)
	object = value[digestLen:]
	if bytes.Equal(object, stored) {
		s.count.unchanged.Add(1)
		return object, binary.BigEndian.Uint64(w.stored), s.disk.failed()
	}
	if err := s.put(st, w, key, value, old.State(), result.State()); err != nil {
		return nil, 0, err
	}
	return object, binary.BigEndian.Uint64(value), nil
}

// stored reads the object that is stored now, into w; nil where there is none. The caller holds the stripe.
func (s *Store) stored(w *scratch, key ring.Key) ([]byte, error) {
	if value, ok := s.cache.get(w.stored[:0], w.key); ok {
		w.stored = value
		if len(value) <= digestLen {
			return nil, nil
		}
		return value[digestLen:], nil
	}
	value, err := s.read(w.key)
	if err != nil || value == nil {
		return nil, err
	}
	w.stored = value
	object, _, err := splitValue(value)
	if err != nil {
		return nil, s.corrupt(key, err)
	}
	return object, nil
}

// put stores value, whose digest it fills in, in the database, then in the cache. The caller holds the stripe.
func (s *Store) put(st *stripe, w *scratch, key ring.Key, value []byte, old, new vclock.State) error {
	partitions := int(s.partitions.Load())
	if partitions == 0 {
		return fmt.Errorf("write object: %w is not set yet", ErrPartitions)
	}
	if plant.On(plant.TombstoneDropped) && new == vclock.Deleted {
		return s.drop(st, w, key, old)
	}
	binary.BigEndian.PutUint64(value, ring.Digest(value[digestLen:]))
	w.batch.Reset()
	w.large = len(value) > maxScratch
	c := change{key: key, dataKey: w.key, value: value, old: old, new: new}
	w.index = assemble(&w.batch, c, partitionOf(key.Token, partitions), w.index)
	if err := s.write(&w.batch); err != nil {
		return err
	}
	if !plant.On(plant.StaleCache) {
		s.cache.set(w.key, value)
	}
	st.generation.Add(1)
	s.live.changed(old, new)
	return nil
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
