package load

import (
	"syscall"
	"time"
)

// sleep blocks the calling thread: some 50 µs late, where the runtime's timers round up to a millisecond.
func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	if err := syscall.Nanosleep(&t, nil); err != nil {
		return // a signal woke it: the caller looks at the clock again
	}
}
