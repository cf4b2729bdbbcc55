package httpapi

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rondodb/rondo/quorum"
)

// param is a query parameter; sets of them are bits.
type param uint32

const (
	paramR param = 1 << iota
	paramW
	paramDW
	paramSloppy
	paramConsistency
	paramTimeout
	paramContext
	paramRaw
	paramReceipt
	paramReturn
	paramPrefix
	paramLimit
	paramCursor
	paramValues
	paramN
	paramTTL
	paramPartition
	paramMerkle

	keyParams     = paramR | paramW | paramDW | paramSloppy | paramConsistency | paramTimeout | paramContext | paramRaw | paramReceipt | paramReturn | paramTTL
	listParams    = paramR | paramSloppy | paramConsistency | paramTimeout | paramPrefix | paramLimit | paramCursor | paramValues
	explainParams = paramTimeout
	bucketParams  = paramTimeout
	ringParams    = paramN
	nodeParams    = paramMerkle
	repairParams  = paramPartition
)

// paramNames in the order of the constants.
var paramNames = [...]string{
	"r", "w", "dw", "sloppy", "consistency", "timeout", "context", "raw", "receipt", "return", "prefix", "limit", "cursor", "values", "n",
	"ttl", "partition", "merkle",
}

func paramOf(name string) param {
	for i, n := range paramNames {
		if n == name {
			return 1 << i
		}
	}
	return 0
}

// names lists a set of parameters, for people.
func (p param) names() string {
	var out []string
	for i, n := range paramNames {
		if p&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return "none here"
	}
	return strings.Join(out, ", ")
}

// params is a parsed query.
type params struct {
	seen     param
	r, w, dw quorum.Level
	preset   quorum.Level // of consistency
	timeout  time.Duration
	context  string
	raw      bool
	full     bool // receipt=full
	value    bool // return=value
	prefix   string
	limit    int
	cursor   string
	values   bool
	n        int

	sloppy    quorum.Choice
	ttl       time.Duration // 0 = the bucket's, negative = never expires
	partition int           // negative = all
	merkle    bool
}

// parse reads a query. Every parameter may come once; unknown ones are errors. It allocates only for what is percent-encoded.
func (p *params) parse(query string, allowed param) *quorum.Error {
	*p = params{timeout: defaultTimeout, limit: 100, n: quorum.DefaultBucket.N, partition: -1}
	for query != "" {
		var piece string
		piece, query, _ = strings.Cut(query, "&")
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		name, err := decodeQuery(name)
		if err == nil {
			value, err = decodeQuery(value)
		}
		if err != nil {
			return invalid("the query is not percent-encoded correctly: %v", err)
		}
		id := paramOf(name)
		switch {
		case id&allowed == 0:
			return invalid("unknown parameter %s; known are: %s", quoted(name), allowed.names())
		case id&p.seen != 0:
			return invalid("the parameter %s is there twice", name)
		}
		p.seen |= id
		if e := p.set(id, name, value); e != nil {
			return e
		}
	}
	if p.r == quorum.Unset {
		p.r = p.preset
	}
	if p.w == quorum.Unset {
		p.w = p.preset
	}
	return nil
}

func (p *params) set(id param, name, value string) *quorum.Error {
	var e *quorum.Error
	switch id {
	case paramR:
		p.r, e = parseLevel(name, value, false)
	case paramW:
		p.w, e = parseLevel(name, value, false)
	case paramDW:
		p.dw, e = parseLevel(name, value, true)
	case paramSloppy:
		var sloppy bool
		if sloppy, e = parseBool(name, value); sloppy {
			p.sloppy = quorum.Yes
		} else {
			p.sloppy = quorum.No
		}
	case paramTTL:
		if p.ttl, e = parseTTL(value); p.ttl == 0 {
			p.ttl = -1
		}
	case paramConsistency:
		switch value {
		case "one", "quorum", "all":
			p.preset, e = parseLevel(name, value, false)
		default:
			return invalid("consistency=%s: use one, quorum or all", quoted(value))
		}
	case paramTimeout:
		d, err := time.ParseDuration(value)
		if err != nil || d < minTimeout || d > maxTimeout {
			return invalid("timeout=%s: use a duration from 1ms to 60s, such as 300ms or 5s", quoted(value))
		}
		p.timeout = d
	case paramContext:
		p.context = value
	case paramRaw:
		p.raw, e = parseBool(name, value)
	case paramReceipt:
		if p.full = value == "full"; !p.full {
			return invalid("receipt=%s: the only value is full", quoted(value))
		}
	case paramReturn:
		if p.value = value == "value"; !p.value {
			return invalid("return=%s: the only value is value", quoted(value))
		}
	case paramPrefix:
		if p.prefix = value; len(value) > maxKey {
			return invalid("a prefix has at most %d bytes, as keys do; this one has %d", maxKey, len(value))
		}
	case paramLimit:
		if value != "" {
			p.limit, e = parseNumber(name, value, 1000)
		}
	case paramCursor:
		p.cursor = value
	case paramValues:
		p.values, e = parseBool(name, value)
	case paramN:
		p.n, e = parseNumber(name, value, quorum.MaxN)
	case paramPartition:
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || value != strconv.Itoa(n) {
			return invalid("partition=%s: use the number of a partition, from 0 on", quoted(value))
		}
		p.partition = n
	case paramMerkle:
		p.merkle, e = parseBool(name, value)
	}
	return e
}

func parseLevel(name, value string, zero bool) (quorum.Level, *quorum.Error) {
	l, err := quorum.ParseLevel(value, zero)
	if err != nil {
		low := "1"
		if zero {
			low = "0"
		}
		return 0, invalid("%s=%s is not a replica count: use %s to %d, one, quorum or all", name, quoted(value), low, quorum.MaxN)
	}
	return l, nil
}

func parseBool(name, value string) (bool, *quorum.Error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid("%s=%s: use true or false", name, quoted(value))
}

func parseNumber(name, value string, most int) (int, *quorum.Error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most || value != strconv.Itoa(n) {
		return 0, invalid("%s=%s: use a number from 1 to %d", name, quoted(value), most)
	}
	return n, nil
}

// parseTTL reads how long values live; 0 = they never expire.
func parseTTL(value string) (time.Duration, *quorum.Error) {
	d, err := time.ParseDuration(value)
	if err != nil || d != 0 && (d < quorum.MinTTL || d > quorum.MaxTTL) {
		return 0, invalid("ttl=%s: use a duration from %s to %s, such as 90s or 24h, or 0 for values that never expire",
			quoted(value), durationText(quorum.MinTTL), durationText(quorum.MaxTTL))
	}
	return d, nil
}

// durationText is a duration without the zeros that Go ends it with: 24h, not 24h0m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func decodeQuery(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}

// notYet is the error for what the API describes and this release does not have.
func notYet(what string) *quorum.Error { return invalid("not yet: %s", what) }

// met checks that the replica counts can be met with n replicas, those that the operation does not use included. The
// write count is the request's, or the bucket's.
func (p *params) met(n int, bucket quorum.Bucket) *quorum.Error {
	because := ""
	if n < bucket.N {
		because = " (the bucket's n is " + strconv.Itoa(bucket.N) + ", but the ring has fewer members)"
	}
	for _, c := range [...]struct {
		name  string
		level quorum.Level
	}{{"r", p.r}, {"w", p.w}, {"dw", p.dw}} {
		if k := c.level.Count(n); c.level != quorum.Unset && k > n {
			e := invalid("%s=%v cannot be met: %d > n=%d%s", c.name, c.level, k, n, because)
			e.N, e.Required = n, k
			return e
		}
	}
	if p.dw == quorum.Unset {
		return nil // lowered to w where it is more
	}
	w, whose := p.w, "w"
	if w == quorum.Unset {
		w, whose = bucket.W, "the bucket's w"
	}
	if dw, w := p.dw.Count(n), w.Count(n); dw > w {
		e := invalid("dw=%v cannot be met: %d > %d, which is %s: only acknowledged writes can be counted as synced", p.dw, dw, w, whose)
		e.N, e.Required = n, w
		return e
	}
	return nil
}
