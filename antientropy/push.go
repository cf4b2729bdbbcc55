package antientropy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// push is what the other side is to be given, and what it is to forget.
type push struct {
	pushRequest
	digests []uint64 // of the objects
	at      []int    // places of the classes, of the objects and then
	forgets []int    // of what is to be forgotten
	size    int
}

func (p *push) waits() bool { return len(p.objects)+len(p.forget) > 0 }

// give has an object pushed, now or later. One that is too large for a message travels alone.
func (x *exchange) give(at int, o pushed, digest uint64) error {
	size := len(o.object) + len(o.key.Bucket) + len(o.key.Name) + 12
	if err := x.room(size); err != nil {
		return err
	}
	x.add(at)
	x.push.size += size
	x.push.objects = append(x.push.objects, o)
	x.push.digests = append(x.push.digests, digest)
	x.push.at = append(x.push.at, at)
	return nil
}

// forget has the other side forget an object that was collected here.
func (x *exchange) forget(at int, c collected) error {
	size := len(c.key.Bucket) + len(c.key.Name) + 20
	if err := x.room(size); err != nil {
		return err
	}
	x.add(at)
	x.push.size += size
	x.push.forget = append(x.push.forget, c)
	x.push.forgets = append(x.push.forgets, at)
	return nil
}

// room sends what waits where there is no room for more.
func (x *exchange) room(size int) error {
	if x.push.waits() && x.push.size+size > maxMessage {
		return x.sendPush()
	}
	return nil
}

// sendPush gives the other side what waits for it.
func (x *exchange) sendPush() error {
	began := time.Now()
	defer func() { x.pushing += time.Since(began) }()
	p := x.push
	x.push = push{}
	b, err := x.ask(p.encode())
	if err != nil {
		return err
	}
	answer, err := decodePushAnswer(b, len(p.objects), len(p.forget))
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	peer := x.config.Name(x.peer)
	for i, got := range answer.objects {
		at, key := p.at[i], p.objects[i].key
		switch got {
		case taken:
			x.step.Sent++
		case purged:
			x.count.purged.Add(1)
			dropped, err := x.config.Store.Forget(key, p.digests[i])
			switch {
			case err != nil:
				x.fail(at, "forget what %s has collected: %v", peer, err)
			case !dropped:
				x.fail(at, "an object that %s has collected was written meanwhile", peer)
			}
		default:
			x.fail(at, "merge on %s: %s", peer, answer.why)
		}
		x.done(at)
	}
	for i, got := range answer.forget {
		at := p.forgets[i]
		switch got {
		case taken:
		case changed:
			x.fail(at, "an object that was collected here was written on %s meanwhile", peer)
		default:
			x.fail(at, "forget on %s: %s", peer, answer.why)
		}
		x.done(at)
	}
	x.told()
	return x.rest(time.Since(began))
}

// answerPush merges what the asker has, and forgets what it has proved to be collected. All of it is on disk before the answer.
func (r *Repairer) answerPush(ctx context.Context, from ring.NodeID, l *ring.Layout, m pushRequest) ([]byte, error) {
	self := r.config.Membership.Self()
	answer := pushAnswer{objects: make([]outcome, len(m.objects)), forget: make([]outcome, len(m.forget))}
	fails := func(err error) outcome {
		if answer.why == "" {
			answer.why = err.Error()
		}
		return failed
	}
	owned := func(key ring.Key, n int) error {
		if c := (ring.Class{Partition: l.Partition(key.Token), N: n}); !shared(l, c, self, from) {
			return fmt.Errorf("partition %d with n=%d is not owned by both", c.Partition, c.N)
		}
		return nil
	}
	merged := false
	for i, o := range m.objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := owned(o.key, o.n)
		if err == nil {
			err = r.config.Store.Merge(o.key, o.object)
		}
		switch {
		case err == nil:
			merged = true
		case isPurged(err):
			r.count.purged.Add(1)
			answer.objects[i] = purged
		default:
			answer.objects[i] = fails(err)
		}
	}
	for i, c := range m.forget {
		dropped, err := false, owned(c.key, c.n)
		if err == nil {
			dropped, err = r.config.Store.Forget(c.key, c.digest)
		}
		switch {
		case err != nil:
			answer.forget[i] = fails(err)
		case !dropped:
			answer.forget[i] = changed
		}
	}
	if merged {
		if err := syncStore(ctx, r.config.Store); err != nil {
			return nil, fmt.Errorf("sync store: %w", err)
		}
	}
	return answer.encode(), nil
}

// answer answers one message of an exchange. This side keeps nothing between two of them.
func (r *Repairer) answer(ctx context.Context, from ring.NodeID, l *ring.Layout, kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case kindRoots:
		m, err := decodeRootsRequest(payload)
		if err != nil {
			return nil, err
		}
		return r.answerRoots(from, l, m)
	case kindNodes:
		m, err := decodeNodesRequest(payload)
		if err != nil {
			return nil, err
		}
		return r.answerNodes(from, l, m)
	case kindLists:
		m, err := decodeListsRequest(payload)
		if err != nil {
			return nil, err
		}
		return r.answerLists(ctx, from, l, m)
	case kindPush:
		m, err := decodePushRequest(payload)
		if err != nil {
			return nil, err
		}
		return r.answerPush(ctx, from, l, m)
	}
	return nil, errors.Join(errWire, fmt.Errorf("kind %d", kind))
}
