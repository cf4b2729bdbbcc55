package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Stable problem codes of the API.
const (
	CodeInvalidArgument     = "invalid_argument"
	CodeKeyNotFound         = "key_not_found"
	CodeTooManySiblings     = "too_many_siblings"
	CodeConflict            = "conflict"
	CodeTooLarge            = "too_large"
	CodeQuorumUnavailable   = "quorum_unavailable"
	CodeOverloaded          = "overloaded"
	CodeNotReady            = "not_ready"
	CodeQuorumTimeout       = "quorum_timeout"
	CodeInsufficientStorage = "insufficient_storage"
	CodeInternal            = "internal"
)

// Error is a problem that a node answered with.
type Error struct {
	Node       string // base URL of the node that answered
	Status     int    // HTTP status
	Code       string // stable; "" where the answer was not one of Rondo's
	Title      string
	Detail     string        // what is wrong and what to change
	Outcome    string        // writes: "not_applied" or "unknown"; else ""
	Reason     string        // of key_not_found: "never_written" or "deleted"
	Context    string        // causal context of a deleted key, or of one with too many siblings; "" = none
	RetryAfter time.Duration // how long the node asks to wait; 0 = it did not say
	Body       []byte        // the problem document as it came
}

// Error gives the detail, code and outcome in one line.
func (e *Error) Error() string {
	var s strings.Builder
	switch {
	case e.Detail != "":
		s.WriteString(e.Detail)
	case e.Title != "":
		s.WriteString(e.Title)
	default:
		s.WriteString(http.StatusText(e.Status))
	}
	if e.Code != "" {
		fmt.Fprintf(&s, " (%d %s", e.Status, e.Code)
	} else {
		fmt.Fprintf(&s, " (%d from %s", e.Status, e.Node)
	}
	switch e.Outcome {
	case "not_applied":
		s.WriteString("; not applied: no replica has it")
	case "unknown":
		s.WriteString("; outcome unknown: some replica may have it")
	}
	s.WriteString(")")
	return s.String()
}

// Temporary tells whether the same call may succeed later without a change: the cluster could not serve it now.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusInsufficientStorage:
		return true
	}
	return false
}

// Unreachable is a call that got no whole answer from a node.
type Unreachable struct {
	Node string // base URL
	Sent bool   // the request may have arrived; false: no connection came about
	Err  error
}

// Error names the node and what failed.
func (e *Unreachable) Error() string {
	if e.Sent {
		return fmt.Sprintf("no answer from %s: %v", e.Node, e.Err)
	}
	return fmt.Sprintf("connect to %s: %v", e.Node, e.Err)
}

// Unwrap is the transport's error, or the context's.
func (e *Unreachable) Unwrap() error { return e.Err }

// IsNotFound tells whether err says that a key is not there.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == CodeKeyNotFound
}

// IsTemporary tells whether the same call may succeed later: a node answered so, or none answered.
func IsTemporary(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Temporary()
	}
	var u *Unreachable
	return errors.As(err, &u)
}

// decodeProblem reads an answer of 400 and above. One that is not a problem document still becomes an Error, with its text.
func decodeProblem(node string, resp *http.Response, body []byte) *Error {
	e := &Error{Node: node, Status: resp.StatusCode, Body: body, Context: resp.Header.Get("Rondo-Context")}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	var doc struct{ Title, Detail, Code, Outcome, Reason, Context string }
	if err := json.Unmarshal(body, &doc); err != nil {
		e.Detail = strings.TrimSpace(string(body[:min(len(body), 300)]))
		return e
	}
	e.Title, e.Detail, e.Code, e.Outcome, e.Reason = doc.Title, doc.Detail, doc.Code, doc.Outcome, doc.Reason
	if e.Context == "" {
		e.Context = doc.Context
	}
	return e
}
