package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
)

// How Finish works.
const (
	finishers  = 8                      // keys at one time
	roundPause = 100 * time.Millisecond // between two rounds over the keys that do not agree yet
	nothing    = "nothing"              // digest of a replica that holds nothing of a key
)

// Finish is called when the faults are over. It waits until every key can be read from all its replicas and these agree, for
// Settle at most; lets requests that were given up run out of time; reads every key through every node that is ready and from
// each replica alone; and judges. Where ctx ends before, it judges what there is. An error where nothing was ever loaded.
func (v *Verifier) Finish(ctx context.Context) (*Result, error) {
	if v.loads == 0 {
		return nil, errors.New("finish: nothing was loaded")
	}
	r := &Result{Strict: v.levels.strict(0)}
	v.observed(ctx, func() {
		began := time.Now()
		by := began.Add(v.config.Settle)
		limited, cancel := context.WithDeadline(ctx, by)
		defer cancel()
		keys := v.keys()
		v.enter(PhaseSettle, len(keys))
		left := v.settle(limited, keys)
		r.ConvergedIn = time.Since(began)
		v.enter(PhaseQuiet, 0)
		if wait(ctx, time.Until(v.ended.Add(v.config.Timeout+v.config.Timeout/2))) && len(left) == 0 {
			v.enter(PhaseSettle, len(keys)) // what came in late may have parted them again
			left = v.settle(limited, keys)
		}
		r.Converged = len(left) == 0
		var readable []*key
		for _, k := range keys {
			why, unsettled := left[k]
			if unsettled {
				r.Unsettled = append(r.Unsettled, k.name)
			}
			if unsettled && why == silent {
				r.NotRead = append(r.NotRead, k.name)
			} else {
				readable = append(readable, k)
			}
		}
		v.enter(PhaseFinal, len(readable))
		r.NotRead = append(r.NotRead, v.finalReads(ctx, by, readable)...)
		v.enter(PhaseJudge, 0)
		r.History = v.record.history()
		r.Report, r.Summary = check.History(r.History), check.Summarize(r.History)
	})
	r.Events = v.record.all()
	r.conclude(ctx.Err() != nil)
	return r, nil
}

// keys are all that were used.
func (v *Verifier) keys() []*key {
	var out []*key
	for _, p := range v.pools {
		out = append(out, p.all()...)
	}
	return out
}

// agreement is what was found out about the replicas of a key.
type agreement int

const (
	silent  agreement = iota // they have not all answered: what each holds is no promise yet
	differ                   // they were all read and still hold different objects
	settled                  // they hold the same
)

// settle goes through the keys until the replicas of each agree or ctx ends, and returns those that do not.
func (v *Verifier) settle(ctx context.Context, keys []*key) map[*key]agreement {
	for {
		found := make([]agreement, len(keys))
		each(ctx, len(keys), func(i int) {
			if found[i] = v.agreement(ctx, i, keys[i]); found[i] == settled {
				v.done.Add(1)
			}
		})
		left := map[*key]agreement{}
		var again []*key
		for i, k := range keys {
			if found[i] != settled {
				left[k] = found[i]
				again = append(again, k)
			}
		}
		if keys = again; len(keys) == 0 || !wait(ctx, roundPause) {
			return left
		}
	}
}

// each calls work for 0 to n-1, a few at a time, until ctx ends.
func each(ctx context.Context, n int, work func(i int)) {
	next := make(chan int)
	var group sync.WaitGroup
	for range min(n, finishers) {
		group.Go(func() {
			for i := range next {
				work(i)
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	group.Wait()
}

// agreement compares the replicas of a key. Unless Quiet is set it has read from all of them before, which brings them up to date.
func (v *Verifier) agreement(ctx context.Context, i int, k *key) agreement {
	t := v.targets[i%len(v.targets)]
	for j := range v.targets { // one that serves, if any does
		if other := v.targets[(i+j)%len(v.targets)]; other.looks().Ready {
			t = other
			break
		}
	}
	limited, cancel := context.WithTimeout(ctx, v.config.Timeout+v.config.Timeout/4)
	defer cancel()
	if !v.config.Quiet {
		op := k.read()
		if _, err := t.send(limited, v.config.Bucket, &op, nil, client.Options{R: "all"}); err != nil {
			return silent
		}
	}
	replicas, err := v.replicas(limited, t, k)
	if err != nil {
		return silent
	}
	if !equal(replicas) {
		return differ
	}
	return settled
}

// equal tells whether replicas hold the same.
func equal(replicas []client.Replica) bool {
	return !slices.ContainsFunc(replicas, func(r client.Replica) bool { return digest(r) != digest(replicas[0]) })
}

// replicas are what the owners of a key hold; all of them answered.
func (v *Verifier) replicas(ctx context.Context, t *target, k *key) ([]client.Replica, error) {
	e, err := t.client.Explain(ctx, v.config.Bucket, k.name)
	if err != nil {
		return nil, err
	}
	owners := slices.DeleteFunc(e.Replicas, func(r client.Replica) bool { return r.Role != "owner" && r.Role != "" })
	if len(owners) == 0 {
		return nil, fmt.Errorf("explain %s: no replica", k)
	}
	for _, r := range owners {
		if r.Error != "" {
			return nil, fmt.Errorf("explain %s: replica %s: %s", k, r.Node, r.Error)
		}
	}
	return owners, nil
}

func digest(r client.Replica) string {
	if !r.Found {
		return nothing
	}
	return r.Digest
}

// finalReads reads every key through every node that is ready and from each replica alone. It returns the keys for which one of
// these reads could not be had before the time is up.
func (v *Verifier) finalReads(ctx context.Context, by time.Time, keys []*key) []string {
	var ready []*target
	for _, t := range v.targets {
		if t.looks().Ready {
			ready = append(ready, t)
		}
	}
	failed := make([]bool, len(keys))
	for i := range failed {
		failed[i] = true // until it is read
	}
	each(ctx, len(keys), func(i int) {
		read := 0
		for _, t := range ready {
			if v.finalRead(ctx, by, t, keys[i]) {
				read++
			}
		}
		// Replicas that no read of all of them has brought up to date may differ, and break no promise by it.
		failed[i] = read == 0 || !v.finalReplicas(ctx, by, ready[i%len(ready)], keys[i]) || read < len(ready)
		v.done.Add(1)
	})
	var out []string
	for i, k := range keys {
		if failed[i] {
			out = append(out, k.name)
		}
	}
	return out
}

// finalTries is how often a final read is tried at least: the cluster is whole again, and may yet be busy.
const finalTries = 3

// try does work until it succeeds or the time is up, each time with a limit of its own, and tells whether it did.
func (v *Verifier) try(ctx context.Context, by time.Time, work func(ctx context.Context) error) bool {
	for i := 0; i < finalTries || time.Now().Before(by); i++ {
		limited, cancel := context.WithTimeout(ctx, v.config.Timeout+v.config.Timeout/4)
		err := work(limited)
		cancel()
		if err == nil {
			return true
		}
		if !wait(ctx, roundPause) {
			return false
		}
	}
	return false
}

// finalRead reads a key from all its replicas through one node.
func (v *Verifier) finalRead(ctx context.Context, by time.Time, t *target, k *key) bool {
	return v.try(ctx, by, func(ctx context.Context) error {
		op := k.read()
		op.Client, op.Node, op.Final, op.Strict, op.Outcome = "final-"+t.name, t.name, true, true, check.OK
		op.Invoke = v.record.now()
		got, err := t.send(ctx, v.config.Bucket, &op, nil, client.Options{R: "all"})
		if err != nil {
			return err
		}
		op.Return = v.record.now()
		op.ContextOut, op.Want, op.Acked = got.context, v.levels.of(got.receipt.N), got.receipt.Replied
		op.Sloppy, op.Standins = v.sloppy, got.receipt.Standins
		op.Strict = op.Standins == 0
		op.Values, op.Elements = k.versions(got.values)
		v.record.add(op)
		return nil
	})
}

// lasting are the versions that have not expired. An error where one is about to, so that nobody can tell.
func (v *Verifier) lasting(values []client.Value) ([]client.Value, error) {
	now := time.Now()
	for _, value := range values {
		if left := value.Expires.Sub(now); !value.Expires.IsZero() && left.Abs() <= v.config.Skew {
			return nil, fmt.Errorf("version %s is just expiring", value.Version)
		}
	}
	return slices.DeleteFunc(values, func(value client.Value) bool { return !value.Expires.IsZero() && value.Expires.Before(now) }), nil
}

// errUnequal is why replicas are looked at once more: what is deleted everywhere is collected by one of them after the other.
var errUnequal = errors.New("the replicas differ")

// finalReplicas notes what each replica of a key holds by itself. While there is time it waits until they hold the same.
func (v *Verifier) finalReplicas(ctx context.Context, by time.Time, t *target, k *key) bool {
	return v.try(ctx, by, func(ctx context.Context) error {
		began := v.record.now()
		replicas, err := v.replicas(ctx, t, k)
		if err != nil {
			return err
		}
		if time.Now().Before(by) && !equal(replicas) {
			return errUnequal
		}
		for i := range replicas { // they tell what they hold, also what nobody is shown any more
			if replicas[i].Values, err = v.lasting(replicas[i].Values); err != nil {
				return err
			}
		}
		for _, r := range replicas {
			op := k.read()
			op.Client, op.Node, op.Final, op.Outcome = "replica-"+r.Node, r.Node, true, check.OK
			op.Invoke, op.Return, op.Digest = began, v.record.now(), digest(r)
			op.Values, op.Elements = k.versions(r.Values)
			v.record.add(op)
		}
		return nil
	})
}
