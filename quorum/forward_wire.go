package quorum

import (
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// A forwarded write, from the node that the client asked to the owner that coordinates it:
//
//	version, flags (1 delete, 2 fresh, 4 context, 8 return value, 16 full receipt, 32 anyway), w, dw, sloppy (one byte each)
//	ttl (0 = the bucket's, 1 = for ever, else nanoseconds)
//	bucket, key, context where flagged, content type, value
const (
	forwardDelete = 1 << iota
	forwardFresh
	forwardContext
	forwardReturn
	forwardFull
	forwardAnyway
)

// forwardVersion is that of forwarded writes and their answers.
const forwardVersion = 2

// encodeForward makes a request of a write. With anyway the owner is to coordinate it though others might do it better.
func encodeForward(key ring.Key, v Value, o WriteOptions, anyway bool) []byte {
	w := writer{make([]byte, 0, 80+len(key.Bucket)+len(key.Name)+len(v.ContentType)+len(v.Bytes))}
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{v.Delete, forwardDelete}, {o.Fresh, forwardFresh}, {o.Context != nil, forwardContext}, {o.ReturnValue, forwardReturn}, {o.FullReceipt, forwardFull}, {anyway, forwardAnyway}} {
		if f.set {
			flags |= f.bit
		}
	}
	w.byte(forwardVersion)
	w.byte(flags)
	w.byte(byte(o.W))
	w.byte(byte(o.DW))
	w.byte(byte(o.Sloppy))
	switch {
	case v.TTL < 0:
		w.number(1)
	default:
		w.number(uint64(v.TTL))
	}
	w.text(key.Bucket)
	w.text(key.Name)
	if o.Context != nil {
		w.context(*o.Context)
	}
	w.text(v.ContentType)
	w.bytes(v.Bytes)
	return w.b
}

// decodeForward aliases b.
func decodeForward(b []byte) (key ring.Key, v Value, o WriteOptions, anyway bool, err error) {
	r := scanner{b: b}
	r.version(forwardVersion)
	flags := r.byte()
	if flags >= forwardAnyway<<1 {
		r.fail("unknown flags")
	}
	v.Delete, o.Fresh, o.ReturnValue, o.FullReceipt = flags&forwardDelete != 0, flags&forwardFresh != 0, flags&forwardReturn != 0, flags&forwardFull != 0
	anyway = flags&forwardAnyway != 0
	o.W, o.DW, o.Sloppy = r.level(), r.level(), r.choice()
	if v.TTL = time.Duration(r.small(int(MaxTTL))); v.TTL == 1 {
		v.TTL = -1
	}
	bucket, name := r.text(), r.text()
	if flags&forwardContext != 0 {
		c := r.context()
		o.Context = &c
	}
	v.ContentType, v.Bytes = r.text(), r.bytes()
	if v.Delete && (v.ContentType != "" || len(v.Bytes) > 0) {
		r.fail("delete with a value")
	}
	if e := v.check(); e != nil && r.err == nil {
		r.fail(e.Detail)
	}
	return ring.NewKey(bucket, name), v, o, anyway, r.end()
}

// answerKind is how an owner answers a forwarded write.
type answerKind byte

const (
	answerResult    answerKind = iota
	answerError                // an error that stands
	answerElsewhere            // nothing was done, and another owner may do better
	answerResyncing            // likewise; this one will do it if no other does
)

func encodeResult(res WriteResult, withObject bool) []byte {
	w := writer{make([]byte, 0, 256)}
	w.byte(forwardVersion)
	w.byte(byte(answerResult))
	w.fixed(uint64(res.Dot.Actor))
	w.number(res.Dot.Counter)
	w.fixed(res.Expiry)
	w.context(res.Context)
	if withObject {
		w.byte(1)
		w.bytes(vclock.AppendObject(make([]byte, 0, vclock.EncodedSize(res.Object)), res.Object))
	} else {
		w.byte(0)
	}
	w.receipt(res.Receipt)
	return w.b
}

func encodeFailure(e *Error, kind answerKind) []byte {
	w := writer{make([]byte, 0, 256)}
	w.byte(forwardVersion)
	w.byte(byte(kind))
	w.text(string(e.Code))
	detail := e.Detail
	if e.Err != nil {
		detail += ": " + e.Err.Error()
	}
	w.text(detail)
	w.text(string(e.Outcome))
	for _, n := range []int{e.N, e.Required, e.Acked, e.Durable} {
		w.number(uint64(n))
	}
	w.replicas(e.Replicas)
	if e.Context != nil {
		w.byte(1)
		w.context(*e.Context)
	} else {
		w.byte(0)
	}
	w.number(uint64(e.RetryAfter))
	return w.b
}

// decodeAnswer reads either. A malformed answer is an error of the third kind: nobody knows what the owner did.
func decodeAnswer(b []byte) (res WriteResult, failure *Error, kind answerKind, err error) {
	r := scanner{b: b}
	r.version(forwardVersion)
	switch kind = answerKind(r.byte()); kind {
	case answerResult:
		res.Dot = vclock.Dot{Actor: vclock.Actor(r.fixed()), Counter: r.number()}
		res.Expiry = r.fixed()
		res.Context = r.context()
		if r.byte() == 1 {
			object := r.bytes()
			if r.err == nil {
				if res.Object, err = vclock.DecodeObject(object); err != nil {
					r.fail(err.Error())
				}
			}
		}
		res.Receipt = r.receipt()
	case answerError, answerElsewhere, answerResyncing:
		failure = &Error{}
		failure.Code, failure.Detail, failure.Outcome = Code(r.text()), r.text(), Outcome(r.text())
		for _, n := range []*int{&failure.N, &failure.Required, &failure.Acked, &failure.Durable} {
			*n = r.small(MaxN)
		}
		failure.Replicas = r.replicas()
		if r.byte() == 1 {
			c := r.context()
			failure.Context = &c
		}
		failure.RetryAfter = time.Duration(r.small(int(time.Hour)))
	default:
		r.fail("unknown kind of answer")
	}
	if err := r.end(); err != nil {
		return WriteResult{}, nil, kind, err
	}
	return res, failure, kind, nil
}

func (w *writer) receipt(c Receipt) {
	for _, n := range []int{c.N, c.Required, c.Acked, c.Durable, c.Standins} {
		w.number(uint64(n))
	}
	w.number(c.Ring)
	w.text(c.Coordinator)
	w.replicas(c.Replicas)
}

func (r *scanner) receipt() (c Receipt) {
	for _, n := range []*int{&c.N, &c.Required, &c.Acked, &c.Durable, &c.Standins} {
		*n = r.small(MaxN)
	}
	c.Ring, c.Coordinator, c.Replicas = r.number(), r.text(), r.replicas()
	return c
}

func (w *writer) replicas(list []ReplicaReceipt) {
	w.number(uint64(len(list)))
	for _, p := range list {
		w.text(p.Node)
		w.text(p.Zone)
		w.text(p.Role)
		var flags byte
		if p.OK {
			flags |= 1
		}
		if p.Durable {
			flags |= 2
		}
		w.byte(flags)
		w.number(uint64(max(p.Took, 0)))
		w.text(p.Error)
	}
}

func (r *scanner) replicas() []ReplicaReceipt {
	n := r.count(6)
	if n == 0 {
		return nil
	}
	out := make([]ReplicaReceipt, n)
	for i := range out {
		p := &out[i]
		p.Node, p.Zone, p.Role = r.text(), r.text(), r.text()
		flags := r.byte()
		p.OK, p.Durable = flags&1 != 0, flags&2 != 0
		p.Took, p.Error = time.Duration(r.small(int(time.Hour))), r.text()
	}
	return out
}
