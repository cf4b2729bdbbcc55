package load

import (
	"math/rand/v2"
	"strconv"
)

const (
	keyDigits = 12 // of the number in each key, so that requests have one length
	stampSize = 16 // hex digits at a fixed place in each value that make it a new one
	jsonHead  = `{"stamp":"`
	jsonMid   = `","data":"`
	jsonTail  = `"}`
	minJSON   = len(jsonHead) + stampSize + len(jsonMid) + len(jsonTail)
)

// requests holds one read and one write, rendered; a connection changes only the key's digits and the value's stamp.
// Not safe for concurrent use: each connection has its own.
type requests struct {
	get, put       []byte
	getKey, putKey int // where the digits of the key are
	stamp          int // where the stamp of the value is
	json           bool
	rand           *rand.Rand
}

func newRequests(c *Config, t target, r *rand.Rand) *requests {
	q := &requests{json: c.Content == JSON, rand: r}
	line := func(method string) ([]byte, int) {
		b := append([]byte(nil), method+" "+t.base+"/v1/kv/"+c.Bucket+"/"+c.Prefix...)
		at := len(b)
		b = append(b, "000000000000"[:keyDigits]...)
		if c.Query != "" {
			b = append(b, '?')
			b = append(b, c.Query...)
		}
		b = append(b, " HTTP/1.1\r\nHost: "...)
		b = append(b, t.host...)
		return append(b, "\r\n"...), at
	}
	q.get, q.getKey = line("GET")
	q.get = append(q.get, "\r\n"...)
	q.put, q.putKey = line("PUT")
	kind := "application/json"
	if !q.json {
		kind = "application/octet-stream"
	}
	q.put = append(q.put, "Content-Type: "+kind+"\r\nContent-Length: "+strconv.Itoa(c.ValueSize)+"\r\n\r\n"...)
	body := len(q.put)
	if q.json {
		q.put = append(q.put, jsonHead...)
		q.stamp = len(q.put)
		q.put = append(q.put, make([]byte, stampSize)...)
		q.put = append(q.put, jsonMid...)
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		for len(q.put) < body+c.ValueSize-len(jsonTail) {
			q.put = append(q.put, letters[r.Uint32()%64]) // base64 text: compresses as badly as JSON does
		}
		q.put = append(q.put, jsonTail...)
		return q
	}
	q.stamp = body
	for len(q.put) < body+c.ValueSize {
		q.put = append(q.put, byte(r.Uint32()))
	}
	return q
}

// read renders the read of a key. The bytes are valid until the next read.
func (q *requests) read(key uint64) []byte {
	digits(q.get[q.getKey:q.getKey+keyDigits], key)
	return q.get
}

// write renders the write of a new value. The bytes are valid until the next write.
func (q *requests) write(key uint64) []byte {
	digits(q.put[q.putKey:q.putKey+keyDigits], key)
	const hex = "0123456789abcdef"
	n := q.rand.Uint64()
	for i := range stampSize {
		q.put[q.stamp+i] = hex[n&15]
		n >>= 4
	}
	return q.put
}

// digits writes n into b with leading zeros.
func digits(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}
