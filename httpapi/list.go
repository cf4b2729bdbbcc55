package httpapi

import (
	"net/http"

	"github.com/rondodb/rondo/quorum"
)

// list answers one page of a bucket's keys. Its length is not known before its end where values are wanted: it streams.
func (x *exchange) list() {
	var e *quorum.Error
	x.bucket, _, _, e = splitKey(x.r.URL, kvPrefix)
	if e == nil {
		e = x.params.parse(x.r.URL.RawQuery, listParams)
	}
	if e == nil && x.params.sloppy == quorum.Yes {
		e = invalid("sloppy=true: listings count owners only; leave it out")
	}
	if e != nil {
		x.fail(e)
		return
	}
	bucket, layout := x.Buckets.Get(x.bucket), x.Node.Layout()
	if layout != nil {
		e = x.params.met(min(bucket.N, len(layout.Members())), bucket)
	}
	if x.sealer = x.Sealer(); e == nil && (x.sealer == nil || layout == nil) {
		e = x.notReady()
	}
	if e != nil {
		x.fail(e)
		return
	}
	ctx, cancel := x.deadline()
	defer cancel()
	page, err := x.Coordinator.List(ctx, x.bucket, quorum.ListOptions{
		Prefix: x.params.prefix, Limit: x.params.limit, Cursor: x.params.cursor, R: x.params.r, Values: x.params.values,
	})
	if err != nil {
		x.failed(err)
		return
	}
	x.json(http.StatusOK)
	x.buf = append(x.buf[:0], `{"keys":[`...)
	for i, key := range page.Keys {
		if i > 0 {
			x.buf = append(x.buf, ',')
		}
		if !x.params.values {
			x.buf = appendKey(x.buf, key)
			continue
		}
		x.buf = append(x.buf, `{"key":`...)
		x.buf = appendKey(x.buf, key)
		x.buf = append(x.buf, `,"context":"`...)
		x.buf = x.sealer.AppendSeal(x.buf, x.bucket, key, page.Objects[i].Context())
		x.buf = append(x.buf, `","values":[`...)
		x.appendValues(page.Objects[i])
		x.buf = append(x.buf, "]}"...)
		x.spill()
	}
	x.buf = append(x.buf, ']')
	if page.Cursor != "" {
		x.buf = append(x.buf, `,"cursor":`...)
		x.buf = appendString(x.buf, page.Cursor)
	}
	x.buf = append(x.buf, "}\n"...)
	x.finish()
}
