package httpapi

import (
	"net/http"
	"strconv"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// explain answers where a key lives, and what each replica holds now.
func (x *exchange) explain() {
	var e *quorum.Error
	var hasKey bool
	x.bucket, x.key, hasKey, e = splitKey(x.r.URL, explainPrefix)
	if e == nil && !hasKey {
		x.notFound()
		return
	}
	if e == nil {
		e = checkKey(x.key)
	}
	if e == nil {
		e = x.params.parse(x.r.URL.RawQuery, explainParams)
	}
	if e == nil && x.Node.Layout() == nil {
		e = x.notReady()
	}
	if e != nil {
		x.fail(e)
		return
	}
	ctx, cancel := x.deadline()
	defer cancel()
	a, err := x.Coordinator.Explain(ctx, ring.NewKey(x.bucket, x.key))
	if err != nil {
		x.failed(err)
		return
	}
	x.json(http.StatusOK)
	x.buf = append(x.buf[:0], `{"bucket":"`...)
	x.buf = append(x.buf, x.bucket...)
	x.buf = append(x.buf, `","key":`...)
	x.buf = appendKey(x.buf, x.key)
	x.buf = appendInt(x.buf, `,"partition":`, a.Partition)
	x.buf = append(x.buf, `,"token":"`...)
	x.buf = appendHex(x.buf, a.Token)
	x.buf = append(x.buf, `","ring":`...)
	x.buf = strconv.AppendUint(x.buf, a.Ring, 10)
	x.buf = appendInt(x.buf, `,"n":`, min(a.Bucket.N, len(a.Preference)))
	x.buf = append(x.buf, `,"settings":`...)
	x.buf = appendSettings(x.buf, a.Bucket)
	x.buf = append(x.buf, `,"preference":[`...)
	for i, name := range a.Preference {
		if i > 0 {
			x.buf = append(x.buf, ',')
		}
		x.buf = appendString(x.buf, name)
	}
	x.buf = append(x.buf, `],"replicas":[`...)
	for i := range a.Replicas {
		if i > 0 {
			x.buf = append(x.buf, ',')
		}
		x.appendReplica(&a.Replicas[i])
	}
	x.buf = append(x.buf, "]}\n"...)
	x.finish()
}

// appendReplica appends what one replica holds. Digests are equal exactly where the stored objects are; a replica that did
// not answer has none.
func (x *exchange) appendReplica(r *quorum.ReplicaState) {
	x.buf = append(x.buf, `{"node":`...)
	x.buf = appendString(x.buf, r.Node)
	x.buf = append(x.buf, `,"zone":`...)
	x.buf = appendString(x.buf, r.Zone)
	x.buf = append(x.buf, `,"role":`...)
	x.buf = appendString(x.buf, r.Role)
	x.buf = appendBool(x.buf, `,"ok":`, r.OK)
	x.buf = appendBool(x.buf, `,"found":`, r.Found)
	x.buf = append(x.buf, `,"values":[`...)
	x.appendValues(r.Object)
	x.buf = appendInt(x.buf, `],"tombstones":`, len(r.Object.Siblings)-r.Object.Values())
	x.buf = append(x.buf, `,"clock":`...)
	x.buf = appendClock(x.buf, r.Object.Clock)
	x.buf = append(x.buf, `,"digest":"`...)
	if r.OK {
		x.buf = appendHex(x.buf, r.Digest)
	}
	x.buf = appendBool(x.buf, `","hint":`, r.Hint)
	x.buf = append(x.buf, `,"ms":`...)
	x.buf = appendMillis(x.buf, r.Took)
	x.buf = append(x.buf, `,"error":`...)
	x.buf = appendString(x.buf, r.Error)
	x.buf = append(x.buf, '}')
	x.spill()
}

// appendClock appends a clock's entries: all versions up to one of an actor, or single versions beyond a gap.
func appendClock(dst []byte, c vclock.Clock) []byte {
	dst = append(dst, '[')
	first := true
	c.Dots(func(d vclock.Dot, contiguous bool) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"version":"`...)
		dst = appendVersion(dst, d)
		dst = appendBool(dst, `","contiguous":`, contiguous)
		dst = append(dst, '}')
		return true
	})
	return append(dst, ']')
}
