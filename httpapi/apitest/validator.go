// Package apitest holds what tests of the API share: a validator of requests and answers against the OpenAPI document, and
// a table of the API's rules at their edges that runs over HTTP alone, against a fake or a real cluster. For tests only.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Validator checks requests and answers against an OpenAPI document. Safe for concurrent use.
//
// Three things cannot be said in OpenAPI, and are handled here: a key is the rest of the path, slashes included; with raw=true an answer of
// 200 has the value's own type and bytes, even where that type is JSON; and a schema of application/x-ndjson is that of each line.
type Validator struct {
	doc *openapi3.T
}

// New reads a document and checks that it is valid in itself.
func New(doc []byte) (*Validator, error) {
	t, err := openapi3.NewLoader().LoadFromData(doc)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	if err := t.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("check OpenAPI document: %w", err)
	}
	return &Validator{doc: t}, nil
}

// Operations lists what the document describes, as "GET /v1/kv/{bucket}/{key}".
func (v *Validator) Operations() []string {
	var out []string
	for path, item := range v.doc.Paths.Map() {
		for method := range item.Operations() {
			out = append(out, method+" "+path)
		}
	}
	return out
}

// Problem codes for requests that match nothing in the document.
const (
	codeNotFound = "not_found"
	codeMethod   = "method_not_allowed"
)

// Check validates one request and its answer. A request that the document does not allow is an error where the answer
// accepts it; one that was refused only has its answer checked. A path or method that is not in the document must have been
// answered with 404 or 405.
func (v *Validator) Check(req *http.Request, reqBody []byte, resp *http.Response, respBody []byte) error {
	route, params := v.find(req)
	if route == nil {
		code := problemCode(respBody)
		if params != nil && resp.StatusCode == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "" && (code == codeMethod || req.Method == http.MethodHead) ||
			params == nil && resp.StatusCode == http.StatusNotFound && (code == codeNotFound || req.Method == http.MethodHead) {
			return nil
		}
		return fmt.Errorf("%s %s is not in the document, and the answer is %d %s", req.Method, req.URL.EscapedPath(), resp.StatusCode, code)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{ExcludeRequestBody: true, IncludeResponseStatus: true, SkipSettingDefaults: true},
	}
	ctx := context.Background()
	if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusRequestEntityTooLarge {
		if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
			return fmt.Errorf("%s %s was accepted with %d, but: %w", req.Method, req.URL, resp.StatusCode, err)
		}
		if err := v.strict(route, req, reqBody); err != nil {
			return fmt.Errorf("%s %s was accepted with %d, but: %w", req.Method, req.URL, resp.StatusCode, err)
		}
	}
	if req.Method == http.MethodHead || resp.StatusCode == http.StatusNotModified { // the library checks nothing there
		r := route.Operation.Responses.Status(resp.StatusCode)
		if r == nil {
			return fmt.Errorf("%s %s: status %d is not in the document", req.Method, req.URL, resp.StatusCode)
		}
		return headers(r.Value, resp.Header)
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(respBody)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true,
			ExcludeResponseBody:   resp.StatusCode == http.StatusOK && req.URL.Query().Get("raw") == "true" || isLines(resp.Header),
		},
	}
	err := openapi3filter.ValidateResponse(ctx, answer)
	if err == nil && isLines(resp.Header) {
		err = lines(route, resp.StatusCode, respBody)
	}
	if err != nil {
		return fmt.Errorf("answer %d to %s %s: %w", resp.StatusCode, req.Method, req.URL, err)
	}
	return nil
}

// typeLines is the type of answers that are one JSON document a line.
const typeLines = "application/x-ndjson"

func isLines(h http.Header) bool { return h.Get("Content-Type") == typeLines }

// lines checks each line of an answer against the schema.
func lines(route *routers.Route, status int, body []byte) error {
	r := route.Operation.Responses.Status(status)
	if r == nil || r.Value.Content[typeLines] == nil {
		return errors.New("the document has no " + typeLines + " for this status")
	}
	for line := range bytes.Lines(body) {
		var document any
		if err := json.Unmarshal(line, &document); err != nil || !bytes.HasSuffix(line, []byte("\n")) {
			return fmt.Errorf("%q is not a line of JSON: %v", line, err)
		}
		if err := r.Value.Content[typeLines].Schema.Value.VisitJSON(document, openapi3.EnableJSONSchema2020()); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
	}
	return nil
}

// find matches a request as the server does: on the path as it was sent. Without a route, params tells whether the path is
// there with other methods.
func (v *Validator) find(req *http.Request) (*routers.Route, map[string]string) {
	path := req.URL.EscapedPath()
	for pattern, item := range v.doc.Paths.Map() {
		params, ok := match(pattern, path)
		if !ok {
			continue
		}
		method := req.Method
		operation := item.GetOperation(method)
		if operation == nil && method == http.MethodHead {
			operation = item.Get
		}
		if operation == nil {
			return nil, params
		}
		return &routers.Route{Spec: v.doc, Path: pattern, PathItem: item, Method: method, Operation: operation}, params
	}
	return nil, nil
}

// match compares a path with a pattern; {key} takes all the rest.
func match(pattern, path string) (map[string]string, bool) {
	params := map[string]string{}
	for {
		at := strings.IndexByte(pattern, '{')
		if at < 0 {
			return params, pattern == path
		}
		if !strings.HasPrefix(path, pattern[:at]) {
			return nil, false
		}
		path = path[at:]
		name, rest, _ := strings.Cut(pattern[at+1:], "}")
		end := strings.IndexByte(path, '/')
		if end < 0 || name == "key" {
			end = len(path)
		}
		value, err := url.PathUnescape(path[:end])
		if err != nil {
			return nil, false
		}
		params[name] = strings.ToValidUTF8(value, "?")
		pattern, path = rest, path[end:]
	}
}

// strict refuses parameters that are unknown or repeated, and bodies that do not fit their schema.
func (v *Validator) strict(route *routers.Route, req *http.Request, body []byte) error {
	for name, values := range req.URL.Query() {
		if route.Operation.Parameters.GetByInAndName("query", name) == nil && route.PathItem.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("the parameter %q is not in the document", name)
		}
		if len(values) > 1 {
			return fmt.Errorf("the parameter %q is there twice", name)
		}
	}
	if route.Operation.RequestBody == nil {
		return nil
	}
	content := route.Operation.RequestBody.Value.Content["application/json"]
	if content == nil {
		return nil
	}
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return content.Schema.Value.VisitJSON(document, openapi3.EnableJSONSchema2020())
}

// headers checks that those which an answer must have are there.
func headers(r *openapi3.Response, h http.Header) error {
	for name, header := range r.Headers {
		if header.Value.Required && h.Get(name) == "" {
			return errors.New("the answer has no header " + name)
		}
	}
	return nil
}

func problemCode(body []byte) string {
	var doc struct{ Code string }
	if json.Unmarshal(body, &doc) != nil {
		return ""
	}
	return doc.Code
}
