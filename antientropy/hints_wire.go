package antientropy

import (
	"fmt"

	"github.com/rondodb/rondo/ring"
)

// Kinds of the messages of hints and collection.
const (
	kindHints   = 10 // take these objects
	kindFence   = 11 // collection, first step: mint nothing stamped so early any more
	kindCommit  = 12 // second: refuse what is stamped so early from now on
	kindRelease = 13 // third: every owner has committed, so drop what is stamped so early
)

// handed is one object on its way to an owner.
type handed struct {
	key    ring.Key
	object []byte
}

// handedBytes is about what one object takes in a message.
func handedBytes(key ring.Key, object []byte) int {
	return len(key.Bucket) + len(key.Name) + len(object) + 12
}

func encodeHints(items []handed) []byte {
	w, size := head(kindHints), 12
	for _, it := range items {
		size += handedBytes(it.key, it.object)
	}
	w.b = append(make([]byte, 0, size), w.b...)
	w.number(uint64(len(items)))
	for _, it := range items {
		w.key(it.key)
		w.bytes(it.object)
	}
	return w.b
}

// decodeHints reads what encodeHints made. Objects alias the payload.
func decodeHints(payload []byte) ([]handed, error) {
	r := open(payload)
	items := make([]handed, r.count(3))
	for i := range items {
		if items[i] = (handed{key: r.key(), object: r.bytes()}); r.err != nil {
			return nil, r.err
		}
	}
	return items, r.end()
}

// receipt is what became of one object that was handed over.
type receipt struct {
	fate fate
	why  string // of refused and failed
}

type fate uint8

const (
	handedOver     fate = iota // it is in the store and on disk
	handedPurged               // every version of it was collected there, or expired
	handedNotOwner             // the receiver does not own the key
	handedFailed               // it is not in the store for sure; another try may help
	fates
)

func (f fate) String() string {
	return [...]string{"handed over", "collected there", "not an owner", "failed"}[min(f, fates-1)]
}

func encodeReceipts(receipts []receipt) []byte {
	w := &writer{}
	for _, it := range receipts {
		w.byte(byte(it.fate))
		if it.fate >= handedNotOwner {
			w.why(it.why)
		}
	}
	return w.b
}

// decodeReceipts reads the answer to a message of n objects.
func decodeReceipts(b []byte, n int) ([]receipt, error) {
	if n > len(b) {
		return nil, fmt.Errorf("%w: %d bytes are no answer about %d objects", errWire, len(b), n)
	}
	r := &scanner{b: b}
	out := make([]receipt, n)
	for i := range out {
		if out[i].fate = fate(r.byte()); out[i].fate >= fates {
			r.fail("unknown fate")
		}
		if out[i].fate >= handedNotOwner {
			out[i].why = r.text()
		}
	}
	return out, r.end()
}
