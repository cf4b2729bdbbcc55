package vclock

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// MaxToken is the longest token a client may send, in bytes (its base64url text).
const MaxToken = 4096

// ErrToken marks a client token that is malformed, cut, altered, or that belongs to another key or another cluster. It
// is never to be taken for "no context": that would make siblings of what the client meant to replace.
var ErrToken = errors.New("not a context of this key in this cluster")

// Layout of a token, before base64url: version, time (8 bytes, big endian), clock, checksum.
const (
	tokenVersion = 1
	tokenSum     = 8
	tokenClock   = MaxToken/4*3 - 1 - 8 - tokenSum // the most bytes that the clock may take
	countBytes   = 2                               // of a number of clock entries that can fit

	// maxCounter is beyond what any store can count to. A token that claims more could make a counter wrap around.
	maxCounter = 1 << 62
)

// Sealer turns contexts into the opaque tokens that clients carry, and back. A token holds a checksum keyed by the
// cluster, the bucket and the key. It guards against accident and mistake, not forgery: the key is the cluster's identity,
// and what a token says is no secret. Immutable; safe for concurrent use.
type Sealer struct {
	cluster [sha256.Size]byte
	text    *base64.Encoding
}

// NewSealer makes the sealer of the cluster with this identity.
func NewSealer(cluster string) *Sealer {
	return &Sealer{
		cluster: sha256.Sum256([]byte("rondo context\x00" + cluster)),
		text:    base64.RawURLEncoding.Strict(), // one token, one text: padding bits must be 0
	}
}

// Seal encodes a context as the base64url token of one key. Contexts made by Object.Context and Context.With give at most
// MaxToken bytes. A larger one gives a longer token, which Open refuses.
func (s *Sealer) Seal(bucket, key string, c Context) string {
	var space [384]byte
	return string(s.AppendSeal(space[:0], bucket, key, c))
}

// AppendSeal appends the token that Seal returns to dst. It does not allocate where dst has the room.
func (s *Sealer) AppendSeal(dst []byte, bucket, key string, c Context) []byte {
	var space [256]byte
	body := append(space[:0], tokenVersion)
	body = binary.BigEndian.AppendUint64(body, c.Time)
	body = appendClock(body, c.Clock)
	sum := s.sum(bucket, key, body)
	return s.text.AppendEncode(dst, append(body, sum[:tokenSum]...))
}

// Open decodes a token that Seal made for the same key. Every failure is ErrToken.
func (s *Sealer) Open(bucket, key, token string) (Context, error) {
	// The decoder would skip line breaks, and so take two texts for one token.
	if len(token) > MaxToken || strings.IndexByte(token, '\r') >= 0 || strings.IndexByte(token, '\n') >= 0 {
		return Context{}, ErrToken
	}
	b, err := s.text.DecodeString(token)
	if err != nil || len(b) < 1+8+tokenSum {
		return Context{}, ErrToken
	}
	body := b[:len(b)-tokenSum]
	sum := s.sum(bucket, key, body)
	if subtle.ConstantTimeCompare(sum[:tokenSum], b[len(body):]) != 1 {
		return Context{}, ErrToken
	}
	r := reader{b: body}
	if r.byte() != tokenVersion {
		return Context{}, ErrToken
	}
	c := Context{Time: r.uint64(), Clock: r.clock()}
	if r.err != nil || len(r.b) != 0 || c.Clock.highest() > maxCounter {
		return Context{}, ErrToken
	}
	return c, nil
}

// sum hashes the cluster's key, the lengths and bytes of bucket and key, and the body. It is cut to tokenSum bytes, so that
// extending a message tells nothing.
func (s *Sealer) sum(bucket, key string, body []byte) [sha256.Size]byte {
	var space [1024]byte
	m := append(space[:0], s.cluster[:]...)
	m = binary.AppendUvarint(m, uint64(len(bucket)))
	m = append(m, bucket...)
	m = binary.AppendUvarint(m, uint64(len(key)))
	m = append(m, key...)
	m = append(m, body...)
	return sha256.Sum256(m)
}
