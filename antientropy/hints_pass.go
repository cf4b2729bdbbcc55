package antientropy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// pass goes once over what is kept for one target. What cannot be delivered stays, and does not hold up what is behind it.
type pass struct {
	*delivery
	layout  *ring.Layout
	target  ring.NodeID
	state   *hintTarget
	deliver bool // the target takes what it owns; else only what it does not own is dealt with
	began   time.Time

	done   int    // hints that are forgotten now
	kept   int    // hints that are to be tried again
	absent int    // of kept: those that lack nothing but owners that are dead
	why    string // the last failure
	alone  int    // messages of one object that failed, one after the other
}

// waiting is one hint that was read.
type waiting struct {
	handed
	own     bool
	version uint64
}

// aloneLimit is how many messages of one object may fail before the pass ends: it is not the objects then.
const aloneLimit = 3

func (p *pass) run(ctx context.Context) {
	complete := p.all(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	t, now := p.state, time.Now()
	t.running = false
	t.err = p.why
	switch {
	case ctx.Err() != nil, p.why == "" && (p.done > 0 || !complete):
		t.until, t.failures = time.Time{}, 0
	case p.kept > 0 && p.kept == p.absent:
		t.until = now.Add(hintAbsent)
	case p.why != "":
		t.until = now.Add(min(hintRetry<<min(t.failures, 10), hintRetryMax))
		t.failures++
		p.config.Logger.Debug("hints are left for later", "to", p.config.Name(p.target), "left", p.kept, "delivered", p.done, "error", p.why)
	default: // nothing to do here
		t.until = now.Add(hintTick)
	}
	if complete && !p.deliver && p.kept == 0 {
		t.swept = p.layout.Version()
	}
}

// all reads and delivers until there is no more, and tells whether it came to the end.
func (p *pass) all(ctx context.Context) bool {
	var after *ring.Key
	for p.mayGoOn(ctx) {
		started := time.Now()
		b, err := p.read(after)
		p.drop(b.gone)
		pause, fine := p.send(ctx, b.deliver)
		p.reroute(ctx, b.elsewhere, "")
		if err != nil {
			p.why = fmt.Sprintf("read hints: %v", err)
			return false
		}
		if !fine || b.last == nil || !b.more {
			return fine
		}
		after = b.last
		p.report()
		if sleep(ctx, pause+p.config.pressed(time.Since(started))) != nil {
			return false
		}
	}
	return false
}

// mayGoOn tells whether things are still as they were when the pass began.
func (p *pass) mayGoOn(ctx context.Context) bool {
	p.mu.Lock()
	paused, others := p.paused, p.waiting
	p.mu.Unlock()
	switch {
	case ctx.Err() != nil || paused:
		return false
	case sameLayout(p.config.Membership.Layout(), p.layout.Version()) != nil: // owners may be others now
		return false
	case p.deliver && !p.config.Membership.Alive(p.target):
		return false
	}
	return !others || time.Since(p.began) < hintTurn
}

// batch is what one message's worth of reading has brought.
type batch struct {
	deliver   []waiting // to the target
	elsewhere []waiting // the target does not own them
	gone      []waiting // nothing is left to hand over
	last      *ring.Key // up to where was read
	more      bool      // there may be others behind it
}

const (
	mostGone    = 1024 // hints that are forgotten between two messages
	mostSkipped = 4096 // hints that are passed by before somebody may end it
)

func (p *pass) read(after *ring.Key) (b batch, err error) {
	size, bytes, skipped := p.state.pace.batch(), 0, 0
	err = p.config.Store.Hints(p.target, after, func(h Hint) bool {
		w := waiting{handed: handed{key: h.Key}, own: h.Own, version: h.Version}
		if h.Object == nil {
			b.gone = append(b.gone, w)
		} else {
			owned := p.target != p.config.Membership.Self() && slices.Contains(p.config.owners(p.layout, h.Key), p.target)
			if owned && !p.deliver { // it waits for its target
				skipped++
				b.last, b.more = &w.key, skipped >= mostSkipped
				return !b.more
			}
			n := handedBytes(h.Key, h.Object)
			if bytes > 0 && bytes+n > batchBytes {
				b.more = true
				return false
			}
			bytes += n
			w.object = slices.Clone(h.Object)
			if owned {
				b.deliver = append(b.deliver, w)
			} else {
				b.elsewhere = append(b.elsewhere, w)
			}
		}
		b.last = &w.key
		b.more = len(b.deliver)+len(b.elsewhere) >= size || len(b.gone) >= mostGone
		return !b.more
	})
	return b, err
}

// send delivers one message's worth, and tells how long to pause for the target's sake, and whether to go on behind it.
func (p *pass) send(ctx context.Context, items []waiting) (pause time.Duration, fine bool) {
	if len(items) == 0 {
		return 0, true
	}
	if plant.On(plant.HintDropEarly) {
		p.drop(items)
	}
	sent := time.Now()
	receipts, err := p.hand(ctx, p.target, items)
	if err != nil {
		p.state.pace.failed()
		p.keep(len(items), err.Error())
		if len(items) > 1 { // next time it goes in pieces, until the one that is to blame is alone
			return 0, false
		}
		p.alone++
		return hintRetry, p.alone < aloneLimit
	}
	p.alone = 0
	pause = p.state.pace.took(time.Since(sent))
	var arrived, refused []waiting
	for i, r := range receipts {
		switch r.fate {
		case handedOver, handedPurged:
			arrived = append(arrived, items[i])
		case handedNotOwner:
			refused = append(refused, items[i])
		default:
			p.keep(1, r.why)
		}
	}
	p.drop(arrived)
	p.reroute(ctx, refused, p.target)
	return pause, true
}

// hand sends objects to one node in one message.
func (p *pass) hand(ctx context.Context, to ring.NodeID, items []waiting) ([]receipt, error) {
	message := make([]handed, len(items))
	for i, w := range items {
		message[i] = w.handed
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := p.config.Peers.Exchange(ctx, to, p.layout.Version(), encodeHints(message))
	if err != nil {
		return nil, fmt.Errorf("hand over to %s: %w", p.config.Name(to), err)
	}
	return decodeReceipts(answer, len(items))
}

// drop forgets hints, if they are still as they were read.
func (p *pass) drop(items []waiting) {
	dropped := 0
	for _, w := range items {
		if err := p.config.Store.DropHint(p.target, w.key, w.version); err != nil {
			p.keep(1, fmt.Sprintf("forget a hint: %v", err))
			continue
		}
		dropped++
	}
	p.done += dropped
	p.mu.Lock()
	p.state.delivered += uint64(dropped)
	p.state.sent += dropped
	p.state.rate.add(time.Now(), dropped)
	p.mu.Unlock()
}

func (p *pass) keep(n int, why string) {
	p.kept += n
	p.why = why
}

// report tells in the log how far it has come, now and then.
func (p *pass) report() {
	p.mu.Lock()
	now, sent, began := time.Now(), p.state.sent, p.state.began
	tell := now.Sub(p.state.reported) >= hintReport
	if tell {
		p.state.reported = now
	}
	p.mu.Unlock()
	if !tell {
		return
	}
	left := int64(0)
	stats, _ := p.config.Store.HintStats()
	for _, s := range stats {
		if s.Target == p.target {
			left = s.Count
		}
	}
	p.config.Logger.Info("delivering hints", "to", p.config.Name(p.target), "delivered", sent, "left", left, "after", now.Sub(began).Round(time.Millisecond))
}
