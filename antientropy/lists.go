package antientropy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rondodb/rondo/ring"
)

// item is a leaf that differs, or a part of one, with what this node holds in it.
type item struct {
	at       int // place of its class
	leaf     int
	from, to uint64
	held     []held // in token order
	sound    bool
}

// held is one state of one object of this node.
type held struct {
	key    ring.Key
	digest uint64
}

// readItem reads a leaf of this node. What cannot be read is noted; the rest is there.
func (x *exchange) readItem(ref leafRef) (*item, error) {
	it := &item{at: ref.at, leaf: ref.leaf}
	it.from, it.to = ring.LeafTokens(ref.leaf)
	sound, err := x.config.Store.ReadLeaf(x.classes[ref.at].class, ref.leaf, func(key ring.Key, _ []byte, digest uint64) bool {
		it.held = append(it.held, held{key, digest})
		return true
	})
	x.step.Read += int64(len(it.held))
	it.sound = sound && err == nil
	if !it.sound {
		why := ""
		if err != nil {
			why = err.Error()
		}
		x.verify.suspect(x.classes[ref.at].class.Partition)
		return it, x.damage(ref.at, x.config.Membership.Self(), ref.leaf, why)
	}
	return it, nil
}

// request takes from the front of the items as much as the window allows. A leaf with more objects is cut between two tokens.
func (x *exchange) request() (listsRequest, error) {
	m := listsRequest{budget: maxMessage}
	room, keys := x.window, maxKeyBytes
	for i := 0; room > 0 && keys > 0 && len(m.items) < maxItems; i++ {
		if i == len(x.items) {
			if len(x.leaves) == 0 {
				break
			}
			ref := x.leaves[len(x.leaves)-1]
			x.leaves = x.leaves[:len(x.leaves)-1]
			it, err := x.readItem(ref)
			x.items = append(x.items, it)
			if err != nil {
				return m, err
			}
		}
		it := x.items[i]
		if len(it.held) > x.window {
			if rest := it.cut(x.window); rest != nil {
				x.add(it.at)
				x.items = slices.Insert(x.items, i+1, rest)
			}
		}
		list := listItem{class: x.classes[it.at].class, leaf: it.leaf, from: it.from, to: it.to, pairs: make([]pair, len(it.held))}
		for k, h := range it.held {
			list.pairs[k] = pair{h.key.Token, h.digest}
			keys -= len(h.key.Bucket) + len(h.key.Name)
		}
		room -= 1 + len(it.held)
		m.items = append(m.items, list)
	}
	return m, nil
}

// cut leaves about n objects in an item and returns an item with the rest; nil where they all have one token.
func (it *item) cut(n int) *item {
	at := n
	for at < len(it.held) && it.held[at].key.Token == it.held[at-1].key.Token {
		at++
	}
	if at == len(it.held) {
		return nil
	}
	rest := *it
	rest.from = it.held[at].key.Token
	rest.held = it.held[at:]
	it.to = rest.from - 1
	it.held = it.held[:at:at]
	return &rest
}

// compareLists sends what this node holds in some leaves, and takes what the other side has in them.
func (x *exchange) compareLists() error {
	began, pushing := time.Now(), x.pushing
	m, err := x.request()
	if err != nil {
		return err
	}
	b, err := x.ask(m.encode())
	if err != nil {
		return err
	}
	answer, err := decodeListsAnswer(b, m.items)
	if err != nil {
		return fmt.Errorf("compare lists: %w", err)
	}
	moved, entries := false, 0
	for i := range answer.items {
		got, it := &answer.items[i], x.items[0]
		moved = moved || len(got.objects)+len(got.lacks) > 0
		if err := x.take(it, got); err != nil {
			return err
		}
		if got.partial {
			at, _ := slices.BinarySearchFunc(it.held, got.resume, func(h held, token uint64) int {
				if h.key.Token < token {
					return -1
				}
				return 1
			})
			entries += at
			it.held, it.from = it.held[at:], got.resume
			break
		}
		entries += 1 + len(it.held)
		x.items[0] = nil
		x.items = x.items[1:]
		x.done(it.at)
	}
	// What was not answered is sent again, so a message holds not much more than the last answer had room for.
	if last := answer.items[len(answer.items)-1]; last.partial || len(answer.items) < len(m.items) {
		x.window = max(entries+entries/4, 16)
	} else {
		x.window = min(2*x.window, maxWindow)
	}
	x.told()
	if moved {
		return x.rest(time.Since(began) - (x.pushing - pushing)) // pushes rest by themselves
	}
	return nil
}

// take merges what the other side has, and notes what is to be pushed.
func (x *exchange) take(it *item, got *listed) error {
	if got.unsound {
		if err := x.damage(it.at, x.peer, it.leaf, got.why); err != nil {
			return err
		}
	}
	c := x.classes[it.at].class
	theirs := make(map[ring.Key]uint64, len(got.objects))
	for _, o := range got.objects {
		digest := ring.Digest(o.object)
		switch err := x.config.Store.Merge(o.key, o.object); {
		case err == nil:
			x.step.Received++
			x.classes[it.at].received = true
			theirs[o.key] = digest
		case isPurged(err) && it.sound:
			x.count.purged.Add(1)
			if err := x.forget(it.at, collected{n: c.N, key: o.key, digest: digest}); err != nil {
				return err
			}
		default:
			x.fail(it.at, "merge on %s: %v", x.config.Name(x.config.Membership.Self()), err)
		}
	}
	for _, i := range got.lacks {
		key := it.held[i].key
		object, digest, err := x.config.Store.Get(key)
		if err != nil {
			x.fail(it.at, "read on %s: %v", x.config.Name(x.config.Membership.Self()), err)
			continue
		}
		if merged, ok := theirs[key]; object == nil || ok && merged == digest {
			continue // it was collected meanwhile; or the other side's was newer
		}
		if err := x.give(it.at, pushed{n: c.N, key: key, object: object}, digest); err != nil {
			return err
		}
	}
	return nil
}

// answerLists compares what the asker holds with what this node holds.
func (r *Repairer) answerLists(ctx context.Context, from ring.NodeID, l *ring.Layout, m listsRequest) ([]byte, error) {
	self := r.config.Membership.Self()
	leaves := ring.Leaves / l.Partitions()
	d := difference{budget: m.budget}
	var answer listsAnswer
	for i := range m.items {
		it := &m.items[i]
		if it.leaf/leaves != it.class.Partition || !shared(l, it.class, self, from) {
			return nil, fmt.Errorf("%w: leaf %d with n=%d is not owned by both", errWire, it.leaf, it.class.N)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got := d.of(r.config.Store, it)
		if got.unsound {
			r.verify.suspect(it.class.Partition)
		}
		answer.items = append(answer.items, got)
		if got.partial {
			break
		}
	}
	return answer.encode(), nil
}

// difference collects what an asker lacks, up to a budget of bytes.
type difference struct {
	budget int // what is left of it
	begun  bool
}

// of reads one leaf and compares it with what the asker holds there. Objects of one token are sent together or not at all.
func (d *difference) of(s Store, it *listItem) listed {
	var got listed
	unmatched := make(map[pair]int, len(it.pairs))
	for i, p := range it.pairs {
		unmatched[p] = i
	}
	token, any := uint64(0), false // of the object before
	sound, err := s.ReadLeaf(it.class, it.leaf, func(key ring.Key, object []byte, digest uint64) bool {
		if got.partial || key.Token < it.from || key.Token > it.to {
			return true // the whole leaf is read all the same, to know that it is sound
		}
		p := pair{key.Token, digest}
		if _, same := unmatched[p]; same {
			delete(unmatched, p)
		} else {
			size := len(object) + len(key.Bucket) + len(key.Name) + 12
			if size > d.budget && d.begun && !(any && key.Token == token) {
				got.partial, got.resume = true, key.Token
				return true
			}
			d.budget -= size
			d.begun = true
			got.objects = append(got.objects, keyed{key: key, object: slices.Clone(object)})
		}
		token, any = key.Token, true
		return true
	})
	if err != nil {
		got.why = err.Error()
	}
	got.unsound = !sound || err != nil
	for _, i := range unmatched {
		if !got.partial || it.pairs[i].token < got.resume {
			got.lacks = append(got.lacks, i)
		}
	}
	slices.Sort(got.lacks)
	return got
}
