package httpapi

import (
	"net/http"
	"strings"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// serveKV answers what is asked of one key.
func (s *Server) serveKV(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.run(w, r, opGet, (*exchange).get)
	case http.MethodPut:
		s.run(w, r, opPut, (*exchange).put)
	case http.MethodDelete:
		s.run(w, r, opDelete, (*exchange).delete)
	default:
		s.run(w, r, opOther, func(x *exchange) { x.notAllowed("GET, HEAD, PUT, DELETE") })
	}
}

// open reads what all requests on a key have in common. It is done before the body is read.
func (x *exchange) open() *quorum.Error {
	var e *quorum.Error
	if x.bucket, x.key, _, e = splitKey(x.r.URL, kvPrefix); e != nil {
		return e
	}
	if e := checkKey(x.key); e != nil {
		return e
	}
	if e := x.params.parse(x.r.URL.RawQuery, keyParams); e != nil {
		return e
	}
	bucket, layout := x.Buckets.Get(x.bucket), x.Node.Layout()
	n := bucket.N
	if layout != nil {
		n = min(n, len(layout.Members()))
	}
	if e := x.params.met(n, bucket); e != nil {
		return e
	}
	if x.sealer = x.Sealer(); x.sealer == nil || layout == nil {
		return x.notReady()
	}
	return nil
}

// notReady is the error while there is no ring.
func (x *exchange) notReady() *quorum.Error {
	detail := "this node knows no ring yet"
	if ok, why := x.Node.Ready(); !ok && why != "" {
		detail = why
	}
	return &quorum.Error{Code: quorum.CodeNotReady, Detail: detail, Outcome: quorum.NotApplied}
}

// token is the context as the client sent it, in the header or as a parameter.
func (x *exchange) token() (token string, sent bool, e *quorum.Error) {
	token, sent = x.params.context, x.params.seen&paramContext != 0
	values := x.r.Header["Rondo-Context"]
	switch {
	case len(values) > 1:
		return "", false, invalid("there are %d Rondo-Context headers: send one", len(values))
	case len(values) == 1 && sent && values[0] != token:
		return "", false, invalid("the header Rondo-Context and the parameter context are different: send one of them")
	case len(values) == 1:
		return values[0], true, nil
	}
	return token, sent, nil
}

// none is the token that stands for "replaces nothing".
const none = "none"

// unseal opens a token. One that cannot be opened is never taken for none.
func (x *exchange) unseal(token string) (*vclock.Context, *quorum.Error) {
	if len(token) > vclock.MaxToken {
		return nil, invalid("a context has at most %d bytes, this one has %d", vclock.MaxToken, len(token))
	}
	c, err := x.sealer.Open(x.bucket, x.key, token)
	if err != nil && plant.On(plant.BadContextIsNone) {
		return nil, nil
	}
	if err != nil {
		return nil, invalid("the context is malformed, cut or altered, or was given out for another key or by another cluster: read this key, and send the context of that answer")
	}
	return &c, nil
}

// get answers GET and HEAD.
func (x *exchange) get() {
	e := x.open()
	if e != nil {
		x.fail(e)
		return
	}
	options := quorum.ReadOptions{R: x.params.r, Sloppy: x.params.sloppy, FullReceipt: x.params.full}
	token, sent, e := x.token()
	if sent && token == none && e == nil {
		e = invalid("Rondo-Context: none is for PUT; on %s leave the context out", x.r.Method)
	}
	if sent && e == nil {
		options.Session, e = x.unseal(token)
	}
	if e != nil {
		x.fail(e)
		return
	}
	ctx, cancel := x.deadline()
	defer cancel()
	result, err := x.Coordinator.Get(ctx, ring.NewKey(x.bucket, x.key), options)
	if err != nil {
		x.failed(err)
		return
	}
	count := result.Object.Values()
	if count == 0 {
		x.missing(&result)
		return
	}
	etag, token := x.describe(result.Object, count)
	switch {
	case matches(x.r.Header["If-None-Match"], etag):
		x.status = http.StatusNotModified
		x.head()
	case x.params.raw && count == 1:
		x.raw(&result.Object.Siblings[live(result.Object.Siblings, 0)])
	case x.params.raw:
		x.json(http.StatusMultipleChoices)
		x.shape(&result, token)
	default:
		x.json(http.StatusOK)
		x.shape(&result, token)
	}
}

// describe sets the headers that tell about an object, and returns two of them.
func (x *exchange) describe(o vclock.Object, count int) (etag, token string) {
	b := x.sealer.AppendSeal(x.scratch[:0], x.bucket, x.key, o.Context())
	endToken := len(b)
	b = append(b, '"')
	encoded := vclock.AppendClock(x.buf[:0], o.Clock)
	if count < len(o.Siblings) {
		encoded = appendInt(encoded, "", count) // a version that expires changes the answer, and not the clock
	}
	b = appendHex(b, ring.Digest(encoded))
	b = append(b, '"')
	endTag := len(b)
	b = moment(o.Siblings[live(o.Siblings, 0)].Time).AppendFormat(b, http.TimeFormat)
	x.scratch, x.buf = b, encoded[:0]
	all := string(b)
	values := &[3]string{all[:endToken], all[endToken:endTag], all[endTag:]}
	h := x.w.Header()
	h["Rondo-Context"], h["Etag"], h["Last-Modified"] = values[0:1:1], values[1:2:2], values[2:3:3]
	if h["Rondo-Siblings"] = one; count > 1 {
		h["Rondo-Siblings"] = []string{string(appendInt(nil, "", count))}
	}
	return values[1], values[0]
}

// matches tells whether an If-None-Match header names the tag. Tags are compared weakly (RFC 9110, section 13.1.2).
func matches(header []string, etag string) bool {
	for _, list := range header {
		for list != "" {
			var tag string
			tag, list, _ = strings.Cut(list, ",")
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}

// shape writes the JSON form of what was read.
func (x *exchange) shape(result *quorum.ReadResult, token string) {
	x.buf = x.begin(x.buf[:0], token)
	x.buf = append(x.buf, `,"values":[`...)
	if x.hold = valueBytes(result.Object) <= gathered; !x.hold {
		x.scratch = appendReceipt(append(x.scratch[:0], `],"receipt":`...), &result.Receipt, false, x.params.full)
		x.length(int64(len(x.buf)+len(x.scratch)+len("}\n")) + x.sizeOfValues(result.Object))
		if x.r.Method == http.MethodHead {
			x.head()
			return
		}
	}
	x.appendValues(result.Object)
	x.buf = appendReceipt(append(x.buf, `],"receipt":`...), &result.Receipt, false, x.params.full)
	x.buf = append(x.buf, "}\n"...)
	x.finish()
}

// begin appends the members that every answer about a key begins with.
func (x *exchange) begin(dst []byte, token string) []byte {
	dst = append(dst, `{"bucket":"`...)
	dst = append(dst, x.bucket...)
	dst = append(dst, `","key":`...)
	dst = appendKey(dst, x.key)
	dst = append(dst, `,"context":"`...)
	dst = append(dst, token...)
	return append(dst, '"')
}

// raw writes the bytes of the only version. They are not to be run by a browser as if they were this node's own page.
func (x *exchange) raw(s *vclock.Sibling) {
	h := x.w.Header()
	switch s.ContentType {
	case vclock.TypeJSON:
		h["Content-Type"] = typeJSON
	case vclock.TypeText:
		h["Content-Type"] = typeText
	case vclock.TypeBytes, "":
		h["Content-Type"] = typeBytes
	default:
		h["Content-Type"] = []string{s.ContentType}
	}
	h["X-Content-Type-Options"], h["Content-Security-Policy"] = noSniff, sandbox
	x.status = http.StatusOK
	x.length(int64(len(s.Value)))
	x.write(s.Value)
}

// missing answers 404 for a key that was never written, or that was deleted.
func (x *exchange) missing(result *quorum.ReadResult) {
	k := kinds[codeKeyNotFound]
	x.status = k.status
	h := x.w.Header()
	h["Content-Type"] = typeProblem
	if result.Object.Empty() {
		x.buf = appendProblem(x.buf[:0], codeKeyNotFound, k, "the key was never written, as far as the replicas that answered know")
		x.buf = append(x.buf, `,"reason":"never_written"`...)
	} else {
		token := x.sealer.Seal(x.bucket, x.key, result.Object.Context())
		h["Rondo-Context"] = []string{token}
		x.buf = appendProblem(x.buf[:0], codeKeyNotFound, k, "the key was deleted; to create it again, send the context of this answer")
		x.buf = append(x.buf, `,"reason":"deleted","context":"`...)
		x.buf = append(x.buf, token...)
		x.buf = append(x.buf, '"')
	}
	x.buf = append(x.buf, `,"bucket":"`...)
	x.buf = append(x.buf, x.bucket...)
	x.buf = append(x.buf, `","key":`...)
	x.buf = appendKey(x.buf, x.key)
	x.buf = append(x.buf, `,"receipt":`...)
	x.buf = appendReceipt(x.buf, &result.Receipt, false, x.params.full)
	x.endProblem()
}
