package storage

import "sync"

// syncer is the group commit: one goroutine that syncs the journals for all that wait, again and again while anyone does. There
// is no delay to gather more: who comes during an fsync shares the next one.
type syncer struct {
	disk *disk
	wake chan struct{} // holds at most one token
	done chan struct{} // closed when the goroutine has gone

	mu      sync.Mutex
	waiting []func(error)
	stopped bool
}

func newSyncer(d *disk) *syncer {
	return &syncer{disk: d, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// sync has done called when all that was written before is on disk. It returns false, and does not take done, once the
// syncer has been stopped.
func (s *syncer) sync(done func(error)) bool {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return false
	}
	s.waiting = append(s.waiting, done)
	s.mu.Unlock()
	s.nudge()
	return true
}

// nudge has the journals synced even if nobody waits.
func (s *syncer) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// waiters is how many wait now.
func (s *syncer) waiters() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// run syncs until stop.
func (s *syncer) run() {
	defer close(s.done)
	var serving []func(error)
	for range s.wake {
		for {
			s.mu.Lock()
			serving, s.waiting = s.waiting, serving[:0]
			stopped := s.stopped
			s.mu.Unlock()
			err := s.disk.syncJournals()
			for i, done := range serving {
				done(err)
				serving[i] = nil
			}
			if s.waiters() == 0 {
				if stopped {
					return
				}
				break
			}
		}
	}
}

// stop takes no more waiters, serves those there are, and joins the goroutine.
func (s *syncer) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.nudge()
	<-s.done
}
