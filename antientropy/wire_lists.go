package antientropy

import (
	"github.com/rondodb/rondo/ring"
)

// pair names one state of one object. Two keys with one token are told apart by their digests.
type pair struct{ token, digest uint64 }

const pairBytes = 16

// listsRequest tells what the asker holds in some leaves, and asks for what else there is.
type listsRequest struct {
	budget int // bytes of objects in the answer; more only for the first one, and for those of one token
	items  []listItem
}

// listItem is the asker's objects in one leaf, or in a part of one, in token order.
type listItem struct {
	class    ring.Class
	leaf     int    // of the whole ring
	from, to uint64 // tokens, both included
	pairs    []pair
}

func (m listsRequest) encode() []byte {
	w := head(kindLists)
	w.number(uint64(m.budget))
	w.number(uint64(len(m.items)))
	for _, it := range m.items {
		w.class(it.class)
		w.number(uint64(it.leaf))
		first, last := ring.LeafTokens(it.leaf)
		if it.from == first && it.to == last {
			w.byte(0)
		} else {
			w.byte(1)
			w.fixed(it.from)
			w.fixed(it.to)
		}
		w.number(uint64(len(it.pairs)))
		for _, p := range it.pairs {
			w.fixed(p.token)
			w.fixed(p.digest)
		}
	}
	return w.b
}

func decodeListsRequest(payload []byte) (listsRequest, error) {
	r := open(payload)
	m := listsRequest{budget: r.small(maxMessage + 1)}
	m.items = make([]listItem, r.count(2+1+1+1))
	for i := range m.items {
		it := &m.items[i]
		it.class, it.leaf = r.class(), r.small(ring.Leaves)
		first, last := ring.LeafTokens(it.leaf)
		it.from, it.to = first, last
		if r.flags(1) != 0 {
			it.from, it.to = r.fixed(), r.fixed()
			if it.from == first && it.to == last {
				r.fail("a whole leaf as a part of one")
			}
		}
		if it.from < first || it.to > last || it.from > it.to {
			r.fail("tokens beyond their leaf")
		}
		it.pairs = make([]pair, r.count(pairBytes))
		before := it.from
		for k := range it.pairs {
			p := pair{r.fixed(), r.fixed()}
			if p.token < before || p.token > it.to {
				r.fail("tokens out of order")
			}
			it.pairs[k], before = p, p.token
		}
		if r.err != nil {
			return listsRequest{}, r.err
		}
	}
	return m, r.end()
}

// listsAnswer is about the first items that were asked; the last of these may be answered in part. The rest is to be asked again.
type listsAnswer struct{ items []listed }

// listed is the difference in one item.
type listed struct {
	unsound bool   // the leaf is not what the other side's tree says, or cannot be read: absence proves nothing
	why     string // what could not be read, "" where all could
	partial bool   // only tokens before resume were looked at
	resume  uint64
	lacks   []int   // places in the item's pairs: the other side lacks them, or has others
	objects []keyed // what the asker lacks, or has otherwise, in token order
}

// keyed is one object on the way.
type keyed struct {
	key    ring.Key
	object []byte
}

const (
	flagUnsound = 1 << iota
	flagPartial
)

func (m listsAnswer) encode() []byte {
	w := &writer{}
	w.number(uint64(len(m.items)))
	for _, it := range m.items {
		var flags byte
		if it.unsound {
			flags |= flagUnsound
		}
		if it.partial {
			flags |= flagPartial
		}
		w.byte(flags)
		if it.unsound {
			w.why(it.why)
		}
		if it.partial {
			w.fixed(it.resume)
		}
		w.number(uint64(len(it.lacks)))
		last := 0
		for _, i := range it.lacks {
			w.number(uint64(i - last))
			last = i
		}
		w.number(uint64(len(it.objects)))
		for _, o := range it.objects {
			w.key(o.key)
			w.bytes(o.object)
		}
	}
	return w.b
}

func decodeListsAnswer(b []byte, asked []listItem) (listsAnswer, error) {
	r := &scanner{b: b}
	n := r.count(3)
	if n > len(asked) || n == 0 && len(asked) > 0 {
		r.fail("not what was asked")
		return listsAnswer{}, r.err
	}
	m := listsAnswer{items: make([]listed, n)}
	for i := range m.items {
		r.listed(&m.items[i], asked[i], i == 0, i == n-1)
		if r.err != nil {
			return listsAnswer{}, r.err
		}
	}
	return m, r.end()
}

func (r *scanner) listed(it *listed, asked listItem, first, last bool) {
	flags := r.flags(flagUnsound | flagPartial)
	it.unsound, it.partial = flags&flagUnsound != 0, flags&flagPartial != 0
	if it.unsound {
		it.why = r.why()
	}
	if it.partial {
		it.resume = r.fixed()
		if !last || it.resume < asked.from || it.resume > asked.to || it.resume == asked.from && first {
			r.fail("answered in part out of turn, or not at all")
		}
	}
	it.lacks = make([]int, r.count(1))
	at := 0
	for k := range it.lacks {
		step := r.number()
		if step >= uint64(len(asked.pairs)-at) || k > 0 && step == 0 {
			r.fail("lacks what was not listed")
			return
		}
		at += int(step)
		it.lacks[k] = at
	}
	it.objects = make([]keyed, r.count(3))
	for k := range it.objects {
		o := keyed{key: r.key(), object: r.bytes()}
		if r.err == nil && (o.key.Token < asked.from || o.key.Token > asked.to || it.partial && o.key.Token >= it.resume) {
			r.fail("object outside what was asked")
		}
		if r.err != nil {
			return
		}
		it.objects[k] = o
	}
}

// pushRequest gives objects to the other side, and tells it which of its own were collected.
type pushRequest struct {
	objects []pushed
	forget  []collected
}

// pushed is one object for the other side.
type pushed struct {
	n      int // replica count of its bucket; with the token this is its class
	key    ring.Key
	object []byte
}

// collected is a state of an object that another owner has proved to be collected.
type collected struct {
	n      int
	key    ring.Key
	digest uint64
}

func (m pushRequest) encode() []byte {
	w := head(kindPush)
	w.number(uint64(len(m.objects)))
	for _, o := range m.objects {
		w.byte(byte(o.n))
		w.key(o.key)
		w.bytes(o.object)
	}
	w.number(uint64(len(m.forget)))
	for _, f := range m.forget {
		w.byte(byte(f.n))
		w.key(f.key)
		w.fixed(f.digest)
	}
	return w.b
}

func decodePushRequest(payload []byte) (pushRequest, error) {
	r := open(payload)
	m := pushRequest{objects: make([]pushed, r.count(1+2+1))}
	for i := range m.objects {
		m.objects[i] = pushed{n: r.replicas(), key: r.key(), object: r.bytes()}
		if r.err != nil {
			return pushRequest{}, r.err
		}
	}
	m.forget = make([]collected, r.count(1+2+8))
	for i := range m.forget {
		m.forget[i] = collected{n: r.replicas(), key: r.key(), digest: r.fixed()}
		if r.err != nil {
			return pushRequest{}, r.err
		}
	}
	return m, r.end()
}

func (r *scanner) replicas() int {
	n := int(r.byte())
	if n < 1 || n > maxReplicas {
		r.fail("replica count out of range")
	}
	return n
}

// outcome is what became of one object of a push.
type outcome uint8

const (
	taken   outcome = iota // it is in the store and on disk; or it was forgotten
	purged                 // objects: all of it was collected there
	changed                // forgets: another state is there now, or nothing
	failed
	outcomes
)

// pushAnswer tells what became of each object and of each one to be forgotten.
type pushAnswer struct {
	objects, forget []outcome
	why             string // the first failure
}

func (m pushAnswer) encode() []byte {
	w := &writer{}
	for _, all := range [2][]outcome{m.objects, m.forget} {
		for _, o := range all {
			w.byte(byte(o))
		}
	}
	w.why(m.why)
	return w.b
}

func decodePushAnswer(b []byte, objects, forget int) (pushAnswer, error) {
	r := &scanner{b: b}
	read := func(n int) []outcome {
		out := make([]outcome, n)
		for i, v := range r.take(uint64(n)) {
			if out[i] = outcome(v); out[i] >= outcomes {
				r.fail("unknown outcome")
			}
		}
		return out
	}
	m := pushAnswer{objects: read(objects), forget: read(forget)}
	m.why = r.why()
	return m, r.end()
}
