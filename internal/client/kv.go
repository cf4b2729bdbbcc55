package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// NoContext as a context means "replaces nothing": the write becomes a sibling of whatever is there.
const NoContext = "none"

// Receipt says what an answer rests on. Reads fill Replied, Agreed and Repaired; writes fill Acked and Durable.
type Receipt struct {
	N           int              `json:"n"`
	Required    int              `json:"required"`
	Acked       int              `json:"acked"`
	Durable     int              `json:"durable"`
	Replied     int              `json:"replied"`
	Agreed      bool             `json:"agreed"`
	Repaired    int              `json:"repaired"`
	Standins    int              `json:"standins"`
	Ring        uint64           `json:"ring"`
	Coordinator string           `json:"coordinator"`
	Replicas    []ReplicaReceipt `json:"replicas"`
}

// ReplicaReceipt is one replica's part in a request; listed where a full receipt was asked for.
type ReplicaReceipt struct {
	Node    string  `json:"node"`
	Zone    string  `json:"zone"`
	Role    string  `json:"role"` // "owner" or "standin"
	OK      bool    `json:"ok"`
	Durable bool    `json:"durable"`
	MS      float64 `json:"ms"`
	Error   string  `json:"error"`
}

// Value is one version of a key.
type Value struct {
	Data        []byte // the bytes as they were written; may alias the answer they came in
	ContentType string
	Modified    time.Time
	Expires     time.Time // when it ends; the zero time where it never does
	Version     string
}

// Object is a key with its versions, newest first. More than one are concurrent: siblings.
type Object struct {
	Bucket, Key string
	Context     string // covers exactly Values and what they replaced
	Values      []Value
	Receipt     Receipt
	Raw         []byte // the answer as it came
}

// Written is the answer to a write.
type Written struct {
	Context string    // covers the context that was sent and the new version
	Version string    // of the new version
	Expires time.Time // when the new version ends; the zero time where it never does
	Values  []Value   // the versions after the write, where they were asked for
	Receipt Receipt
	Raw     []byte // the answer as it came
}

// Options are the wishes for one request. The zero value leaves everything to the bucket.
type Options struct {
	R, W, DW    string // replica counts as the API reads them: "1".."7", "one", "quorum", "all"; "" = the bucket's
	Consistency string // preset for R and W
	Sloppy      string // "true" or "false"; "" = the bucket's
	Context     string // a token, NoContext, or "" for none
	ContentType string // of a PUT; "" lets the node tell
	TTL         string // of a PUT: how long the value lives, as Go writes durations; "0" = for ever, "" = the bucket's
	FullReceipt bool   // list the replicas
	ReturnValue bool   // writes: answer with the versions too
}

// query is the parameters of a request on a key.
func (c *Client) query(o Options) url.Values {
	q := url.Values{}
	for _, p := range [...][2]string{{"r", o.R}, {"w", o.W}, {"dw", o.DW}, {"consistency", o.Consistency}, {"sloppy", o.Sloppy}, {"ttl", o.TTL}} {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	if o.FullReceipt {
		q.Set("receipt", "full")
	}
	if o.ReturnValue {
		q.Set("return", "value")
	}
	if c.timeout > 0 {
		q.Set("timeout", min(max(c.timeout, minServerTimeout), maxServerTimeout).String())
	}
	return q
}

// keyCall builds a request on one key.
func (c *Client) keyCall(method, bucket, key string, o Options) call {
	r := call{method: method, path: "/v1/kv/" + url.PathEscape(bucket) + "/" + escapeKey(key), query: c.query(o), header: http.Header{}}
	if o.Context != "" {
		r.header.Set("Rondo-Context", o.Context)
	}
	return r
}

// Get reads a key with all its versions. A key that is not there is an *Error with CodeKeyNotFound.
func (c *Client) Get(ctx context.Context, bucket, key string, o Options) (*Object, error) {
	a, err := c.do(ctx, c.keyCall(http.MethodGet, bucket, key, o))
	if err != nil {
		return nil, err
	}
	d, err := decodeAnswer(a)
	if err != nil {
		return nil, err
	}
	d.Bucket, d.Key, d.Raw = bucket, key, a.body
	return &d.Object, nil
}

// Put writes a value; the bytes are sent as they are. On an *Unreachable with Sent the outcome is unknown.
func (c *Client) Put(ctx context.Context, bucket, key string, value []byte, o Options) (*Written, error) {
	r := c.keyCall(http.MethodPut, bucket, key, o)
	if r.body = value; value == nil {
		r.body = []byte{}
	}
	if o.ContentType != "" {
		r.header.Set("Content-Type", o.ContentType)
	}
	return c.write(ctx, r)
}

// Delete deletes a key. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, bucket, key string, o Options) (*Written, error) {
	return c.write(ctx, c.keyCall(http.MethodDelete, bucket, key, o))
}

func (c *Client) write(ctx context.Context, r call) (*Written, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	d, err := decodeAnswer(a)
	if err != nil {
		return nil, err
	}
	return &Written{Context: d.Context, Version: d.version, Expires: d.expires, Values: d.Values, Receipt: d.Receipt, Raw: a.body}, nil
}

// ListOptions selects one page of a bucket's keys.
type ListOptions struct {
	Prefix string
	Limit  int    // 1 to 1000; 0 = 100
	Cursor string // of the page before; "" = from the start
	R      string // replicas that must answer; "" = the bucket's
	Values bool   // read each key too
}

// Page is one page of keys, in ring order. Objects is parallel to Keys where values were asked for.
type Page struct {
	Keys    []string
	Objects []Object
	Cursor  string // "" = the end
	Size    int    // bytes of the answer
}

// List reads one page of keys.
func (c *Client) List(ctx context.Context, bucket string, o ListOptions) (*Page, error) {
	q := c.query(Options{R: o.R})
	if o.Prefix != "" {
		q.Set("prefix", o.Prefix)
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Cursor != "" {
		q.Set("cursor", o.Cursor)
	}
	if o.Values {
		q.Set("values", "true")
	}
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/kv/" + url.PathEscape(bucket), query: q})
	if err != nil {
		return nil, err
	}
	page, err := decodePage(a.body, o.Values)
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", a.node, err)
	}
	return page, nil
}

// decoded is an answer about a key: Object, and what only writes carry.
type decoded struct {
	Object
	version string
	expires time.Time
}

// decodeAnswer reads an answer about one key.
func decodeAnswer(a *answer) (*decoded, error) {
	err := validJSON(a.body)
	if err == nil {
		var d *decoded
		if d, err = decodeObject(a.body); err == nil {
			return d, nil
		}
	}
	return nil, fmt.Errorf("answer of %s: %w", a.node, err)
}

// decodeObject reads the shape that GET, PUT and DELETE answer with. b must be valid JSON.
func decodeObject(b []byte) (*decoded, error) {
	var d decoded
	d.Raw = b
	err := members(b, func(name string, raw []byte) error {
		switch name {
		case "key":
			return json.Unmarshal(raw, (*Key)(&d.Key))
		case "bucket":
			return json.Unmarshal(raw, &d.Bucket)
		case "context":
			return json.Unmarshal(raw, &d.Context)
		case "version":
			return json.Unmarshal(raw, (*Text)(&d.version))
		case "expires":
			return json.Unmarshal(raw, &d.expires)
		case "receipt":
			return json.Unmarshal(raw, &d.Receipt)
		case "values":
			values, err := decodeValues(raw)
			d.Values = values
			return err
		}
		return nil
	})
	return &d, err
}

// decodeValues reads an array of versions.
func decodeValues(b []byte) ([]Value, error) {
	var values []Value
	err := elements(b, func(raw []byte) error {
		v, err := decodeValue(raw)
		values = append(values, v)
		return err
	})
	return values, err
}

// DecodeValue reads one version: {"value":…,"content_type":…} or with "base64" instead of "value". JSON comes back byte for byte,
// with the white space around it; text comes decoded. Data may alias b. A document with neither or both is an error.
func DecodeValue(b []byte) (Value, error) {
	if err := validJSON(b); err != nil {
		return Value{}, err
	}
	return decodeValue(b)
}

func decodeValue(b []byte) (Value, error) {
	var (
		v       Value
		value   []byte
		encoded *string
	)
	err := members(b, func(name string, raw []byte) error {
		switch name {
		case "value":
			value = raw
		case "base64":
			return json.Unmarshal(raw, &encoded)
		case "content_type":
			return json.Unmarshal(raw, &v.ContentType)
		case "modified":
			return json.Unmarshal(raw, &v.Modified)
		case "expires":
			return json.Unmarshal(raw, &v.Expires)
		case "version":
			return json.Unmarshal(raw, (*Text)(&v.Version))
		}
		return nil
	})
	switch {
	case err != nil:
		return v, err
	case (value == nil) == (encoded == nil):
		return v, errors.New(`a version has either "value" or "base64"`)
	case encoded != nil:
		v.Data, err = DecodeBase64(*encoded)
		return v, err
	case IsJSON(v.ContentType):
		v.Data = value
		return v, nil
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return v, fmt.Errorf("decode text value: %w", err)
	}
	v.Data = []byte(text)
	return v, nil
}

// IsJSON tells whether values of a content type are embedded in answers as JSON. "" counts, for hand-written import lines.
func IsJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "" || media == "application/json"
}

// decodePage reads a page of keys.
func decodePage(b []byte, values bool) (*Page, error) {
	page := &Page{Size: len(b)}
	err := Members(b, func(name string, raw []byte) error {
		switch name {
		case "cursor":
			return json.Unmarshal(raw, &page.Cursor)
		case "keys":
			return elements(raw, func(raw []byte) error {
				if values {
					object, err := decodeObject(raw)
					page.Keys, page.Objects = append(page.Keys, object.Key), append(page.Objects, object.Object)
					return err
				}
				var key Key
				err := json.Unmarshal(raw, &key)
				page.Keys = append(page.Keys, string(key))
				return err
			})
		}
		return nil
	})
	return page, err
}
