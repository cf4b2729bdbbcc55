package quorum

import (
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// A forwarded write, from the node that the client asked to the owner that coordinates it:
//
//	version, flags (1 delete, 2 fresh, 4 context, 8 return value, 16 full receipt), w, dw (one byte each)
//	bucket, key, context where flagged, content type, value
const (
	forwardDelete = 1 << iota
	forwardFresh
	forwardContext
	forwardReturn
	forwardFull
)

func encodeForward(key ring.Key, v Value, o WriteOptions) []byte {
	w := writer{make([]byte, 0, 64+len(key.Bucket)+len(key.Name)+len(v.ContentType)+len(v.Bytes))}
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{v.Delete, forwardDelete}, {o.Fresh, forwardFresh}, {o.Context != nil, forwardContext}, {o.ReturnValue, forwardReturn}, {o.FullReceipt, forwardFull}} {
		if f.set {
			flags |= f.bit
		}
	}
	w.byte(wireVersion)
	w.byte(flags)
	w.byte(byte(o.W))
	w.byte(byte(o.DW))
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
func decodeForward(b []byte) (key ring.Key, v Value, o WriteOptions, err error) {
	r := scanner{b: b}
	r.version()
	flags := r.byte()
	if flags >= forwardFull<<1 {
		r.fail("unknown flags")
	}
	v.Delete, o.Fresh, o.ReturnValue, o.FullReceipt = flags&forwardDelete != 0, flags&forwardFresh != 0, flags&forwardReturn != 0, flags&forwardFull != 0
	o.W, o.DW = r.level(), r.level()
	bucket, name := r.text(), r.text()
	if flags&forwardContext != 0 {
		c := r.context()
		o.Context = &c
	}
	v.ContentType, v.Bytes = r.text(), r.bytes()
	if v.Delete && (v.ContentType != "" || len(v.Bytes) > 0) {
		r.fail("delete with a value")
	}
	return ring.NewKey(bucket, name), v, o, r.end()
}

// How an owner answers a forwarded write: a result, an error that stands, or one that another owner may not have.
const (
	answerResult = iota
	answerError
	answerElsewhere
)

func encodeResult(res WriteResult, withObject bool) []byte {
	w := writer{make([]byte, 0, 256)}
	w.byte(wireVersion)
	w.byte(answerResult)
	w.fixed(uint64(res.Dot.Actor))
	w.number(res.Dot.Counter)
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

func encodeFailure(e *Error, elsewhere bool) []byte {
	w := writer{make([]byte, 0, 256)}
	w.byte(wireVersion)
	if elsewhere {
		w.byte(answerElsewhere)
	} else {
		w.byte(answerError)
	}
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
func decodeAnswer(b []byte) (res WriteResult, failure *Error, elsewhere bool, err error) {
	r := scanner{b: b}
	r.version()
	switch kind := r.byte(); kind {
	case answerResult:
		res.Dot = vclock.Dot{Actor: vclock.Actor(r.fixed()), Counter: r.number()}
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
	case answerError, answerElsewhere:
		failure, elsewhere = &Error{}, kind == answerElsewhere
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
		return WriteResult{}, nil, false, err
	}
	return res, failure, elsewhere, nil
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
