package quorum

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// explainTimeout bounds how long Explain waits for one replica.
const explainTimeout = 2 * time.Second

// Explain asks every owner of a key, and the next nodes behind them, what each holds now, as it is stored; those behind them also what they keep
// for owners as stand-ins. Further nodes are part of the answer only where they keep something. Nothing is repaired by it, and
// nodes that seem dead are asked too. It fails only without a ring; a replica that does not answer is part of the answer.
func (c *Coordinator) Explain(ctx context.Context, key ring.Key) (Explanation, error) {
	if e := c.enter(&c.lists); e != nil {
		e.Outcome = ""
		return Explanation{}, e
	}
	defer c.leave(&c.lists)
	t, e := c.target(key)
	if e != nil {
		e.Outcome = ""
		return Explanation{}, e
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	preference := t.layout.Preference(t.partition)
	out := Explanation{Partition: t.partition, Token: key.Token, Ring: t.layout.Version(), Bucket: t.bucket}
	for _, id := range preference {
		out.Preference = append(out.Preference, t.receipt(id).Node)
	}
	began := time.Now()
	always := min(len(preference), t.n+nextNodes)
	out.Replicas = make([]ReplicaState, min(len(preference), t.n+MaxN))
	var group sync.WaitGroup
	for i, id := range preference[:len(out.Replicas)] {
		s := &out.Replicas[i]
		s.ReplicaReceipt = t.receipt(id)
		if i >= t.n {
			s.Role = "standin"
		}
		if i >= always && c.answers(id, began) != nil {
			continue
		}
		group.Go(func() { c.explainOne(ctx, &t, id, key, i < always, s) })
	}
	group.Wait()
	further := slices.DeleteFunc(out.Replicas[always:], func(s ReplicaState) bool { return !s.Hint })
	out.Replicas = out.Replicas[:always+len(further)]
	return out, nil
}

// explainOne asks one node: a stand-in first what it keeps for others, and then, with data, like an owner what it holds.
func (c *Coordinator) explainOne(ctx context.Context, t *target, id ring.NodeID, key ring.Key, data bool, s *ReplicaState) {
	began := time.Now()
	var object []byte
	var digest uint64
	var err error
	if s.Role == "standin" {
		object, digest, err = c.keptAnyway(ctx, t.layout.Version(), id, key)
		s.Hint = err == nil && len(object) > 0
	}
	if data && !s.Hint {
		object, digest, err = c.readOne(ctx, t, id, key)
	}
	s.Took = time.Since(began)
	if err == nil && len(object) > 0 {
		s.Object, err = vclock.DecodeObject(object)
	}
	if err != nil {
		s.Error = err.Error()
		return
	}
	s.OK, s.Found, s.Digest = true, !s.Object.Empty(), digest
}

// keptAnyway is kept, past the breaker.
func (c *Coordinator) keptAnyway(ctx context.Context, layout uint64, id ring.NodeID, key ring.Key) ([]byte, uint64, error) {
	if id == c.self {
		return c.kept(ctx, layout, id, key)
	}
	answer, err := c.config.Peers.Standin(ctx, id, layout, encodeAsk(key))
	if err != nil {
		return nil, 0, err
	}
	return openKept(id, answer)
}

// readOne reads one replica and waits for it. It goes past the breaker.
func (c *Coordinator) readOne(ctx context.Context, t *target, id ring.NodeID, key ring.Key) ([]byte, uint64, error) {
	if id == c.self {
		return c.config.Local.Get(key)
	}
	type reply struct {
		object []byte
		digest uint64
		err    error
	}
	replies := make(chan reply, 1)
	c.life.more()
	c.config.Peers.Read(ctx, id, t.layout.Version(), key, false, func(object []byte, digest, _ uint64, err error) {
		replies <- reply{object, digest, err}
		c.life.end()
	})
	select {
	case r := <-replies:
		return r.object, r.digest, r.err
	case <-ctx.Done():
		return nil, 0, errSilent
	}
}
