package quorum

import (
	"context"
	"time"

	"github.com/rondodb/rondo/ring"
)

// standinCalls bounds how many stand-ins one attempt of a read asks, those that failed included.
const standinCalls = 2 * MaxN

// node is who answers as replica i: the owner, or its stand-in.
func (a *attempt) node(i int) ring.NodeID {
	if place := a.tally.slots[i].standin; place > 0 {
		return a.t.layout.Preference(a.t.partition)[place]
	}
	return a.t.owners[i]
}

// askStandins asks the nodes behind the owners for what they keep, one in place of each owner that is down. It is called where all owners that can
// be asked were asked. False where there is nobody to ask, or only owners count.
func (a *attempt) askStandins(ctx context.Context) bool {
	if !a.t.sloppy {
		return false
	}
	now, asked := time.Now(), false
	for i := range a.t.n {
		if s := a.tally.slots[i].state; s != slotIdle && s != slotFailed || !a.away(i, now) || a.calls >= standinCalls {
			continue
		}
		if a.behind == nil {
			a.behind = newBehind(&a.t)
		}
		place, id, ok := a.behind.take(a.c, now)
		if !ok {
			break
		}
		a.calls++
		asked = true
		a.tally.replaced(i, place)
		a.parts[i] = readPart{asked: now}
		a.askStandin(ctx, i, id)
	}
	return asked
}

// away tells whether the owner of place i is down, so that a stand-in may answer for it.
func (a *attempt) away(i int, now time.Time) bool {
	id := a.t.owners[i]
	return id != a.c.self && (a.tally.standin(i) || isDown(a.parts[i].err) || isDown(a.c.answers(id, now)))
}

// askStandin asks one node what it keeps. It gets half of the time that is left, so that there is time for another one.
func (a *attempt) askStandin(ctx context.Context, i int, id ring.NodeID) {
	c, key, version, asked := a.c, a.key, a.t.layout.Version(), a.parts[i].asked
	until := asked.Add(c.config.Timeout)
	if at, ok := ctx.Deadline(); ok {
		until = asked.Add(at.Sub(asked) / 2)
	}
	replies := a.inbox()
	c.life.more()
	go func() {
		defer c.life.end()
		hop, cancel := context.WithDeadline(context.Background(), until)
		defer cancel()
		object, digest, err := c.kept(hop, version, id, key)
		replies <- readReply{index: int8(i), kind: replyObject, object: object, digest: digest, err: err, took: time.Since(asked)}
	}()
}
