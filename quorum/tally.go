package quorum

import (
	"slices"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/vclock"
)

// verdict is where a tally stands.
type verdict uint8

const (
	pending verdict = iota // more replies are needed, and can still come
	won                    // enough replies
	lost                   // it can no longer be won
	fetch                  // reads: enough replicas answered, but an object must be fetched (readTally.wanted)
)

func (v verdict) String() string { return [...]string{"pending", "won", "lost", "fetch"}[v&3] }

// writeReply says how one replica of a write answered.
type writeReply uint8

const (
	writeFailed   writeReply = iota // it did not take the write, or nobody knows
	writeAcked                      // it holds the write; a sync was not asked for
	writeDurable                    // it holds the write, synced to disk
	writeApplied                    // it holds the write; writeSynced or writeUnsynced follows (the local store)
	writeSynced                     // after writeApplied: now on disk
	writeUnsynced                   // after writeApplied: the sync failed, so the acknowledgement is void
)

// writeTally counts the replies to one write. Each replica is added once, or twice where it began with writeApplied. It is
// pure; the zero value of the counters with n, w and dw set is ready. w <= n and dw <= w.
type writeTally struct {
	n, w, dw int

	acked   int // hold the write
	durable int // of them, synced
	syncing int // of acked: a sync is under way
	failed  int
}

func (t *writeTally) add(r writeReply) verdict {
	switch r {
	case writeFailed:
		t.failed++
	case writeAcked:
		t.acked++
	case writeDurable:
		t.acked++
		t.durable++
	case writeApplied:
		t.acked++
		t.syncing++
	case writeSynced:
		t.syncing--
		t.durable++
	case writeUnsynced:
		t.syncing--
		t.acked--
		t.failed++
	}
	return t.verdict()
}

// verdict is won when w replicas hold the write and dw of them have it on disk, and lost as soon as replies that are still
// to come cannot bring it there.
func (t *writeTally) verdict() verdict {
	open := t.n - t.acked - t.failed // replicas that have not answered
	switch {
	case t.acked >= t.w && t.durable >= t.dw:
		return won
	case plant.On(plant.ShortQuorumWrite) && t.acked >= max(t.w-1, 1) && t.durable >= t.dw-1:
		return won
	case t.acked+open < t.w || t.durable+t.syncing+open < t.dw:
		return lost
	}
	return pending
}

// slotState is what is known of one replica of a read.
type slotState uint8

const (
	slotIdle    slotState = iota // not asked
	slotWaiting                  // asked, nothing came yet
	slotDigest                   // its digest is known
	slotFetch                    // its digest is known, its object was asked for
	slotFull                     // its object is known
	slotFailed
)

type readSlot struct {
	state   slotState
	standin int32 // place in the preference list of the node that answers in place of the owner; 0 = the owner itself
	digest  uint64
	mark    uint64 // watermark of the replica when that was read, 0 = it cannot tell
	object  vclock.Object
}

// readTally collects the replies to one read: digests and objects of up to n owners, or of the stand-in for one, by their place in the preference
// list. A replica is covered once its object, or one with an equal digest, is known; the read is won with r covered
// replicas. It is pure; set n and r of the zero value.
type readTally struct {
	n, r  int
	slots [MaxN]readSlot
}

func (t *readTally) asked(i int) { t.slots[i].state = slotWaiting }

// replaced notes that a stand-in was asked in place of an owner that was not asked or failed, or of another stand-in that failed.
func (t *readTally) replaced(i int, standin int32) {
	t.slots[i] = readSlot{state: slotWaiting, standin: standin}
}

// standin tells whether replica i is a stand-in.
func (t *readTally) standin(i int) bool { return t.slots[i].standin > 0 }

// standins is the number of stand-ins among the covered replicas.
func (t *readTally) standins() int {
	n := 0
	for i := range t.n {
		if t.standin(i) && t.covered(i) {
			n++
		}
	}
	return n
}

// addDigest notes a digest. A reply that is late, after the object of the same replica or its failure, changes nothing.
func (t *readTally) addDigest(i int, digest, mark uint64) verdict {
	if s := &t.slots[i]; s.state <= slotWaiting {
		s.state, s.digest, s.mark = slotDigest, digest, mark
	}
	return t.verdict()
}

// addObject notes an object with its digest: 0 and the empty object for a key that the replica has never seen.
func (t *readTally) addObject(i int, digest uint64, o vclock.Object, mark uint64) verdict {
	if s := &t.slots[i]; s.state < slotFull {
		s.state, s.digest, s.object, s.mark = slotFull, digest, o, mark
	}
	return t.verdict()
}

// fail takes the replica out of the read, also where a digest of it was known.
func (t *readTally) fail(i int) verdict {
	if s := &t.slots[i]; s.state != slotFull {
		s.state = slotFailed
	}
	return t.verdict()
}

func (t *readTally) verdict() verdict {
	covered, answered, alive := 0, 0, 0
	for i := range t.n {
		s := &t.slots[i]
		if s.state != slotFailed {
			alive++
		}
		if s.state >= slotDigest && s.state <= slotFull {
			answered++
			if t.covered(i) {
				covered++
			}
		}
	}
	switch {
	case covered >= t.r, plant.On(plant.ShortQuorumRead) && covered >= max(t.r-1, 1):
		return won
	case alive < t.r:
		return lost
	case answered >= t.r && t.wanted(nil):
		return fetch
	}
	return pending
}

// covered tells whether replica i counts: what it holds is known.
func (t *readTally) covered(i int) bool {
	s := &t.slots[i]
	if s.state == slotFull {
		return true
	}
	if s.state != slotDigest && s.state != slotFetch {
		return false
	}
	for k := range t.n {
		if o := &t.slots[k]; o.state == slotFull && o.digest == s.digest {
			return true
		}
	}
	return false
}

// wanted calls ask, where it is not nil, for one replica of each digest whose object is neither known nor on its way, and
// marks it as being fetched. It tells whether there was one.
func (t *readTally) wanted(ask func(i int)) bool {
	found := false
	for i := range t.n {
		s := &t.slots[i]
		if s.state != slotDigest || t.covered(i) || t.fetching(s.digest) {
			continue
		}
		found = true
		if ask == nil {
			return true
		}
		s.state = slotFetch
		ask(i)
	}
	return found
}

func (t *readTally) fetching(digest uint64) bool {
	for i := range t.n {
		if s := &t.slots[i]; s.state == slotFetch && s.digest == digest {
			return true
		}
	}
	return false
}

// count is the number of replicas in a state from lo to hi.
func (t *readTally) count(lo, hi slotState) int {
	n := 0
	for i := range t.n {
		if s := t.slots[i].state; s >= lo && s <= hi {
			n++
		}
	}
	return n
}

// replied is the number of covered replicas: those that the answer rests on.
func (t *readTally) replied() int {
	n := 0
	for i := range t.n {
		if t.covered(i) {
			n++
		}
	}
	return n
}

// agreed tells whether all covered replicas hold the same. A stand-in that keeps nothing has nothing to disagree with.
func (t *readTally) agreed() bool {
	first := -1
	for i := range t.n {
		switch {
		case !t.covered(i), t.standin(i) && t.slots[i].digest == 0:
		case first < 0:
			first = i
		case t.slots[i].digest != t.slots[first].digest:
			return false
		}
	}
	return true
}

// merged joins what the covered replicas hold. Each different object is decoded and merged once. What one of them has forgotten, because it was
// deleted and collected everywhere, does not come in from another one that was read before it had forgotten it too: such a read takes as long as
// the collection, and the delete may have been acknowledged before it began.
func (t *readTally) merged() vclock.Object {
	var out vclock.Object
	objects := 0
	for i := range t.n {
		s := &t.slots[i]
		if s.state != slotFull || t.seenBefore(i) {
			continue
		}
		out = vclock.Merge(out, s.object)
		objects++
	}
	if objects < 2 || !slices.ContainsFunc(out.Siblings, t.forgotten) {
		return out
	}
	out.Siblings = slices.DeleteFunc(slices.Clone(out.Siblings), t.forgotten)
	if len(out.Siblings) == 0 {
		return vclock.Object{} // all of it
	}
	return out
}

// forgotten tells whether a covered replica has collected a version.
func (t *readTally) forgotten(v vclock.Sibling) bool {
	for i := range t.n {
		if s := &t.slots[i]; v.Time > s.mark || !t.covered(i) {
			continue
		} else if o := t.object(s.digest); !o.Clock.Contains(v.Dot) {
			return true
		}
	}
	return false
}

// object is the one with a digest, which must be known.
func (t *readTally) object(digest uint64) vclock.Object {
	for i := range t.n {
		if s := &t.slots[i]; s.state == slotFull && s.digest == digest {
			return s.object
		}
	}
	return vclock.Object{}
}

// recent tells whether the covered replicas are at least as new as a session: they know all that it has seen, or one of them did, and may have
// forgotten what was deleted since.
func (t *readTally) recent(merged vclock.Object, session vclock.Context) bool {
	if merged.Clock.Covers(session.Clock) {
		return true
	}
	for i := range t.n {
		if t.covered(i) && session.Time <= t.slots[i].mark {
			return true
		}
	}
	return false
}

func (t *readTally) seenBefore(i int) bool {
	for k := range i {
		if o := &t.slots[k]; o.state == slotFull && o.digest == t.slots[i].digest {
			return true
		}
	}
	return false
}

// holds tells whether replica i is covered and holds exactly the object with this digest; a covered replica that does not
// is stale.
func (t *readTally) holds(i int, digest uint64) bool {
	return t.covered(i) && t.slots[i].digest == digest
}
