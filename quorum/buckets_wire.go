package quorum

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/ring"
)

// bucketEntry is what the registry knows of one bucket: a register that the newest write wins, by time, then by node.
type bucketEntry struct {
	deleted  bool // back to the defaults; settings are DefaultBucket
	settings Bucket
	time     uint64 // hybrid logical, nanoseconds since 1970
	node     ring.NodeID
}

// newer tells whether a replaces b. It is a total order on different entries, so that all nodes settle on the same.
func (a bucketEntry) newer(b bucketEntry) bool {
	if c := cmp.Compare(a.time, b.time); c != 0 {
		return c > 0
	}
	if c := cmp.Compare(a.node, b.node); c != 0 {
		return c > 0
	}
	return bytes.Compare(a.append(nil), b.append(nil)) > 0
}

const (
	bucketsMost = 16 << 10 // entries that a registry holds at most, deleted ones included
	bucketName  = 128      // bytes of a bucket's name

	bucketDeleted = 1
	bucketSloppy  = 2
	bucketLWW     = 4
	bucketTTL     = 8 // a ttl follows
)

func (a bucketEntry) append(b []byte) []byte {
	w := writer{b}
	var flags byte
	if a.deleted {
		flags |= bucketDeleted
	}
	if a.settings.Sloppy {
		flags |= bucketSloppy
	}
	if a.settings.LWW {
		flags |= bucketLWW
	}
	if a.settings.TTL != 0 {
		flags |= bucketTTL
	}
	w.byte(flags)
	w.byte(byte(a.settings.N))
	w.byte(byte(a.settings.R))
	w.byte(byte(a.settings.W))
	w.byte(byte(a.settings.DW))
	w.fixed(a.time)
	w.text(string(a.node))
	if a.settings.TTL != 0 {
		w.number(uint64(a.settings.TTL))
	}
	return w.b
}

// encodeBuckets is the canonical form: equal registries have equal bytes.
//
//	version, number of entries, then by name: name, flags, n, r, w, dw (one byte each), time, node, ttl in nanoseconds where flagged
func encodeBuckets(entries map[string]bucketEntry) []byte {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	var w writer
	w.byte(wireVersion)
	w.number(uint64(len(names)))
	for _, name := range names {
		w.text(name)
		w.b = entries[name].append(w.b)
	}
	return w.b
}

func decodeBuckets(b []byte) (map[string]bucketEntry, error) {
	r := scanner{b: b}
	r.version(wireVersion)
	n := r.count(15)
	if n > bucketsMost {
		r.fail("too many buckets")
		n = 0
	}
	entries := make(map[string]bucketEntry, n)
	last := ""
	for i := range n {
		name := r.text()
		flags := r.byte()
		e := bucketEntry{
			deleted:  flags&bucketDeleted != 0,
			settings: Bucket{N: int(r.byte()), R: r.level(), W: r.level(), DW: r.level(), Sloppy: flags&bucketSloppy != 0, LWW: flags&bucketLWW != 0},
			time:     r.fixed(),
		}
		e.node = ring.NodeID(r.text())
		if flags&bucketTTL != 0 {
			e.settings.TTL = time.Duration(r.small(int(MaxTTL)))
		}
		switch {
		case r.err != nil:
			return nil, r.err
		case len(name) > bucketName || i > 0 && strings.Compare(name, last) <= 0:
			r.fail("bucket names out of order")
		case e.time > latestTime:
			r.fail("time of a change after the year 2250")
		case flags >= bucketTTL<<1:
			r.fail("unknown flags")
		case flags&bucketTTL != 0 && e.settings.TTL == 0:
			r.fail("ttl of nothing")
		case e.deleted && e.settings != DefaultBucket:
			r.fail("deleted bucket with settings")
		default:
			if err := e.settings.check(); err != nil {
				r.fail(err.Error())
			}
		}
		entries[name], last = e, name
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return entries, nil
}

// check says what is wrong with settings, with the arithmetic.
func (b Bucket) check() error {
	if b.N < 1 || b.N > MaxN {
		return fmt.Errorf("n=%d is not between 1 and %d", b.N, MaxN)
	}
	for _, l := range []struct {
		name  string
		level Level
	}{{"r", b.R}, {"w", b.W}, {"dw", b.DW}} {
		switch k := l.level.Count(b.N); {
		case l.level == Unset:
			return fmt.Errorf("%s is not set", l.name)
		case l.level == None && l.name != "dw":
			return fmt.Errorf("%s must be at least 1", l.name)
		case k > b.N:
			return fmt.Errorf("%s=%v is more than n=%d", l.name, l.level, b.N)
		}
	}
	if dw, w := b.DW.Count(b.N), b.W.Count(b.N); dw > w {
		return fmt.Errorf("dw=%v (%d of n=%d) is more than w=%v (%d): only acknowledged writes can be counted as synced", b.DW, dw, b.N, b.W, w)
	}
	if b.TTL != 0 {
		return checkTTL(b.TTL)
	}
	return nil
}
