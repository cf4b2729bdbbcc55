package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/ring"
)

// The protocol versions that this build speaks.
const (
	ProtocolMin = 1
	ProtocolMax = 1
)

// versions is a range of protocol versions, both ends included.
type versions struct{ min, max uint64 }

// hello is the first message of each side, the client's first. Its own format never changes, so that any two versions can
// tell each other why they do not get along: magic (4), length of the rest (4), lowest and highest version (uvarint),
// connection class (1), session (8), cluster, from, to, cluster identity and refusal (uvarint length and bytes each), further
// fields of later versions, checksum (4, over everything before it).
type hello struct {
	versions versions
	class    byte   // which of the client's connections this is
	session  uint64 // the client's number for the pair of connections
	cluster  string // name
	from, to ring.NodeID
	identity string // cluster identity, "" while unknown
	refusal  string // the server's answer: "" = welcome
}

const (
	helloMagic   = "rndo"
	maxHello     = 8 << 10
	maxHelloText = 1 << 10

	classOrdinary = 0
	classLarge    = 1
)

// errHello marks a hello that cannot be read.
var errHello = errors.New("not a rondo peer")

// refusedError is a hello that one side did not like.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

func appendHello(b []byte, h hello) []byte {
	start := len(b)
	b = append(b, helloMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, h.versions.min)
	b = binary.AppendUvarint(b, h.versions.max)
	b = append(b, h.class)
	b = binary.BigEndian.AppendUint64(b, h.session)
	for _, s := range []string{h.cluster, string(h.from), string(h.to), h.identity, h.refusal} {
		s = cut(s, maxHelloText)
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	binary.BigEndian.PutUint32(b[start+4:], uint32(len(b)-start-8+checksumSize))
	return binary.BigEndian.AppendUint32(b, uint32(ring.Digest(b[start:])))
}

// readHello takes exactly one hello from r.
func readHello(r io.Reader) (hello, error) {
	raw := make([]byte, 8, 256)
	if _, err := io.ReadFull(r, raw); err != nil {
		return hello{}, err
	}
	if string(raw[:4]) != helloMagic {
		return hello{}, errHello
	}
	n := binary.BigEndian.Uint32(raw[4:])
	if n < checksumSize || n > maxHello {
		return hello{}, errHello
	}
	var rest bytes.Buffer
	if _, err := io.CopyN(&rest, r, int64(n)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return hello{}, err
	}
	return parseHello(append(raw, rest.Bytes()...))
}

func parseHello(raw []byte) (h hello, err error) {
	if len(raw) < 8+checksumSize || string(raw[:4]) != helloMagic || uint64(binary.BigEndian.Uint32(raw[4:])) != uint64(len(raw)-8) {
		return hello{}, errHello
	}
	body := raw[:len(raw)-checksumSize]
	if binary.BigEndian.Uint32(raw[len(body):]) != uint32(ring.Digest(body)) {
		return hello{}, errHello
	}
	b := body[8:]
	if h.versions.min, b, err = takeUvarint(b); err != nil {
		return hello{}, errHello
	}
	if h.versions.max, b, err = takeUvarint(b); err != nil || len(b) < 9 {
		return hello{}, errHello
	}
	h.class, h.session, b = b[0], binary.BigEndian.Uint64(b[1:]), b[9:]
	var texts [5]string
	for i := range texts {
		n, rest, err := takeUvarint(b)
		if err != nil || n > uint64(len(rest)) || n > maxHelloText {
			return hello{}, errHello
		}
		texts[i], b = strings.ToValidUTF8(string(rest[:n]), "?"), rest[n:]
	}
	h.cluster, h.from, h.to, h.identity, h.refusal = texts[0], ring.NodeID(texts[1]), ring.NodeID(texts[2]), texts[3], texts[4]
	return h, nil
}

// agree checks the other side's hello against this side's and returns the version to speak. want is the node that the other
// side must be, "" where anyone may come. The error is a *refusedError; its text is written for the people on both sides.
func agree(mine, theirs hello, want ring.NodeID) (version uint64, err error) {
	refuse := func(format string, args ...any) (uint64, error) {
		return 0, &refusedError{fmt.Sprintf("node %s refuses node %s: ", mine.from, theirs.from) + fmt.Sprintf(format, args...)}
	}
	version = min(mine.versions.max, theirs.versions.max)
	switch {
	case version < mine.versions.min || version < theirs.versions.min:
		return refuse("it speaks protocol versions %d to %d, not %d to %d", theirs.versions.min, theirs.versions.max, mine.versions.min, mine.versions.max)
	case mine.cluster != theirs.cluster:
		return refuse("it belongs to cluster %q, not %q", theirs.cluster, mine.cluster)
	case mine.identity != "" && theirs.identity != "" && mine.identity != theirs.identity && !plant.On(plant.ForeignPeer):
		return refuse("it belongs to another cluster of the same name (identity %s, not %s)", theirs.identity, mine.identity)
	case theirs.from == "":
		return refuse("it has no node id")
	case want != "" && theirs.from != want:
		return refuse("node %s was expected at this address", want)
	case theirs.to != "" && theirs.to != mine.from:
		return refuse("it looks for node %s at this address", theirs.to)
	}
	return version, nil
}
