package peer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/ring"
)

// keepJob is the largest payload, in bytes, whose memory is kept for the next job.
const keepJob = 64 << 10

// job is a request that a worker answers. Jobs and the memory of their payloads are used again.
type job struct {
	server *Server
	conn   *serverConn
	header
	deadline int64 // nanoseconds on the server's clock
	key      ring.Key
	payload  []byte
	own      []byte // memory for small payloads
	taken    int64  // of the server's budget
	open     atomic.Bool
	done     func(error) // j.written, bound once
}

// newJob takes the request out of the connection's buffer.
func (s *Server) newJob(c *serverConn, f frame, deadline int64) *job {
	j := s.jobs.Get().(*job)
	j.server, j.conn, j.header, j.deadline = s, c, f.header, deadline
	j.open.Store(true)
	s.inFlight.Add(1)
	return j
}

// load gives the job its payload; keep where the handler may hold on to it.
func (j *job) load(payload []byte, owned, keep bool) {
	switch {
	case owned:
		j.payload = payload
	case keep:
		j.payload = append([]byte(nil), payload...)
	default:
		j.own = append(j.own[:0], payload...)
		j.payload = j.own
	}
}

// run does the job on a worker.
func (j *job) run() {
	c, s := j.conn, j.server
	if s.now() > j.deadline {
		j.end(func() {
			c.refuse(j.header, refusal(faultTimeout, "the deadline had passed before the request was begun"), false)
		})
		return
	}
	if s.ctx.Err() != nil {
		j.end(func() { c.refuse(j.header, refusal(faultUnreachable, textStopping), false) })
		return
	}
	switch j.op {
	case OpRead:
		object, digest, watermark, err := s.config.Handler.Read(c.from, j.layout, j.key, j.flags&flagDigestOnly != 0)
		j.end(func() { c.answerRead(j.header, object, digest, watermark, err, false) })
	case OpWrite:
		s.config.Handler.Write(c.from, j.layout, j.key, j.payload, j.flags&flagSync != 0, j.flags&flagRepair != 0, j.done)
	default:
		ctx, cancel := context.WithDeadline(s.ctx, s.began.Add(time.Duration(j.deadline)))
		answer, err := s.config.Handler.Call(ctx, c.from, j.layout, j.op, j.payload)
		cancel()
		j.end(func() { c.answerCall(j.header, answer, err) })
	}
}

// written ends a write.
func (j *job) written(err error) {
	j.end(func() { j.conn.answerWrite(j.header, err) })
}

// end answers, once, and frees the job.
func (j *job) end(answer func()) {
	if !j.open.CompareAndSwap(true, false) {
		return
	}
	s := j.server
	answer()
	if j.taken > 0 {
		s.bytes.give(j.taken)
	}
	if cap(j.own) > keepJob {
		j.own = nil
	}
	*j = job{own: j.own, done: j.done}
	s.jobs.Put(j)
	s.finished()
}
