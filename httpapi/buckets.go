package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/rondodb/rondo/quorum"
)

// bucketList answers the buckets that have settings of their own.
func (x *exchange) bucketList() {
	if e := x.params.parse(x.r.URL.RawQuery, bucketParams); e != nil {
		x.fail(e)
		return
	}
	all := x.Buckets.All()
	x.json(http.StatusOK)
	x.buf = append(x.buf[:0], `{"buckets":{`...)
	for i, name := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = appendString(x.buf, name)
		x.buf = append(x.buf, ':')
		x.buf = appendSettings(x.buf, all[name])
		x.spill()
	}
	x.buf = append(x.buf, "}}\n"...)
	x.finish()
}

// bucketGet answers a bucket's settings: the defaults where nobody has set any.
func (x *exchange) bucketGet() {
	if e := x.openBucket(); e != nil {
		x.fail(e)
		return
	}
	x.settings()
}

func (x *exchange) bucketPut() {
	e := x.openBucket()
	if e == nil {
		e = unconditional(x.r.Header)
	}
	if e == nil {
		e = keptWhole(x.r.Header)
	}
	if e == nil {
		e = x.readBody(maxSettings)
	}
	var settings quorum.Bucket
	if e == nil {
		settings, e = parseSettings(x.body)
	}
	if e != nil {
		x.fail(e)
		return
	}
	ctx, cancel := x.deadline()
	defer cancel()
	if err := x.Buckets.Set(ctx, x.bucket, settings); err != nil {
		x.failed(err)
		return
	}
	x.settings()
}

// bucketDelete gives a bucket the defaults again. Its keys stay.
func (x *exchange) bucketDelete() {
	e := x.openBucket()
	if e == nil {
		e = unconditional(x.r.Header)
	}
	if e != nil {
		x.fail(e)
		return
	}
	ctx, cancel := x.deadline()
	defer cancel()
	if err := x.Buckets.Delete(ctx, x.bucket); err != nil {
		x.failed(err)
		return
	}
	x.settings()
}

// openBucket reads the bucket off the path: all that follows the prefix.
func (x *exchange) openBucket() *quorum.Error {
	name, err := rawPath(x.r.URL)[len(bucketsPrefix):], error(nil)
	if x.r.URL.RawPath != "" {
		name, err = decodePath(name)
	}
	if err != nil {
		return invalid("the path is not percent-encoded correctly: %v", err)
	}
	x.bucket = name
	if e := checkBucket(name); e != nil {
		return e
	}
	return x.params.parse(x.r.URL.RawQuery, bucketParams)
}

// settings answers what applies to the bucket now.
func (x *exchange) settings() {
	x.json(http.StatusOK)
	x.buf = append(appendSettings(x.buf[:0], x.Buckets.Get(x.bucket)), '\n')
	x.finish()
}

func appendSettings(dst []byte, b quorum.Bucket) []byte {
	dst = appendInt(dst, `{"n":`, b.N)
	dst = appendLevel(append(dst, `,"r":`...), b.R)
	dst = appendLevel(append(dst, `,"w":`...), b.W)
	dst = appendLevel(append(dst, `,"dw":`...), b.DW)
	dst = appendBool(dst, `,"sloppy":`, b.Sloppy)
	resolve := "siblings"
	if b.LWW {
		resolve = "lww"
	}
	dst = appendString(append(dst, `,"resolve":`...), resolve)
	return append(appendString(append(dst, `,"ttl":`...), durationText(b.TTL)), '}')
}

// appendLevel appends a number as a number and a word as a string.
func appendLevel(dst []byte, l quorum.Level) []byte {
	switch l {
	case quorum.Quorum, quorum.All:
		return appendString(dst, l.String())
	case quorum.None:
		return append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(l), 10)
}

// parseSettings reads a bucket's settings. Names are exact, nothing may come twice, and what is left out has its default.
func parseSettings(body []byte) (quorum.Bucket, *quorum.Error) {
	b := quorum.DefaultBucket
	if fault := checkJSON(body); fault != jsonGood {
		return b, invalid("the settings of a bucket are a JSON object such as {\"n\":3}: %v", fault)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return b, invalid(`the settings of a bucket are a JSON object, such as {"n":3,"r":"quorum","w":"quorum"}`)
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return b, invalid("the settings of a bucket cannot be read")
		}
		if seen[name] {
			return b, invalid("the field %s is there twice", quoted(name))
		}
		seen[name] = true
		value, err := d.Token()
		if err != nil && !errors.Is(err, io.EOF) {
			return b, invalid("the settings of a bucket cannot be read")
		}
		if e := setField(&b, name, value); e != nil {
			return b, e
		}
	}
	return b, settle(&b, seen["dw"])
}

// setField sets one field from a JSON token.
func setField(b *quorum.Bucket, name string, value json.Token) *quorum.Error {
	var e *quorum.Error
	switch name {
	case "n":
		number, ok := value.(json.Number)
		n, err := strconv.Atoi(number.String())
		if !ok || err != nil || n < 1 || n > quorum.MaxN {
			return invalid("n=%v: use a number from 1 to %d", value, quorum.MaxN)
		}
		b.N = n
	case "r":
		b.R, e = levelField(name, value, false)
	case "w":
		b.W, e = levelField(name, value, false)
	case "dw":
		b.DW, e = levelField(name, value, true)
	case "sloppy":
		sloppy, ok := value.(bool)
		if !ok {
			return invalid("sloppy=%v: use true or false", value)
		}
		b.Sloppy = sloppy
	case "resolve":
		switch value {
		case "siblings":
			b.LWW = false
		case "lww":
			b.LWW = true
		default:
			return invalid("resolve=%v: use siblings or lww", value)
		}
	case "ttl":
		text, ok := value.(string)
		if !ok {
			return invalid(`ttl=%v: use a string with a duration, such as "24h", or "0s" for values that never expire`, value)
		}
		if b.TTL = 0; text != "" {
			b.TTL, e = parseTTL(text)
		}
	default:
		return invalid("unknown field %s; known are: n, r, w, dw, sloppy, resolve, ttl", quoted(name))
	}
	return e
}

// levelField reads a replica count, a number or a string.
func levelField(name string, value json.Token, zero bool) (quorum.Level, *quorum.Error) {
	switch v := value.(type) {
	case string:
		return parseLevel(name, v, zero)
	case json.Number:
		return parseLevel(name, v.String(), zero)
	}
	return 0, invalid("%s=%v: use a number, or the word one, quorum or all", name, value)
}

// settle checks the fields against each other. A dw that was not asked for is lowered to w.
func settle(b *quorum.Bucket, dwGiven bool) *quorum.Error {
	for _, c := range [...]struct {
		name  string
		level quorum.Level
	}{{"r", b.R}, {"w", b.W}, {"dw", b.DW}} {
		if k := c.level.Count(b.N); k > b.N {
			return invalid("%s=%v cannot be met: %d > n=%d", c.name, c.level, k, b.N)
		}
	}
	if dw, w := b.DW.Count(b.N), b.W.Count(b.N); dw > w {
		if dwGiven {
			return invalid("dw=%v is %d of n=%d, more than w=%v, which is %d: only acknowledged writes can be counted as synced", b.DW, dw, b.N, b.W, w)
		}
		b.DW = b.W
	}
	return nil
}
