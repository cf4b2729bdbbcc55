package peer

import (
	"sync"
	"sync/atomic"
)

// pool runs jobs on a bounded number of goroutines that live until it is closed. They are started as they are needed, and
// keep their grown stacks from job to job.
type pool struct {
	jobs    chan *job
	most    int32
	started atomic.Int32
	idle    atomic.Int32
	running sync.WaitGroup
}

func newPool(workers, queue int) *pool {
	return &pool{jobs: make(chan *job, queue), most: int32(workers)}
}

// submit queues a job and tells whether there was room. It is not to be called after close.
func (p *pool) submit(j *job) bool {
	select {
	case p.jobs <- j:
	default:
		return false
	}
	if p.idle.Load() < int32(len(p.jobs)) {
		if n := p.started.Add(1); n <= p.most {
			p.running.Go(p.work)
		} else {
			p.started.Add(-1)
		}
	}
	return true
}

func (p *pool) work() {
	for {
		p.idle.Add(1)
		j, ok := <-p.jobs
		p.idle.Add(-1)
		if !ok {
			return
		}
		j.run()
	}
}

// close waits until all that was queued has run.
func (p *pool) close() {
	close(p.jobs)
	p.running.Wait()
}

// budget bounds a sum of bytes, among all connections of a server.
type budget struct {
	mu     sync.Mutex
	freed  sync.Cond
	limit  int64
	used   int64
	closed bool
}

func newBudget(limit int64) *budget {
	b := &budget{limit: limit}
	b.freed.L = &b.mu
	return b
}

// try takes n bytes where they are free. More than the whole budget is free where nothing else is out.
func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// take is try that waits. It is false, and nothing is taken, where the budget is closed.
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && b.used > 0 && b.used+n > b.limit {
		b.freed.Wait()
	}
	if b.closed {
		return false
	}
	b.used += n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.used -= n
	b.freed.Broadcast()
	b.mu.Unlock()
}

// close sends everyone away who waits.
func (b *budget) close() {
	b.mu.Lock()
	b.closed = true
	b.freed.Broadcast()
	b.mu.Unlock()
}

func (b *budget) out() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
