package storage

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrStalled marks a store whose disk has not answered for a while: new writes are refused at once instead of hanging, and served
// again as soon as it moves.
var ErrStalled = errors.New("the disk does not answer")

// stallLimit is how long one write to a journal, or one fsync, takes at least on a disk that counts as stalled. It is as long as a client
// waits by default: a disk that is only slow must not make a node refuse work.
const stallLimit = 5 * time.Second

// stallWatch notes what is under way on the disk. The zero watch is ready; safe for concurrent use.
type stallWatch struct {
	began time.Time       // zero of its clock
	since [4]atomic.Int64 // when each operation began, nanoseconds on the clock, at least 1; 0 = free
}

// begin notes an operation; end must follow with the result. More operations at a time than there are places are not watched:
// what they wait for is one of those that are.
func (w *stallWatch) begin() (place int) {
	now := max(1, int64(time.Since(w.began)))
	for i := range w.since {
		if w.since[i].Load() == 0 && w.since[i].CompareAndSwap(0, now) {
			return i
		}
	}
	return -1
}

func (w *stallWatch) end(place int) {
	if place >= 0 {
		w.since[place].Store(0)
	}
}

// longest is how long the oldest operation has been under way.
func (w *stallWatch) longest() time.Duration {
	oldest := int64(0)
	for i := range w.since {
		if at := w.since[i].Load(); at != 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	if oldest == 0 {
		return 0
	}
	return time.Since(w.began) - time.Duration(oldest)
}

// stallError refuses a write.
type stallError struct{ lasts time.Duration }

func (e *stallError) Error() string {
	return fmt.Sprintf("%v: an operation on it has taken %v so far", ErrStalled, e.lasts.Round(100*time.Millisecond))
}

// Unwrap is ErrStalled.
func (e *stallError) Unwrap() error { return ErrStalled }

// NotApplied is true: nothing was written.
func (e *stallError) NotApplied() bool { return true }

// stalled is an error that wraps ErrStalled while the disk does not answer.
func (d *disk) stalled() error {
	if lasts := d.watch.longest(); lasts >= stallLimit {
		return &stallError{lasts}
	}
	return nil
}
