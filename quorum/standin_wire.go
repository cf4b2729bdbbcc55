package quorum

import "github.com/rondodb/rondo/ring"

// standinMessage is what a stand-in is asked:
//
//	version, kind (1 keep, 2 tell), sync (1 where it is to be on disk before the answer), bucket, key
//	to keep: the owner that it is for, the object
//
// The answer is version, digest and object of what is kept, 0 and nothing where nothing is, or where something was to be kept.
type standinMessage struct {
	key    ring.Key
	target ring.NodeID // "" = tell what is kept
	sync   bool
	object []byte
}

const (
	standinKeep = 1
	standinTell = 2
)

func encodeKeep(target ring.NodeID, key ring.Key, object []byte, sync bool) []byte {
	w := writer{make([]byte, 0, 32+len(key.Bucket)+len(key.Name)+len(target)+len(object))}
	w.byte(wireVersion)
	w.byte(standinKeep)
	if sync {
		w.byte(1)
	} else {
		w.byte(0)
	}
	w.text(key.Bucket)
	w.text(key.Name)
	w.text(string(target))
	w.bytes(object)
	return w.b
}

func encodeAsk(key ring.Key) []byte {
	w := writer{make([]byte, 0, 16+len(key.Bucket)+len(key.Name))}
	w.byte(wireVersion)
	w.byte(standinTell)
	w.byte(0)
	w.text(key.Bucket)
	w.text(key.Name)
	return w.b
}

// decodeStandin aliases b.
func decodeStandin(b []byte) (m standinMessage, err error) {
	r := scanner{b: b}
	r.version(wireVersion)
	kind, sync := r.byte(), r.byte()
	m.sync = sync == 1
	bucket, name := r.text(), r.text()
	switch {
	case kind == standinKeep && sync <= 1:
		m.target, m.object = ring.NodeID(r.text()), r.bytes()
		if m.target == "" {
			r.fail("an object for nobody")
		}
	case kind == standinTell && sync == 0:
	default:
		r.fail("unknown kind of message to a stand-in")
	}
	m.key = ring.NewKey(bucket, name)
	return m, r.end()
}

func encodeKept(object []byte, digest uint64) []byte {
	w := writer{make([]byte, 0, 16+len(object))}
	w.byte(wireVersion)
	w.fixed(digest)
	w.bytes(object)
	return w.b
}

// decodeKept aliases b.
func decodeKept(b []byte) (object []byte, digest uint64, err error) {
	r := scanner{b: b}
	r.version(wireVersion)
	digest = r.fixed()
	object = r.bytes()
	if len(object) == 0 {
		object = nil
		if digest != 0 {
			r.fail("digest of nothing")
		}
	}
	return object, digest, r.end()
}
