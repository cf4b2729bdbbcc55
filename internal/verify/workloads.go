package verify

import (
	"strconv"
	"time"

	"github.com/rondodb/rondo/internal/check"
)

// addToSet reads a set, merges what its versions hold, adds an element, and writes that with the context of the read. So an
// element that was acknowledged once is in every version that replaces its own.
func (w *worker) addToSet(k *key) {
	if w.chance(20) {
		w.weak(k.read(), k) // how old one replica is
		return
	}
	seen := w.strict(k.read(), k, nil)
	if seen.Outcome != check.OK || w.full || !w.chance(60) || !k.add() {
		return
	}
	op, body := k.put(w.value(), seen.Elements)
	op.ContextIn = orFresh(seen.ContextOut)
	w.strict(op, k, body)
}

// orFresh is a context to write with: what a client has not been shown is not its to replace.
func orFresh(token string) string {
	if token == "" {
		return check.Fresh
	}
	return token
}

// overwrite reads or replaces a register. Contexts come from the client's last read or write of the key.
func (w *worker) overwrite(k *key) {
	token := w.tokens[k.name]
	switch n := w.random.IntN(100); {
	case n < 35:
		w.learn(w.strict(k.read(), k, nil))
	case n < 50:
		w.weak(k.read(), k)
	case n < 60 && token != "":
		op := k.read()
		op.ContextIn = token
		w.learn(w.weak(op, k))
	default:
		op, body := k.put(w.value(), nil)
		op.ContextIn = orFresh(token)
		switch {
		case k.blind && w.chance(40):
			op.ContextIn = ""
		case w.chance(8):
			op.ContextIn = check.Fresh
		}
		w.learn(w.strict(op, k, body))
	}
}

// learn keeps the context of an answer for the next write.
func (w *worker) learn(op check.Op) {
	if op.Outcome == check.OK && op.ContextOut != "" {
		w.tokens[op.Key] = op.ContextOut
	}
}

// putOrDelete puts, deletes or reads a key. A key that is put again after a delete is put with the context of before, or as if it had
// never been there.
func (w *worker) putOrDelete(k *key) {
	token := w.tokens[k.name]
	switch n := w.random.IntN(100); {
	case n < 35 || token == "" && n < 55:
		w.learn(w.strict(k.read(), k, nil))
	case n < 40:
		op := k.read()
		if w.chance(50) { // it may be the context of a delete that everybody has forgotten
			op.ContextIn = token
		}
		w.weak(op, k)
	case n < 75 && token != "":
		op := check.Op{Kind: check.Delete, Key: k.name, ContextIn: token}
		w.learn(w.strict(op, k, nil))
	default:
		op, body := k.put(w.value(), nil)
		if op.ContextIn = orFresh(token); w.chance(20) {
			op.ContextIn = check.Fresh
		}
		w.learn(w.strict(op, k, body))
	}
}

// expire puts values that expire between others that do not, and reads on until they have.
func (w *worker) expire(k *key) {
	token := w.tokens[k.name]
	switch n := w.random.IntN(100); {
	case n < 45:
		w.learn(w.strict(k.read(), k, nil))
	case n < 60:
		w.weak(k.read(), k)
	case n < 65 && token != "":
		w.learn(w.strict(check.Op{Kind: check.Delete, Key: k.name, ContextIn: token}, k, nil))
	default:
		op, body := k.put(w.value(), nil)
		if op.ContextIn = orFresh(token); w.chance(20) {
			op.ContextIn = check.Fresh
		}
		var ttl time.Duration
		if w.chance(80) {
			ttl = max(leastTTL, time.Duration((0.5+w.random.Float64())*float64(w.v.config.TTL))).Round(time.Millisecond)
		}
		w.learn(w.lasting(op, k, body, ttl))
	}
}

// sessionOps is how many operations a session has, on average.
const sessionOps = 20

// session is one context on its way through the nodes.
type session struct {
	key   *key
	name  string
	token string
	left  int // operations
	count int // sessions so far
}

// carry makes one operation of a session, whichever node takes it: it must find what the session has seen and written before.
func (w *worker) carry(p *pool) {
	s := &w.session
	if s.left == 0 {
		s.count++
		*s = session{key: p.pick(w.random), name: w.base + "-session-" + strconv.Itoa(s.count), left: sessionOps/2 + w.random.IntN(sessionOps), count: s.count}
	}
	s.left--
	var op check.Op
	if w.chance(70) {
		op = s.key.read()
		op.Session, op.ContextIn = s.name, s.token
		op = w.weak(op, s.key)
	} else {
		var body []byte
		op, body = s.key.put(w.value(), nil)
		op.Session, op.ContextIn = s.name, orFresh(s.token)
		op = w.strict(op, s.key, body)
	}
	if op.Outcome == check.OK && op.ContextOut != "" {
		s.token = op.ContextOut
	}
}
