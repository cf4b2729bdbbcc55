package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/vclock"
)

// exchange is one request and its answer. It is used again after its request, except where the handler panicked; nothing
// may keep it, nor its buffers.
type exchange struct {
	*Server
	w      http.ResponseWriter
	r      *http.Request
	op     op
	began  time.Time
	status int  // of the answer; 0 while there is none
	wrote  bool // the head is out
	hold   bool // gather the whole answer, however large
	broken bool // the client is gone
	counts bool // among the client requests in flight
	unread bool // the body was not read to its end
	taken  int64

	bucket, key string
	params      params
	sealer      *vclock.Sealer
	id          string // of the request; "" until it is needed
	buf         []byte // the answer, as far as it was not written
	scratch     []byte
	body        []byte
}

// keptBuffer is the largest buffer that an exchange keeps for its next request.
const keptBuffer = 64 << 10

// run answers one request. Client requests are bounded: beyond that the answer is an honest 503 at once.
func (s *Server) run(w http.ResponseWriter, r *http.Request, o op, handle func(*exchange)) {
	x := s.exchanges.Get().(*exchange)
	x.Server, x.w, x.r, x.op, x.began, x.unread = s, w, r, o, time.Now(), r.ContentLength != 0
	defer x.end()
	x.takeID()
	if o.client() {
		x.counts = true
		if n := s.requests.Add(1); n > int64(s.MaxRequests) {
			x.fail(&quorum.Error{
				Code: quorum.CodeOverloaded, Outcome: quorum.NotApplied, RetryAfter: time.Second,
				Detail: "this node already has " + strconv.Itoa(s.MaxRequests) + " requests in flight, its limit: send less at once, or ask another node",
			})
			return
		}
	}
	handle(x)
}

// end counts the request, turns a panic into a 500, and gives the exchange back.
func (x *exchange) end() {
	s, panicked := x.Server, recover()
	if x.counts {
		s.requests.Add(-1)
	}
	s.bodies.give(x.taken)
	if x.unread {
		if c, ok := x.r.Context().Value(connKey{}).(*conn); ok {
			c.unread.Store(true)
		}
	}
	if panicked != nil {
		s.Metrics.panics.Inc()
		if panicked != http.ErrAbortHandler {
			s.Logger.Error("a request made a handler panic", "request_id", x.requestID(), "method", x.r.Method, "path", quoted(x.r.URL.Path), "panic", panicked, "stack", string(debug.Stack()))
		}
		if x.wrote || panicked == http.ErrAbortHandler {
			s.Metrics.http(x.op, http.StatusInternalServerError, time.Since(x.began))
			panic(http.ErrAbortHandler) // cuts the connection, so that nobody takes half an answer for a whole one
		}
		x.buf = x.buf[:0]
		x.fail(&quorum.Error{Code: quorum.CodeInternal, Detail: "this node made an error of its own; its log has more under the request id", Outcome: quorum.Unknown})
		s.Metrics.http(x.op, x.status, time.Since(x.began))
		return
	}
	s.Metrics.http(x.op, x.status, time.Since(x.began))
	next := exchange{buf: x.buf[:0], scratch: x.scratch[:0], body: x.body[:0]}
	for _, b := range []*[]byte{&next.buf, &next.scratch, &next.body} {
		if cap(*b) > keptBuffer {
			*b = nil
		}
	}
	*x = next
	s.exchanges.Put(x)
}

// takeID echoes the client's name for the request, if it is one.
func (x *exchange) takeID() {
	values := x.r.Header["X-Request-Id"]
	if len(values) != 1 || len(values[0]) < 1 || len(values[0]) > 128 {
		return
	}
	for i := range len(values[0]) {
		if c := values[0][i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return
		}
	}
	x.id = values[0]
	x.w.Header()["X-Request-Id"] = values
}

// requestID names the request; one is made where the client gave none.
func (x *exchange) requestID() string {
	if x.id == "" {
		x.id = newRequestID()
		if !x.wrote {
			x.w.Header()["X-Request-Id"] = []string{x.id}
		}
	}
	return x.id
}

// deadline bounds the work for the request: its timeout counts from its first byte.
func (x *exchange) deadline() (context.Context, context.CancelFunc) {
	return context.WithDeadline(x.r.Context(), x.began.Add(x.params.timeout))
}

// Header values that are always the same. They are shared by all answers, and never changed.
var (
	typeJSON    = []string{vclock.TypeJSON}
	typeText    = []string{vclock.TypeText}
	typeBytes   = []string{vclock.TypeBytes}
	typeProblem = []string{"application/problem+json"}
	typeLines   = []string{"application/x-ndjson"}
	noSniff     = []string{"nosniff"}
	sandbox     = []string{"sandbox; default-src 'none'"}
	one         = []string{"1"}
)

// json begins a JSON answer.
func (x *exchange) json(status int) {
	x.status = status
	x.w.Header()["Content-Type"] = typeJSON
}

// head sends the status line and the headers.
func (x *exchange) head() {
	if !x.wrote {
		x.wrote = true
		x.w.WriteHeader(x.status)
	}
}

// write sends a piece of the body, after what was gathered.
func (x *exchange) write(b []byte) {
	x.head()
	if x.broken || len(b) == 0 || x.r.Method == http.MethodHead && len(b) > smallAnswer {
		return
	}
	if _, err := x.w.Write(b); err != nil {
		x.broken = true
	}
}

// flush sends what was gathered.
func (x *exchange) flush() {
	if !x.hold {
		x.write(x.buf)
		x.buf = x.buf[:0]
	}
}

// spill keeps the buffer small in an answer of unknown length.
func (x *exchange) spill() {
	if len(x.buf) > gathered {
		x.flush()
	}
}

// smallAnswer is up to where net/http finds the length of a body by itself.
const smallAnswer = 2048

// finish sends the rest of the answer, with its length where it is whole.
func (x *exchange) finish() {
	if !x.wrote && len(x.buf) > smallAnswer {
		x.length(int64(len(x.buf)))
	}
	x.write(x.buf)
	x.buf = x.buf[:0]
}

func (x *exchange) length(n int64) {
	x.w.Header()["Content-Length"] = []string{strconv.FormatInt(n, 10)}
}

// log is the logger with what names the request.
func (x *exchange) log() *slog.Logger {
	return x.Logger.With("request_id", x.requestID(), "op", x.op.String(), "bucket", x.bucket)
}
