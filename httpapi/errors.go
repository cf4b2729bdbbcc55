package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/quorum"
)

// The codes that the API has besides the coordinator's.
const (
	codeKeyNotFound quorum.Code = "key_not_found"
	codeNotFound    quorum.Code = "not_found" // no such path
	codeMethod      quorum.Code = "method_not_allowed"
)

// kind is what the API says about one code.
type kind struct {
	status int
	title  string
	page   string // what to do about it, for /problems/<code>
}

// kinds is the one place where codes become statuses.
var kinds = map[quorum.Code]kind{
	quorum.CodeInvalid: {
		http.StatusBadRequest, "Invalid argument",
		"The request cannot be meant so, or asks for something that this release does not have yet.\nNothing was done. The detail says what to change.",
	},
	"unauthenticated":   {http.StatusUnauthorized, "Unauthenticated", "The request does not say who sends it. This release has no authentication and never answers so."},
	"permission_denied": {http.StatusForbidden, "Permission denied", "Who sends the request may not do this. This release has no authentication and never answers so."},
	codeKeyNotFound: {
		http.StatusNotFound, "Key not found",
		"No replica that answered holds a value. The reason says whether the key was never written or was deleted.\nTo create a deleted key again, send the context of this answer with the PUT.",
	},
	codeNotFound: {http.StatusNotFound, "No such path", "The API has no such path. /openapi.json lists all of them. Nothing is ever redirected."},
	codeMethod:   {http.StatusMethodNotAllowed, "Method not allowed", "The path does not take this method. The Allow header lists those it takes."},
	quorum.CodeSiblings: {
		http.StatusConflict, "Too many siblings",
		"The key has as many concurrent versions as a key may have. Read it, merge the versions, and write the result with the context\nof that read (or with the one in this answer).",
	},
	quorum.CodeConflict: {http.StatusConflict, "Conflict", "The change cannot be made in the present state. The detail says why."},
	"precondition_failed": {
		http.StatusPreconditionFailed, "Precondition failed",
		"A condition of the request does not hold. This release has no conditional writes and never answers so.",
	},
	quorum.CodeTooLarge: {http.StatusRequestEntityTooLarge, "Too large", "The head or the body of the request is larger than this node takes. Nothing was done."},
	quorum.CodeUnavailable: {
		http.StatusServiceUnavailable, "Quorum unavailable",
		"Too few replicas of the key can be reached, or too many failed. The quorum figures and the replicas say which.\nAsk for fewer replicas (r, w), or wait until the nodes are back.",
	},
	quorum.CodeOverloaded: {
		http.StatusServiceUnavailable, "Overloaded",
		"The node has as much work in flight as it takes on. Nothing was done.\nWait as long as Retry-After says, and send less at once.",
	},
	quorum.CodeNotReady: {http.StatusServiceUnavailable, "Not ready", "The node cannot serve yet, or is shutting down. The detail says what it waits for. Ask another node."},
	quorum.CodeTimeout: {
		http.StatusGatewayTimeout, "Quorum timeout",
		"Too few replicas answered within the timeout. A write with outcome not_applied may be sent again as new;\none with outcome unknown may have been kept by some replica: read the key before deciding, or send it again with the same context.",
	},
	quorum.CodeFull: {
		http.StatusInsufficientStorage, "Insufficient storage",
		"Too few replicas of the key can take the write, for their disks are full but for a reserve. Nothing was written; reads and repair go on.\nFree space on the disks: writes are taken again as soon as there is more than the reserve.",
	},
	quorum.CodeInternal: {http.StatusInternalServerError, "Internal error", "The node failed. Its log has more under the request id."},
}

// known gives every error its kind.
func known(code quorum.Code) (quorum.Code, kind) {
	if k, ok := kinds[code]; ok {
		return code, k
	}
	return quorum.CodeInternal, kinds[quorum.CodeInternal]
}

// before tells whether a code is only given before any replica is written.
func before(code quorum.Code) bool {
	switch code {
	case quorum.CodeInvalid, quorum.CodeTooLarge, quorum.CodeOverloaded, quorum.CodeNotReady, quorum.CodeSiblings, quorum.CodeFull, codeMethod, codeNotFound:
		return true
	}
	return false
}

// failed answers with the error of a coordinator or of bucket settings.
func (x *exchange) failed(err error) {
	var e *quorum.Error
	if !errors.As(err, &e) {
		e = &quorum.Error{Code: quorum.CodeInternal, Detail: "this node could not do what was asked", Outcome: quorum.Unknown, Err: err}
	}
	x.fail(e)
}

// fail answers with a problem document (RFC 9457). Outcomes are said on writes only.
func (x *exchange) fail(e *quorum.Error) {
	code, k := known(e.Code)
	x.status = k.status
	h := x.w.Header()
	h["Content-Type"] = typeProblem
	if code == quorum.CodeOverloaded || e.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(max(1, int64((e.RetryAfter+time.Second-1)/time.Second)), 10)}
	}
	if code == quorum.CodeInternal {
		x.log().Error("a request failed", "error", e)
	}
	x.buf = appendProblem(x.buf[:0], code, k, e.Detail)
	if x.writes() {
		outcome := e.Outcome
		if outcome == "" {
			if outcome = quorum.Unknown; before(code) {
				outcome = quorum.NotApplied
			}
		}
		x.buf = append(x.buf, `,"outcome":`...)
		x.buf = appendString(x.buf, string(outcome))
	}
	if e.N > 0 {
		x.buf = appendInt(x.buf, `,"quorum":{"n":`, e.N)
		x.buf = appendInt(x.buf, `,"required":`, e.Required)
		x.buf = appendInt(x.buf, `,"acked":`, e.Acked)
		if x.writes() {
			x.buf = appendInt(x.buf, `,"durable":`, e.Durable)
		}
		x.buf = append(x.buf, '}')
	}
	if len(e.Replicas) > 0 {
		x.buf = append(x.buf, `,"replicas":`...)
		x.buf = appendReplicas(x.buf, e.Replicas)
	}
	if e.Context != nil && x.sealer != nil {
		token := x.sealer.Seal(x.bucket, x.key, *e.Context)
		h["Rondo-Context"] = []string{token}
		x.buf = append(x.buf, `,"context":`...)
		x.buf = appendString(x.buf, token)
	}
	x.endProblem()
}

// endProblem closes a problem document with the name of the request, and sends it.
func (x *exchange) endProblem() {
	x.buf = append(x.buf, `,"request_id":`...)
	x.buf = appendString(x.buf, x.requestID())
	x.buf = append(x.buf, "}\n"...)
	x.hold = false
	x.finish()
}

// appendProblem appends a problem document without its end.
func appendProblem(dst []byte, code quorum.Code, k kind, detail string) []byte {
	dst = append(dst, `{"type":"/problems/`...)
	dst = append(dst, code...)
	dst = append(dst, `","title":`...)
	dst = appendString(dst, k.title)
	dst = appendInt(dst, `,"status":`, k.status)
	dst = append(dst, `,"detail":`...)
	if !utf8.ValidString(detail) {
		detail = strconv.QuoteToASCII(detail)
	}
	dst = appendString(dst, detail)
	dst = append(dst, `,"code":`...)
	return appendString(dst, string(code))
}
