package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
)

// put answers PUT. Everything that does not need the body is checked before it is read, and so before a client that
// expects 100-continue sends it.
func (x *exchange) put() {
	options, e := x.openWrite(true)
	var kind string
	if e == nil {
		kind, e = declared(x.r.Header)
	}
	if e == nil {
		e = x.readBody(x.MaxValue)
	}
	if e == nil {
		kind, e = contentType(kind, x.body)
	}
	if e != nil {
		x.fail(e)
		return
	}
	x.apply(quorum.Value{ContentType: kind, Bytes: x.body, TTL: x.params.ttl}, options)
}

// delete answers DELETE. Deleting what is not there is a write like any other.
func (x *exchange) delete() {
	options, e := x.openWrite(false)
	if e != nil {
		x.fail(e)
		return
	}
	x.apply(quorum.Value{Delete: true}, options)
}

// openWrite reads how a write is meant.
func (x *exchange) openWrite(fresh bool) (quorum.WriteOptions, *quorum.Error) {
	if e := x.open(); e != nil {
		return quorum.WriteOptions{}, e
	}
	options := quorum.WriteOptions{W: x.params.w, DW: x.params.dw, Sloppy: x.params.sloppy, FullReceipt: x.params.full, ReturnValue: x.params.value}
	if e := unconditional(x.r.Header); e != nil {
		return options, e
	}
	token, sent, e := x.token()
	switch {
	case e != nil || !sent:
	case token == none && fresh:
		options.Fresh = true
	case token == none:
		e = invalid("Rondo-Context: none is for PUT: a DELETE that replaces nothing would delete nothing. Leave the context out to delete what the coordinating replica holds, or send the context of a read")
	default:
		options.Context, e = x.unseal(token)
	}
	return options, e
}

// unconditional refuses conditions: to ignore one would lose updates.
func unconditional(h http.Header) *quorum.Error {
	for _, name := range [...]string{"If-Match", "If-None-Match", "If-Unmodified-Since", "If-Modified-Since"} {
		if len(h[name]) > 0 {
			return notYet(name + " on writes: conditional writes do not exist; send Rondo-Context, so that the write replaces exactly what was read")
		}
	}
	return nil
}

// apply has the write done and answers.
func (x *exchange) apply(value quorum.Value, options quorum.WriteOptions) {
	ctx, cancel := x.deadline()
	defer cancel()
	result, err := x.Coordinator.Put(ctx, ring.NewKey(x.bucket, x.key), value, options)
	if err != nil {
		x.failed(err)
		return
	}
	x.scratch = x.sealer.AppendSeal(x.scratch[:0], x.bucket, x.key, result.Context)
	token := string(x.scratch)
	x.w.Header()["Rondo-Context"] = []string{token}
	x.json(http.StatusOK)
	x.buf = x.begin(x.buf[:0], token)
	x.buf = append(x.buf, `,"version":"`...)
	x.buf = appendVersion(x.buf, result.Dot)
	x.buf = append(x.buf, '"')
	x.buf = appendExpiry(x.buf, result.Expiry)
	if options.ReturnValue {
		x.buf = append(x.buf, `,"values":[`...)
		x.appendValues(result.Object)
		x.buf = append(x.buf, ']')
	}
	x.buf = append(x.buf, `,"receipt":`...)
	x.buf = appendReceipt(x.buf, &result.Receipt, true, x.params.full)
	x.buf = append(x.buf, "}\n"...)
	x.finish()
}

// eagerBody is up to where a body gets its whole buffer before it is there.
const eagerBody = 32 << 10

// readBody reads the whole body into x.body, at most limit bytes. A body that is declared too large is refused before it is read.
// Bodies of all requests together are bounded. A client that goes away in the middle has written nothing.
func (x *exchange) readBody(limit int64) *quorum.Error {
	size := x.r.ContentLength
	if size > limit {
		return tooLarge(limit, size)
	}
	if size == 0 {
		return nil
	}
	slow, _ := x.w.(interface{ SetReadDeadline(time.Time) error })
	if slow != nil && (size < 0 || size > eagerBody) {
		slow.SetReadDeadline(x.began.Add(x.params.timeout)) // without it the connection's own limit holds
	}
	body, most := x.r.Body, size
	if size < 0 {
		body, most = http.MaxBytesReader(x.w, body, limit), limit+1
	}
	b := x.body[:0]
	if need := min(max(size, 512), eagerBody); int64(cap(b)) < need {
		b = make([]byte, 0, need)
	}
	if e := x.reserve(int64(cap(b))); e != nil {
		return e
	}
	for int64(len(b)) < most {
		if len(b) == cap(b) {
			grown := min(2*int64(cap(b)), most)
			if e := x.reserve(grown - int64(cap(b))); e != nil {
				return e
			}
			b = append(make([]byte, 0, grown), b...)
		}
		n, err := body.Read(b[len(b):min(int64(cap(b)), most)])
		b = b[:len(b)+n]
		if err == io.EOF && (size < 0 || int64(len(b)) == size) {
			break
		}
		if err != nil {
			return bodyError(err, int64(len(b)), size, limit)
		}
	}
	if slow != nil && (size < 0 || size > eagerBody) {
		slow.SetReadDeadline(time.Time{})
	}
	x.body, x.unread = b, false
	return nil
}

// reserve counts memory for the body against the limit of all bodies. It is given back at the end of the request.
func (x *exchange) reserve(n int64) *quorum.Error {
	if !x.bodies.take(n) {
		return &quorum.Error{
			Code: quorum.CodeOverloaded, Outcome: quorum.NotApplied, RetryAfter: time.Second,
			Detail: fmt.Sprintf("this node already holds as many request bodies as it takes, %d bytes: send less at once, or ask another node", x.bodies.most),
		}
	}
	x.taken += n
	return nil
}

func tooLarge(limit, size int64) *quorum.Error {
	detail := fmt.Sprintf("the body has more than %d bytes, the most that this node takes here", limit)
	if size > 0 {
		detail = fmt.Sprintf("the body has %d bytes, and %d is the most that this node takes here", size, limit)
	}
	return &quorum.Error{Code: quorum.CodeTooLarge, Detail: detail, Outcome: quorum.NotApplied}
}

func bodyError(err error, got, size, limit int64) *quorum.Error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(limit, 0)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalid("the body did not arrive within the request's timeout: %d bytes did", got)
	case size > 0:
		return invalid("the body ended after %d of %d bytes: nothing was written", got, size)
	}
	return invalid("the body is not readable after %d bytes: nothing was written", got)
}
