package quorum

import (
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/vclock"
)

const (
	siblingsWarn = 25       // an event from here on
	siblingsMost = 100      // a write that would add one beyond this many is refused
	objectMost   = 64 << 20 // encoded bytes of an object that a write may grow it to
)

// mint makes one write of what a key holds: the function that the store runs inside its atomic update.
type mint struct {
	actor   vclock.Actor
	clock   *hybridClock
	now     func() time.Time // the wall clock
	value   Value
	options WriteOptions
	lww     bool
	ttl     time.Duration // 0 = the value does not expire

	called  bool // the store has begun: what it read is known, what it writes may stay
	refused *Error
	dot     vclock.Dot
	context vclock.Context // what the writer may be told
	expiry  uint64         // of the new version, 0 = never
	after   int            // siblings
}

// apply adds the value under a new dot. Its errors are of type *Error, and change nothing.
func (m *mint) apply(old vclock.Object, after uint64) (vclock.Object, error) {
	m.called = true
	past := vclock.Context{Clock: old.Clock}
	switch {
	case m.options.Fresh:
		past = vclock.Context{}
	case m.options.Context != nil:
		past = *m.options.Context
	}
	stamp, err := m.clock.next(m.now(), max(old.MaxTime(), past.Time, after))
	if err != nil {
		return m.refuse(&Error{Code: CodeInternal, Detail: "cannot stamp the write: " + err.Error()})
	}
	s := vclock.Sibling{Time: stamp, Tombstone: m.value.Delete}
	if !m.value.Delete {
		s.ContentType, s.Value = m.value.ContentType, m.value.Bytes
		if m.ttl > 0 {
			if s.Expiry = stamp + uint64(m.ttl); s.Expiry > latestTime { // no overflow: both are below 2^63
				return m.refuse(&Error{Code: CodeInvalid, Detail: fmt.Sprintf("ttl=%v: the value would expire after the year 2250", m.ttl)})
			}
		}
	}
	out, dot := old.Put(m.actor, past.Clock, s)
	if m.lww {
		out = out.LastWriter()
	}
	if n := len(out.Siblings); n > siblingsMost && n > len(old.Siblings) {
		c := old.Context()
		return m.refuse(&Error{
			Code: CodeSiblings, Context: &c,
			Detail: fmt.Sprintf("the key holds %d concurrent versions, and this write would add one: read it, merge them, and write the result with the context of that read", len(old.Siblings)),
		})
	}
	if size := vclock.EncodedSize(out); size > objectMost && size > vclock.EncodedSize(old) {
		return m.refuse(&Error{
			Code:   CodeTooLarge,
			Detail: fmt.Sprintf("the key's versions would take %d bytes together, the limit is %d: read it, merge them, and write the result with the context of that read", size, objectMost),
		})
	}
	m.dot, m.after, m.expiry = dot, len(out.Siblings), s.Expiry
	m.context = past.With(dot, stamp)
	if plant.On(plant.WideToken) {
		m.context = out.Context()
	}
	return out, nil
}

func (m *mint) refuse(e *Error) (vclock.Object, error) {
	e.Outcome = NotApplied
	m.refused = e
	return vclock.Object{}, e
}
