package verify

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
)

// worker is one client: one request at a time.
type worker struct {
	v      *Verifier
	random *rand.Rand
	name   string // changes after a write whose outcome is unknown
	base   string
	lives  int
	wrote  int  // values so far
	at     int  // node, where it sticks to one
	lost   bool // no node took the last operation
	full   bool // nor does the history take another

	careless bool // asks nodes whether they answer or not

	tokens  map[string]string // newest context by key, of workloads that go on with it
	session session
}

func newWorker(v *Verifier, i int) *worker {
	base := "c" + strconv.Itoa(i+1)
	if v.loads > 1 {
		base = "l" + strconv.Itoa(v.loads) + "c" + strconv.Itoa(i+1)
	}
	return &worker{
		v: v, base: base, name: base, at: i % len(v.targets), careless: i == 0, tokens: map[string]string{},
		random: rand.New(rand.NewPCG(v.config.Seed, uint64(v.loads)<<32|uint64(i))),
	}
}

// run works until ctx ends or the history is full.
func (w *worker) run(ctx context.Context) {
	pools := w.v.pools
	for ctx.Err() == nil && !w.full {
		w.lost = false
		switch p := pools[w.random.IntN(len(pools))]; p.workload {
		case SetAdd:
			w.addToSet(p.pick(w.random))
		case Registers:
			w.overwrite(p.pick(w.random))
		case Deletes:
			w.putOrDelete(p.pick(w.random))
		case Sessions:
			w.carry(p)
		case Expiring:
			w.expire(p.pick(w.random))
		}
		w.pause(ctx)
	}
}

// pause waits between operations; always where no node took the last one.
func (w *worker) pause(ctx context.Context) {
	var d time.Duration
	if pace := w.v.config.Pace; pace > 0 {
		d = time.Duration(min(w.random.ExpFloat64(), 10) * float64(pace))
	}
	if w.lost {
		d = max(d, leastPause)
	}
	wait(ctx, d)
}

// wait sleeps, and tells whether there is still time.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// value is a name for the next value, unique in the history of any key.
func (w *worker) value() string {
	w.wrote++
	return w.base + "-" + strconv.Itoa(w.wrote)
}

// chance is true in percent of all cases.
func (w *worker) chance(percent int) bool { return w.random.IntN(100) < percent }

// strict does an operation as configured.
func (w *worker) strict(op check.Op, k *key, body []byte) check.Op { return w.lasting(op, k, body, 0) }

// lasting does an operation as configured; what it puts expires after ttl. 0 = never.
func (w *worker) lasting(op check.Op, k *key, body []byte, ttl time.Duration) check.Op {
	op.Strict = w.v.levels.strict(0)
	o := w.v.config.Options
	if o.Sloppy == "" && w.chance(w.v.config.SloppyPercent) {
		o.Sloppy = "true"
	}
	op.Sloppy = o.Sloppy == "true" || o.Sloppy == "" && w.v.sloppy
	return w.do(op, k, body, o, ttl)
}

// weak reads one replica, or as many as it takes to be as new as the context.
func (w *worker) weak(op check.Op, k *key) check.Op {
	op.Sloppy = w.v.sloppy
	return w.do(op, k, nil, client.Options{R: "1"}, 0)
}

// first is the node to ask first. All clients but one leave out nodes that do not answer, as an application behind a health check
// does: else one frozen node would soon hold all of them.
func (w *worker) first() int {
	if w.v.config.Stick {
		return w.at
	}
	n := len(w.v.targets)
	first := w.random.IntN(n)
	for i := range n {
		if s := w.v.targets[(first+i)%n].looks(); w.careless || s.Answers || !s.Known {
			return (first + i) % n
		}
	}
	return first
}

// do makes one operation and notes it. It goes on to the next node where it is certain that no node has it, and with reads.
func (w *worker) do(op check.Op, k *key, body []byte, o client.Options, ttl time.Duration) check.Op {
	v := w.v
	op.Client = w.name
	if ttl > 0 {
		o.TTL = ttl.String()
		op.Skew = int64(2 * v.config.Skew) // one clock stamps it, another one hides it
		op.Expires = v.record.now() + int64(ttl)
	}
	id, ok := v.record.invoke(&op)
	if !ok {
		w.full = true
		return op
	}
	ctx, cancel := context.WithTimeout(context.Background(), v.config.Timeout+v.config.Timeout/4)
	defer cancel()
	first := w.first()
	var (
		got answer
		err error
	)
	for i := range v.targets {
		w.at = (first + i) % len(v.targets)
		t := v.targets[w.at]
		op.Node = t.name
		got, err = t.send(ctx, v.config.Bucket, &op, body, o)
		var next bool
		if op.Outcome, next = outcome(op.Kind, err); !next || ctx.Err() != nil {
			break
		}
		w.lost = i == len(v.targets)-1
	}
	if op.Outcome != check.OK {
		w.at = (w.at + 1) % len(v.targets) // where it sticks, not to one that fails
	} else {
		w.fill(&op, k, &got, o)
	}
	v.record.done(id, &op)
	if op.Outcome == check.Unknown && op.Kind != check.Read {
		w.lives++
		w.name = w.base + "." + strconv.Itoa(w.lives)
	}
	return op
}

// fill notes an answer.
func (w *worker) fill(op *check.Op, k *key, got *answer, o client.Options) {
	v := w.v
	l, r := v.levels, &got.receipt
	op.ContextOut, op.Standins = got.context, r.Standins
	if op.Expires != 0 {
		op.Skew += v.record.now() - op.Invoke // when it was stamped
	}
	if op.Kind != check.Read {
		op.Want, op.Acked = l.writes(r.N), r.Acked
		op.WantDurable, op.Durable = l.durable(r.N), r.Durable
		op.Strict = op.Strict && r.Standins == 0 && l.strict(r.N)
		return
	}
	op.Want, op.Acked = l.reads(r.N), r.Replied
	if o.R == "1" {
		op.Want = 1
	}
	op.Strict = op.Strict && r.Standins == 0 && l.strict(r.N)
	op.Minority = op.Strict && 2*op.Want <= l.of(r.N)
	op.Values, op.Elements = k.versions(got.values)
}

// versions are the names of the versions in an answer, and of a set their elements.
func (k *key) versions(values []client.Value) (names, elements []string) {
	for _, v := range values {
		by, set := decode(k.name, v.Data)
		names = append(names, by)
		elements = append(elements, set...)
	}
	if !k.set || len(elements) == 0 {
		return names, nil
	}
	return names, k.shared(elements)
}
