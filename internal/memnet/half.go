package memnet

import (
	"slices"
	"time"
)

// window is how many bytes one direction of a stream holds, under way or not yet read.
const window = 256 << 10

// half is one direction of a stream: a queue of bytes, of which those in front have arrived and the rest is under way. All is under
// the network's mu.
type half struct {
	network        *Network
	path           *path
	writer, reader *Stream

	buf         []byte // a ring
	start, size int
	ready       int // bytes in front that have arrived

	transit []segment // in order; empty if all has arrived
	first   int       // of transit
	eof     bool      // the end has arrived
	sink    bool      // bytes have reached an end that is gone, and a reset is on its way back: what is written is forgotten
	since   time.Time // since when something is unacknowledged because of a cut or a machine without power
}

// segment is something under way: bytes, or what follows them.
type segment struct {
	kind segmentKind
	n    int       // bytes
	at   time.Time // of arrival; zero: waits for a change of the network
}

type segmentKind int

const (
	data segmentKind = iota
	fin
	rst
)

// back is the other direction.
func (h *half) back() *half { return h.reader.out }

// blocked tells whether nothing on this half reaches the reader's machine.
func (h *half) blocked() bool {
	return h.path.rule.Cut || h.reader.host.machine.off
}

// unacknowledged tells whether what is sent now gets no answer.
func (h *half) unacknowledged() bool { return h.blocked() || h.back().path.rule.Cut }

// underWay is what has not arrived.
func (h *half) underWay() []segment { return h.transit[h.first:] }

// write takes as many bytes as fit.
func (h *half) write(b []byte) int {
	if h.sink {
		return len(b)
	}
	n := min(len(b), window-h.size)
	if n == 0 {
		return 0
	}
	h.grow(h.size + n)
	at := (h.start + h.size) & (len(h.buf) - 1)
	copied := copy(h.buf[at:], b[:n])
	copy(h.buf, b[copied:n])
	h.size += n
	h.push(data, n, time.Time{})
	return n
}

// grow makes room for so many bytes.
func (h *half) grow(size int) {
	if size <= len(h.buf) {
		return
	}
	capacity := max(len(h.buf), 2<<10)
	for capacity < size {
		capacity *= 2
	}
	buf := make([]byte, capacity)
	h.peek(buf[:h.size])
	h.buf, h.start = buf, 0
}

// peek copies bytes from the front, and tells how many.
func (h *half) peek(b []byte) int {
	n := min(len(b), h.size)
	copied := copy(b[:n], h.buf[h.start:])
	copy(b[copied:n], h.buf)
	return n
}

// read takes bytes that have arrived.
func (h *half) read(b []byte) int {
	n := h.peek(b[:min(len(b), h.ready)])
	h.skip(n)
	return n
}

func (h *half) skip(n int) {
	h.size, h.ready = h.size-n, h.ready-n
	if h.size == 0 {
		h.start = 0
	} else {
		h.start = (h.start + n) & (len(h.buf) - 1)
	}
}

// push sends something, not before a time. What needs no time and finds the way free arrives at once.
func (h *half) push(kind segmentKind, n int, notBefore time.Time) {
	rule, waiting := h.path.rule, h.underWay()
	stuck := h.blocked() || kind != rst && h.writer.host.paused && !h.writer.loop || len(waiting) > 0 && waiting[len(waiting)-1].at.IsZero()
	switch {
	case stuck:
		h.append(segment{kind: kind, n: n})
	case len(waiting) == 0 && notBefore.IsZero() && rule.Delay <= 0 && rule.Jitter <= 0 && rule.Rate <= 0:
		h.arrive(kind, n)
	default:
		now := time.Now()
		if notBefore.After(now) {
			now = notBefore
		}
		h.schedule(kind, n, now)
		if len(waiting) == 0 {
			h.reader.cond.Broadcast() // it waits for this now
		}
	}
	if kind != rst {
		h.watch()
	}
	h.bounce()
}

// watch starts the user timeout if what is sent now gets no answer.
func (h *half) watch() {
	if h.since.IsZero() && h.unacknowledged() {
		h.since = time.Now()
		h.writer.cond.Broadcast() // it waits for that too now
	}
}

// schedule sends something at a time, in parts where the link is slow.
func (h *half) schedule(kind segmentKind, n int, now time.Time) {
	const part = 16 << 10
	for {
		sent, size := now, n
		if rate := h.path.rule.Rate; rate > 0 && n > 0 {
			size = min(n, part)
			if h.path.busy.After(now) {
				sent = h.path.busy
			}
			sent = sent.Add(time.Duration(float64(size) / float64(rate) * float64(time.Second)))
			h.path.busy = sent
		}
		at := sent.Add(h.network.extra(h.path.rule))
		if waiting := h.underWay(); len(waiting) > 0 && waiting[len(waiting)-1].at.After(at) {
			at = waiting[len(waiting)-1].at // in order
		}
		h.append(segment{kind: kind, n: size, at: at})
		if n -= size; n <= 0 {
			return
		}
	}
}

// append queues a segment, or lengthens the last one.
func (h *half) append(s segment) {
	if waiting := h.underWay(); len(waiting) > 0 && s.kind == data {
		if last := &waiting[len(waiting)-1]; last.kind == data && last.at.Equal(s.at) {
			last.n += s.n
			return
		}
	}
	if h.first > 0 && len(h.transit) == cap(h.transit) {
		h.transit = slices.Delete(h.transit, 0, h.first)
		h.first = 0
	}
	h.transit = append(h.transit, s)
}

// settle lets what is due arrive.
func (h *half) settle(now time.Time) {
	for h.first < len(h.transit) {
		s := h.transit[h.first]
		if s.at.IsZero() || s.at.After(now) {
			return
		}
		if h.first++; h.first == len(h.transit) {
			h.transit, h.first = h.transit[:0], 0
		}
		h.arrive(s.kind, s.n)
	}
}

// arrive hands something to the reader's machine.
func (h *half) arrive(kind segmentKind, n int) {
	switch kind {
	case data:
		if h.reader.gone() {
			h.refuse(time.Time{})
			return
		}
		h.ready += n
	case fin:
		h.eof = true
	case rst:
		h.reader.fail(errReset)
	}
	h.reader.cond.Broadcast()
}

// bounce makes bytes that are going to reach an end which is gone come back as a reset.
func (h *half) bounce() {
	if h.sink || !h.reader.gone() || h.blocked() {
		return
	}
	i := slices.IndexFunc(h.underWay(), func(s segment) bool { return s.kind == data })
	if i >= 0 && !h.underWay()[i].at.IsZero() {
		h.refuse(h.underWay()[i].at)
	}
}

// refuse answers with a reset, not before a time.
func (h *half) refuse(at time.Time) {
	if !h.sink {
		h.sink = true
		h.lose()
		h.writer.cond.Broadcast()
		h.back().push(rst, 0, at)
	}
}

// lose forgets what is under way, but for a reset.
func (h *half) lose() {
	h.size = h.ready
	h.transit = slices.DeleteFunc(slices.Clone(h.underWay()), func(s segment) bool { return s.kind != rst })
	h.first = 0
}

// refresh follows a change of the network.
func (h *half) refresh(now time.Time) {
	h.settle(now)
	if h.overdue(now) {
		h.writer.fail(errTimeout)
	}
	blocked := h.blocked()
	switch {
	case blocked:
		h.path.busy = time.Time{}
		for i := range h.underWay() {
			h.underWay()[i].at = time.Time{}
		}
	case !h.writer.host.paused || h.writer.loop:
		h.release(now)
	}
	switch {
	case !h.unacknowledged():
		h.since = time.Time{}
	case h.since.IsZero() && (h.sink || len(h.underWay()) > 0):
		h.since = now
	}
	h.bounce()
	h.reader.cond.Broadcast() // they wait for other times now
	h.writer.cond.Broadcast()
}

// release sends what was stuck.
func (h *half) release(now time.Time) {
	i := slices.IndexFunc(h.underWay(), func(s segment) bool { return s.at.IsZero() })
	if i < 0 {
		return
	}
	stuck := slices.Clone(h.underWay()[i:])
	h.transit = h.transit[:h.first+i]
	for _, s := range stuck {
		h.schedule(s.kind, s.n, now)
	}
	h.settle(now)
}

// overdue tells whether the user timeout is over.
func (h *half) overdue(now time.Time) bool {
	limit := h.deadline()
	return !limit.IsZero() && !limit.After(now)
}

// deadline is when the user timeout is over; zero: not in sight.
func (h *half) deadline() time.Time {
	if h.since.IsZero() || h.network.UserTimeout <= 0 {
		return time.Time{}
	}
	return h.since.Add(h.network.UserTimeout)
}

// next is when something is due; zero: not in sight.
func (h *half) next() time.Time {
	if h.first == len(h.transit) {
		return time.Time{}
	}
	return h.transit[h.first].at
}
