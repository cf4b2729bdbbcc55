package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
)

// Verifier loads a cluster and judges it. Load and Finish are called one after the other, by one goroutine; Note and History at
// any time, by any.
type Verifier struct {
	config  Config
	targets []*target
	pools   []*pool
	record  *record
	levels  levels
	sloppy  bool // the bucket allows stand-ins where a request does not say
	known   bool // levels and sloppy are those of the bucket
	loads   int
	ended   time.Time // of the last load

	phase      atomic.Pointer[string]
	done, of   atomic.Int64
	background sync.WaitGroup
}

// New checks the configuration. It connects to nothing yet and starts nothing.
func New(config Config) (*Verifier, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure verify: %w", err)
	}
	v := &Verifier{config: config, record: newRecord()}
	for i := range config.Nodes {
		t, err := newTarget(&v.config, i)
		if err != nil {
			return nil, fmt.Errorf("configure verify: %w", err)
		}
		v.targets = append(v.targets, t)
	}
	for _, w := range config.Workloads {
		v.pools = append(v.pools, newPool(w, config.Run, config.Keys))
	}
	v.enter(PhaseLoad, 0)
	return v, nil
}

// Close drops the connections. Load and Finish must have returned.
func (v *Verifier) Close() {
	for _, t := range v.targets {
		t.client.Close()
	}
}

// Note adds an event to the log of the run, such as "n2 killed".
func (v *Verifier) Note(text string) { v.record.note(text) }

// History is a copy of all operations so far; those under way have no outcome yet.
func (v *Verifier) History() []check.Op { return v.record.history() }

// Load works until ctx ends or the history is full, and then waits for its requests to return. It may be called again. Errors:
// no node ever told the settings of the bucket, or they are such that nothing can be judged.
func (v *Verifier) Load(ctx context.Context) error {
	if err := v.settings(ctx); err != nil {
		return err
	}
	v.loads++
	v.enter(PhaseLoad, 0)
	v.observed(ctx, func() {
		full := make([]bool, v.config.Clients)
		var clients sync.WaitGroup
		for i := range v.config.Clients {
			w := newWorker(v, i)
			clients.Go(func() {
				w.run(ctx)
				full[i] = w.full
			})
		}
		clients.Wait()
		if full[0] {
			v.Note(fmt.Sprintf("the history is full with %d operations: the load ends", MaxOps))
		}
	})
	v.ended = time.Now()
	return nil
}

// startIn is how long the first node may take to answer.
const startIn = 30 * time.Second

// settings reads the bucket's settings once, from whichever node answers first.
func (v *Verifier) settings(ctx context.Context) error {
	if v.known {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, startIn)
	defer cancel()
	var err error
	for i := 0; ; i++ {
		var b client.BucketSettings
		if b, _, err = v.targets[i%len(v.targets)].client.Bucket(limited, v.config.Bucket); err == nil {
			return v.accept(b)
		}
		if !client.IsTemporary(err) || !wait(limited, leastPause*10) {
			return fmt.Errorf("read the settings of bucket %s: %w", v.config.Bucket, err)
		}
	}
}

// accept takes the bucket's settings, unless nothing could be judged under them.
func (v *Verifier) accept(b client.BucketSettings) error {
	if b.Resolve == "lww" {
		return fmt.Errorf("bucket %s keeps the last writer only, and drops others on purpose: name one that keeps siblings", v.config.Bucket)
	}
	v.levels, v.sloppy, v.known = newLevels(v.config.Options, b), b.Sloppy, true
	if v.levels.writes(0) < 1 || v.levels.reads(0) < 1 {
		return errors.New("r and w must be at least 1")
	}
	return nil
}
