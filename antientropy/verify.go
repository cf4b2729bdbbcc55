package antientropy

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Rates of verification. A partition is walked in one go, and the pause until the next one makes the cycle as long as it shall be.
const (
	verifyRate = 4 << 20 // bytes per second, at least, where requests are as fast as usual
	verifyHead = 4       // how many times faster than the cycle asks for, so that pauses remain
	verifyRest = 10 * time.Second

	suspectRate = 32 << 20    // bytes per second
	suspectGap  = time.Minute // between two walks over the same suspect
)

// verification is the slow walk over everything that is on disk.
type verification struct {
	mu       sync.Mutex
	complete time.Time     // the end of the last complete cycle
	bytes    map[int]int64 // by partition, in the last walk over it
	suspects map[int]bool  // partitions that do not wait for their turn
	walked   map[int]time.Time
	wake     chan struct{} // has room for one: there is a suspect
}

func newVerification() *verification {
	return &verification{bytes: make(map[int]int64), suspects: make(map[int]bool), walked: make(map[int]time.Time), wake: make(chan struct{}, 1)}
}

// age is how long ago everything had been verified; 0 = not since the start.
func (v *verification) age(now time.Time) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.complete.IsZero() {
		return 0
	}
	return max(now.Sub(v.complete), 1)
}

// suspect has a partition verified soon: an exchange has met a leaf of this node that is not what it holds, and only a walk puts trees
// right. It does not block.
func (v *verification) suspect(partition int) {
	v.mu.Lock()
	if since := time.Since(v.walked[partition]); v.walked[partition].IsZero() || since >= suspectGap {
		v.suspects[partition] = true
	}
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// takeSuspect takes one, -1 where there is none.
func (v *verification) takeSuspect() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	for p := range v.suspects {
		delete(v.suspects, p)
		v.walked[p] = time.Now() // who suspects it from now on has not seen what the walk finds
		return p
	}
	return -1
}

// runVerify walks over all partitions, again and again. It begins anywhere, so that restarts do not verify the same ones each time.
func (r *Repairer) runVerify(ctx context.Context) {
	for ctx.Err() == nil {
		l := r.config.Membership.Layout()
		if l == nil || r.config.NoVerify {
			r.suspectsUntil(ctx, verifyRest)
			continue
		}
		todo := r.toVerify(l)
		if len(todo) == 0 {
			r.suspectsUntil(ctx, verifyRest)
			continue
		}
		start := int(r.random(int64(len(todo))))
		todo = append(todo[start:], todo[:start]...)
		slot := r.config.VerifyCycle / time.Duration(len(todo))
		complete := true
		for _, partition := range todo {
			began := time.Now()
			complete = r.verifyPartition(ctx, partition, slot) && complete
			r.suspectsUntil(ctx, slot-time.Since(began))
			if ctx.Err() != nil {
				return
			}
		}
		if complete {
			r.verify.mu.Lock()
			r.verify.complete = time.Now()
			r.verify.mu.Unlock()
		}
	}
}

// suspectsUntil waits, and verifies meanwhile what does not wait for its turn.
func (r *Repairer) suspectsUntil(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(max(wait, 0))
	defer t.Stop()
	for {
		for p := r.verify.takeSuspect(); p >= 0 && ctx.Err() == nil; p = r.verify.takeSuspect() {
			r.verifyPartition(ctx, p, 0)
		}
		select {
		case <-r.verify.wake:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// toVerify lists the partitions that this node owns, at any replica count, and those of which it holds anything.
func (r *Repairer) toVerify(l *ring.Layout) []int {
	var out []int
	self := r.config.Membership.Self()
	for p := range l.Partitions() {
		if l.Owns(self, p, maxReplicas) {
			out = append(out, p)
		}
	}
	for _, c := range r.config.Store.Classes() {
		out = append(out, c.Partition)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// verifyPartition walks over one partition within about its share of the cycle. It tells whether the walk came to its end.
func (r *Repairer) verifyPartition(ctx context.Context, partition int, slot time.Duration) bool {
	rate := r.verify.rate(partition, slot)
	began, read := time.Now(), int64(0)
	result, err := r.config.Store.VerifyPartition(partition, func(n int) error {
		read += int64(n)
		due := time.Duration(float64(read) / rate * float64(time.Second) * min(max(r.config.Pressure(), 1), 8))
		return sleep(ctx, due-time.Since(began))
	})
	r.count.verified.Add(uint64(result.Objects))
	r.count.damaged.Add(uint64(result.Damaged))
	r.count.wrong.Add(uint64(result.WrongLeaves))
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		r.config.Logger.Warn("partition cannot be verified", "partition", partition, "error", err)
	}
	if result.Damaged > 0 || result.WrongLeaves > 0 {
		r.config.Logger.Warn("verification found damage", "partition", partition, "objects", result.Objects, "damaged", result.Damaged, "wrong_leaves", result.WrongLeaves)
		// What the trees said before was not what is stored: that these classes were equal has to be found anew.
		r.debts.forget(partition, r.sequence.Add(1))
		r.regainOrLog() // the store may have taken votes away
		if l := r.config.Membership.Layout(); l != nil {
			for _, id := range peersOf(l, r.config.Membership.Self(), partition, min(partition+1, l.Partitions())) {
				r.exchangeSoon(id, nil)
			}
		}
	}
	r.verify.ended(partition, result.Bytes, err)
	return err == nil
}

// rate is how many bytes a second are read from a partition: enough that the cycle comes to its end in time.
func (v *verification) rate(partition int, slot time.Duration) float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	expected, known := v.bytes[partition]
	if !known {
		for _, n := range v.bytes {
			expected = max(expected, n)
		}
	}
	if slot <= 0 { // a suspect
		return suspectRate
	}
	return max(verifyRate, verifyHead*float64(expected)/slot.Seconds())
}

// ended remembers when a partition was walked over, and how much there was.
func (v *verification) ended(partition int, bytes int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.walked[partition] = time.Now()
	if err == nil {
		v.bytes[partition] = bytes
	}
}
