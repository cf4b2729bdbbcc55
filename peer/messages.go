package peer

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/rondodb/rondo/ring"
)

// Op is what a message asks. The numbers are part of the protocol and never change their meaning.
type Op uint8

// The ops. Those that the handler's Call answers have payloads that this package does not look into.
const (
	OpNone       Op = 0 // skipped: a request that was taken back
	OpRead       Op = 1
	OpWrite      Op = 2
	OpCoordinate Op = 3  // Call: coordinate a write
	OpList       Op = 4  // Call: list the keys of a bucket
	OpLayout     Op = 5  // Call: the newest layout
	OpForm       Op = 6  // Call: agree on the first layout
	OpSettings   Op = 7  // Call: bucket settings
	OpPing       Op = 8  // answered by the server itself
	OpRefuse     Op = 9  // the client will not talk to this server; the payload says why
	OpExchange   Op = 10 // Call: anti-entropy, hints, collection of tombstones
	OpStandin    Op = 11 // Call: write to and read from a stand-in
)

// String is the op's name in messages and metrics.
func (o Op) String() string {
	names := [...]string{"none", "read", "write", "coordinate", "list", "layout", "form", "settings", "ping", "refuse", "exchange", "standin"}
	if int(o) < len(names) {
		return names[o]
	}
	return "op " + strconv.Itoa(int(o))
}

// flagsOf are the flags that a request may have. A flag from a later version is refused, never dropped.
func flagsOf(o Op) byte {
	switch o {
	case OpRead:
		return flagDigestOnly
	case OpWrite:
		return flagSync | flagRepair
	}
	return 0
}

// errMessage marks a payload that is not what its op demands.
var errMessage = errors.New("malformed message")

// A key is the lengths of bucket and name, then both. The token is computed again by the receiver.

func keySize(k ring.Key) int { return 2*binary.MaxVarintLen32 + len(k.Bucket) + len(k.Name) }

func appendKey(b []byte, k ring.Key) []byte {
	b = binary.AppendUvarint(b, uint64(len(k.Bucket)))
	b = binary.AppendUvarint(b, uint64(len(k.Name)))
	b = append(b, k.Bucket...)
	return append(b, k.Name...)
}

// takeUvarint reads a number in its shortest form.
func takeUvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 {
		return 0, nil, errMessage
	}
	return n, b[size:], nil
}

// takeKey reads a key and returns what follows it. The key shares no memory with b; it takes one allocation.
func takeKey(b []byte) (k ring.Key, rest []byte, err error) {
	bucket, b, err := takeUvarint(b)
	if err != nil {
		return ring.Key{}, nil, err
	}
	name, b, err := takeUvarint(b)
	if err != nil {
		return ring.Key{}, nil, err
	}
	if bucket > uint64(len(b)) || name > uint64(len(b))-bucket {
		return ring.Key{}, nil, errMessage
	}
	both := string(b[:bucket+name])
	return ring.NewKey(both[:bucket], both[bucket:]), b[bucket+name:], nil
}

// The answer to a read is the digest (8 bytes), the watermark (8 bytes) and the object, which is empty where only the digest was asked for or
// the key was never written.
const readReplyHead = 16

func appendReadReply(b []byte, object []byte, digest, watermark uint64) []byte {
	b = binary.BigEndian.AppendUint64(b, digest)
	b = binary.BigEndian.AppendUint64(b, watermark)
	return append(b, object...)
}

// parseReadReply returns a part of b as the object, nil where there is none.
func parseReadReply(b []byte) (object []byte, digest, watermark uint64, err error) {
	if len(b) < readReplyHead {
		return nil, 0, 0, errMessage
	}
	if len(b) > readReplyHead {
		object = b[readReplyHead:]
	}
	return object, binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), nil
}

// fault is an error as it crosses the wire: outcome (1 byte), 1 where not applied (1 byte), the stale layout's successor
// (8 bytes), text.
type fault struct {
	outcome    byte // index into outcomes
	notApplied bool
	stale      uint64
	text       string
}

// maxFaultText bounds the text of a fault, in bytes. Longer ones are cut.
const maxFaultText = 1 << 10

// outcomes by their number on the wire.
var outcomes = [...]string{OutcomeError, OutcomeTimeout, OutcomeUnreachable, OutcomeOverloaded, OutcomeStale, OutcomeFull}

func appendFault(b []byte, f fault) []byte {
	applied := byte(0)
	if f.notApplied {
		applied = 1
	}
	b = append(b, f.outcome, applied)
	b = binary.BigEndian.AppendUint64(b, f.stale)
	return append(b, cut(f.text, maxFaultText)...)
}

func parseFault(b []byte) (fault, error) {
	if len(b) < 10 || int(b[0]) >= len(outcomes) || b[1] > 1 || len(b)-10 > maxFaultText {
		return fault{}, errMessage
	}
	return fault{outcome: b[0], notApplied: b[1] == 1, stale: binary.BigEndian.Uint64(b[2:]), text: string(b[10:])}, nil
}

// cut shortens s to at most n bytes, not within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
