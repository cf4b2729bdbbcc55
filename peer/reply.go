package peer

import (
	"errors"
	"fmt"
	"slices"
)

const (
	smallReply = 2 << 10 // bytes; replies up to this size may use faultRoom
	faultRoom  = 1 << 20 // bytes that a send buffer has beyond its limit, for acknowledgements and faults
)

var errNotReading = errors.New("the peer does not read its answers")

func (c *serverConn) answerRead(h header, object []byte, digest, watermark uint64, err error, byReader bool) {
	if err != nil {
		c.refuse(h, faultOf(err), byReader)
		return
	}
	if h.flags&flagDigestOnly != 0 {
		object = nil
	}
	c.reply(h, 0, readReplyHead+len(object), byReader, func(b []byte) []byte { return appendReadReply(b, object, digest, watermark) })
}

func (c *serverConn) answerWrite(h header, err error) {
	if err != nil {
		c.refuse(h, faultOf(err), false)
		return
	}
	c.reply(h, 0, 0, false, func(b []byte) []byte { return b })
}

func (c *serverConn) answerCall(h header, payload []byte, err error) {
	if err != nil {
		c.refuse(h, faultOf(err), false)
		return
	}
	c.reply(h, 0, len(payload), false, func(b []byte) []byte { return append(b, payload...) })
}

// refuse answers with a fault.
func (c *serverConn) refuse(h header, f fault, byReader bool) {
	f.text = cut(f.text, maxFaultText)
	c.reply(h, flagError, 10+len(f.text), byReader, func(b []byte) []byte { return appendFault(b, f) })
}

// reply appends an answer of size bytes and has it sent. The reader sends what it has gathered by itself, later. A large
// answer goes out on the large connection where the peer has one; should that one break, the call on the other side ends at its
// deadline. Where the peer is gone there is nobody to answer.
func (c *serverConn) reply(h header, flags byte, size int, byReader bool, fill func([]byte) []byte) {
	if size > LargePayload && c.class == classOrdinary {
		if large := c.large.Load(); large != nil && large.post(h, flags, size, fill) {
			large.flush()
			return
		}
	}
	if !c.post(h, flags, size, fill) {
		return
	}
	if byReader {
		c.mu.Unlock()
		return
	}
	c.flush()
}

// post appends an answer, or a fault in its place where it is too large or does not fit any more. It returns with mu held,
// except where it is false: the connection is closed.
func (c *serverConn) post(h header, flags byte, size int, fill func([]byte) []byte) bool {
	c.mu.Lock()
	total, limit := frameOverhead+size, c.server.config.SendBuffer
	var instead *fault
	switch {
	case c.closed:
		c.mu.Unlock()
		return false
	case total > MaxFrame:
		instead = &fault{outcome: faultError, notApplied: h.op == OpRead, text: fmt.Sprintf("the answer of %d bytes is too large", size)}
	case total > smallReply && len(c.out) > 0 && len(c.out)+total > limit:
		instead = &fault{outcome: faultOverloaded, notApplied: h.op == OpRead, text: "too many answers are waiting to be sent"}
	case len(c.out) > 0 && len(c.out)+total > limit+faultRoom:
		c.closeLocked(errNotReading)
		c.mu.Unlock()
		return false
	}
	if instead != nil {
		flags, total = flagError, frameOverhead+smallReply
		fill = func(b []byte) []byte { return appendFault(b, *instead) }
	}
	c.out = slices.Grow(c.out, total)
	start := len(c.out)
	c.out = sealFrame(fill(beginFrame(c.out, header{op: h.op, flags: flagReply | flags, id: h.id})), start)
	c.server.framesOut.Add(1)
	return true
}
