package verify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"

	"github.com/rondodb/rondo/internal/check"
)

// maxElements is how many elements are added to one set: values stay small.
const maxElements = 40

// key is a key in use.
type key struct {
	name  string
	blind bool // writes without any context are made here and nowhere else, since a checker can say less of such keys
	set   bool

	mu       sync.Mutex
	used     bool
	adds     int               // to a set, begun
	elements map[string]string // one string for each element, however often it is read
	last     []string          // elements of the last read, to be shared by the next one that shows the same
}

// add tells whether there is room for one more element, and takes it.
func (k *key) add() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.adds >= maxElements {
		return false
	}
	k.adds++
	return true
}

// shared is elements in memory that equal answers share. They are sorted, each once.
func (k *key) shared(elements []string) []string {
	slices.Sort(elements)
	elements = slices.Compact(elements)
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Equal(elements, k.last) {
		return k.last
	}
	if k.elements == nil {
		k.elements = map[string]string{}
	}
	for i, e := range elements {
		one, ok := k.elements[e]
		if !ok && len(k.elements) < 4*maxElements {
			k.elements[e] = e
			one = e
		}
		if one != "" {
			elements[i] = one
		}
	}
	k.last = slices.Clip(elements)
	return k.last
}

// How many operations a generation of keys takes, per key.
const (
	restful  = 3    // how many times as many keys are deleted as are overwritten, so that some stay deleted long enough to be collected
	setOps   = 150  // sets: enough to fill most
	otherOps = 2000 // others: judging a key takes time that grows with its operations times its writes
	growth   = 1.1  // of each generation over the one before
)

// pool is the keys of one workload. They are replaced by new ones after so many operations, each generation taking some more
// than the one before. With 20 keys per workload and the default pace, the four usual workloads use some 200 keys in a minute and 2,000 in
// an hour.
type pool struct {
	workload Workload
	prefix   string
	size     int

	mu         sync.Mutex
	generation int
	room, left float64 // operations that the present generation takes, and has left
	current    []*key
	old        []*key // used ones of earlier generations
}

func newPool(w Workload, run string, size int) *pool {
	p := &pool{workload: w, prefix: run + "-" + string(w) + "-", size: size, room: float64(otherOps * size)}
	switch w {
	case SetAdd:
		p.room = float64(setOps * size)
	case Deletes:
		p.size *= restful
	case Sessions: // a session is picked once
		p.room /= sessionOps
	}
	p.renew()
	return p
}

// pick is a key to work on; low numbers are more likely.
func (p *pool) pick(random *rand.Rand) *key {
	i := min(random.IntN(p.size), random.IntN(p.size))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left < 0 {
		p.old = append(p.old, p.usedNow()...)
		p.room *= growth
		p.generation++
		p.renew()
	}
	k := p.current[i]
	k.used = true
	return k
}

func (p *pool) renew() {
	p.left = p.room
	p.current = make([]*key, p.size)
	for i := range p.current {
		p.current[i] = &key{
			name:  p.prefix + strconv.Itoa(p.generation) + "-" + strconv.Itoa(i),
			blind: p.workload == Registers && i%5 == 4,
			set:   p.workload == SetAdd,
		}
	}
}

// usedNow are the keys of the present generation that somebody works on. The lock is held.
func (p *pool) usedNow() []*key {
	return slices.DeleteFunc(slices.Clone(p.current), func(k *key) bool { return !k.used })
}

// all are the keys that were ever picked.
func (p *pool) all() []*key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.old, p.usedNow())
}

// put is a new value: an operation that writes it, and its bytes.
func (k *key) put(by string, union []string) (check.Op, []byte) {
	o := check.Op{Kind: check.Put, Key: k.name, Value: by}
	var set []string
	if k.set {
		o.Element = by
		set = append(slices.Clone(union), by)
	}
	return o, encode(k.name, by, set)
}

// read is an operation that reads the key.
func (k *key) read() check.Op { return check.Op{Kind: check.Read, Key: k.name} }

// String is the key's name.
func (k *key) String() string { return fmt.Sprintf("%q", k.name) }
