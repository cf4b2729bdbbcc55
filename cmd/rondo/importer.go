package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// Limits of an import.
const (
	queueLines   = 32        // lines waiting for one worker
	queueBytes   = 128 << 20 // of all lines in memory; one longer line may come on top
	keptFailures = 100       // failed lines that are remembered one by one
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
	leastLeft    = time.Second       // that a value must have to live: nodes take no less,
	mostLeft     = 87600 * time.Hour // and no more
)

// importer stores the lines of one input. Lines with the same key go to the same worker and so keep their order.
type importer struct {
	client   *client.Client
	bucket   string
	keyField string
	parallel int
	retryFor time.Duration
	options  client.Options
	rand     *rand.Rand // for jitter; guarded by mu

	tracker tracker
	budget  *budget
	seed    maphash.Seed
	began   time.Time

	stored, blank, expired, retries, bytes atomic.Int64

	mu       sync.Mutex
	failed   int64
	failures []failure
}

// errGaveUp ends an import because the cluster did not take a line for as long as the user wants to wait.
type errGaveUp struct {
	line int64
	wait time.Duration
	err  error
}

func (e errGaveUp) Error() string {
	return fmt.Sprintf("line %d could not be stored for %v: %v", e.line, e.wait, e.err)
}
func (e errGaveUp) Unwrap() error { return e.err }

// run reads all lines and stores them. It returns when all are done, when one cannot be stored for retryFor, when reading fails, or
// when ctx ends (errInterrupted). Its goroutines are gone then, and the tracker's position says how far it got.
func (im *importer) run(ctx context.Context, lines *lineReader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	im.seed = maphash.MakeSeed()
	im.budget = newBudget(queueBytes)
	defer context.AfterFunc(ctx, im.budget.close)()
	queues := make([]chan record, im.parallel)
	var group sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan record, queueLines)
		group.Go(func() { im.work(ctx, cancel, im.client.Prefer(i), queues[i]) })
	}
	err := im.read(ctx, lines, queues)
	for _, q := range queues {
		close(q)
	}
	group.Wait()
	cause := context.Cause(ctx)
	var gaveUp errGaveUp
	switch {
	case cause == nil:
		return err
	case errors.As(cause, &gaveUp), errors.Is(cause, errCheckpoint):
		return cause
	}
	return errInterrupted
}

// read hands the lines out.
func (im *importer) read(ctx context.Context, lines *lineReader, queues []chan record) error {
	for ctx.Err() == nil {
		text, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, errLongLine) {
			return fmt.Errorf("read input after line %d: %w", lines.line, err)
		}
		place := im.tracker.begin(lines.offset, lines.line)
		if err == nil && len(text) == 0 {
			im.blank.Add(1)
			im.tracker.finish(place, false)
			continue
		}
		var rec record
		if err == nil {
			rec, err = parseRecord(text, im.keyField)
		}
		if err != nil {
			im.fail(lines.line, "", err)
			im.tracker.finish(place, true)
			continue
		}
		rec.line, rec.place = lines.line, place
		if !im.budget.take(rec.size) {
			return nil
		}
		select {
		case queues[maphash.String(im.seed, rec.key)%uint64(len(queues))] <- rec:
		case <-ctx.Done():
		}
	}
	return nil
}

// work stores the lines of one queue.
func (im *importer) work(ctx context.Context, cancel context.CancelCauseFunc, c *client.Client, queue <-chan record) {
	for rec := range queue {
		if ctx.Err() == nil {
			im.storeLine(ctx, cancel, c, rec)
		}
		im.budget.give(rec.size)
	}
}

// storeLine stores one line, and counts what became of it.
func (im *importer) storeLine(ctx context.Context, cancel context.CancelCauseFunc, c *client.Client, rec record) {
	if rec.expired(time.Now()) {
		im.expired.Add(1)
		im.tracker.finish(rec.place, false)
		return
	}
	err := im.retry(ctx, c, rec)
	var gaveUp errGaveUp
	switch {
	case err == nil:
		im.stored.Add(1)
		for _, v := range rec.values {
			im.bytes.Add(int64(len(v.Data)))
		}
	case ctx.Err() != nil:
		return // not done: a resumed import stores it again
	case errors.As(err, &gaveUp):
		cancel(gaveUp)
		return
	default:
		im.fail(rec.line, rec.key, err)
	}
	im.tracker.finish(rec.place, err != nil)
}

// retry stores the versions of a line. What another attempt may cure is tried again, on other nodes too. An attempt always begins with the
// first version, without a context: it replaces what an attempt of unknown outcome may have left.
func (im *importer) retry(ctx context.Context, c *client.Client, rec record) error {
	var deadline time.Time
	for attempt := 0; ; attempt++ {
		err := im.put(ctx, c, rec)
		if err == nil || ctx.Err() != nil || !client.IsTemporary(err) {
			return err
		}
		im.retries.Add(1)
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(im.retryFor)
		}
		wait := im.backoff(attempt, err)
		if now.Add(wait).After(deadline) {
			return errGaveUp{rec.line, im.retryFor, err}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		c = c.Prefer(attempt + 1)
	}
}

// put writes the versions of a line, oldest first, so that they keep their order: the first replaces what is there, the others stand beside
// it. Those that have expired meanwhile are left out.
func (im *importer) put(ctx context.Context, c *client.Client, rec record) error {
	first := true
	for i := len(rec.values) - 1; i >= 0; i-- {
		o := im.options
		o.ContentType = rec.values[i].ContentType
		if at := rec.values[i].Expires; !at.IsZero() {
			left := time.Until(at)
			if left < leastLeft {
				continue
			}
			o.TTL = min(left, mostLeft).String()
		}
		if !first {
			o.Context = client.NoContext
		}
		first = false
		if _, err := c.Put(ctx, im.bucket, rec.key, rec.values[i].Data, o); err != nil {
			return err
		}
	}
	return nil
}

// backoff is how long to wait before the next attempt: doubled each time, as long as the node asks at least, with jitter.
func (im *importer) backoff(attempt int, err error) time.Duration {
	wait := min(firstBackoff<<min(attempt, 10), lastBackoff)
	var problem *client.Error
	if errors.As(err, &problem) {
		wait = max(wait, min(problem.RetryAfter, lastBackoff))
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	return wait/2 + time.Duration(im.rand.Int64N(int64(wait)))
}

// fail notes a line that cannot be stored.
func (im *importer) fail(line int64, key string, err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.failed++
	if len(im.failures) < keptFailures {
		im.failures = append(im.failures, failure{line, shownKey(key), err.Error()})
	}
}

// shownKey is a key for a message, "" for none.
func shownKey(key string) string {
	if key == "" {
		return ""
	}
	return shown(key)
}

// failedLines is how many lines failed, and the first of them.
func (im *importer) failedLines() (int64, []failure) {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.failed, append([]failure(nil), im.failures...)
}

// budget bounds the bytes of lines in memory.
type budget struct {
	mu     sync.Mutex
	room   sync.Cond
	free   int64
	size   int64
	closed bool
}

func newBudget(size int64) *budget {
	b := &budget{free: size, size: size}
	b.room.L = &b.mu
	return b
}

// take waits for n bytes; a line larger than the whole budget waits until it is alone. It returns false once closed.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.free < min(n, b.size) && !b.closed {
		b.room.Wait()
	}
	b.free -= n
	return !b.closed
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.free += n
	b.mu.Unlock()
	b.room.Signal()
}

func (b *budget) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.room.Broadcast()
}
