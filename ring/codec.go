package ring

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// An encoded layout, integers big-endian and of fixed size, so that there is one encoding of each layout:
//
//	format 1 byte · version 8 · partitions 4 · members 2 · cluster (length 1, bytes)
//	each member, by id: id 16 · weight 2 · name (length 1, bytes) · zone (length 1, bytes)
//	owners' table: partitions × min(tableDepth, members) member indexes of 2 bytes each, or 1 byte with up to 256 members
//	hash of all of this 8
const (
	formatOne   = 1
	hashBytes   = 8
	headBytes   = 1 + 8 + 4 + 2 + 1
	memberBytes = idDigits/2 + 2 + 1 + 1 // at least
	maxEncoded  = headBytes + MaxName + MaxMembers*(memberBytes+2*MaxName) + 2*tableDepth*MaxPartitions + hashBytes
)

// ErrEncoding is why Decode refuses bytes, beside the limits of this package.
var ErrEncoding = errors.New("not an encoded layout")

// Encode is the layout in bytes; equal layouts have equal encodings. The caller owns the result.
func (l *Layout) Encode() []byte { return bytes.Clone(l.encoded) }

func (l *Layout) encode() []byte {
	b := make([]byte, 0, headBytes+MaxName+len(l.members)*(memberBytes+2*MaxName)+2*len(l.table.owner)+hashBytes)
	b = append(b, formatOne)
	b = binary.BigEndian.AppendUint64(b, l.version)
	b = binary.BigEndian.AppendUint32(b, uint32(l.partitions))
	b = binary.BigEndian.AppendUint16(b, uint16(len(l.members)))
	b = appendText(b, l.cluster)
	for _, m := range l.members {
		id := rawID(m.ID)
		b = append(b, id[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(m.Weight))
		b = appendText(b, m.Name)
		b = appendText(b, m.Zone)
	}
	for _, m := range l.table.owner {
		if len(l.members) <= 256 {
			b = append(b, byte(m))
		} else {
			b = binary.BigEndian.AppendUint16(b, uint16(m))
		}
	}
	return binary.BigEndian.AppendUint64(b, Digest(b))
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// rawID is the 128 bits of a valid id.
func rawID(id NodeID) (raw [idDigits / 2]byte) {
	if _, err := hex.Decode(raw[:], []byte(id)); err != nil {
		panic("ring: node id was not checked: " + err.Error())
	}
	return raw
}

// Decode reads an encoded layout and checks all of it: limits, hash, that the table keeps different members in different
// zones, and that it is the one encoding of this layout. It keeps no part of b. What it allocates is bounded: about
// 16 bytes for each of at most MaxSlots slots, and nothing of that before the hash was found right.
func Decode(b []byte) (*Layout, error) {
	l, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("decode layout: %w", err)
	}
	return l, nil
}

func decode(b []byte) (*Layout, error) {
	if len(b) < headBytes+memberBytes+hashBytes || len(b) > maxEncoded {
		return nil, fmt.Errorf("%w: %d bytes", ErrEncoding, len(b))
	}
	if b[0] != formatOne {
		return nil, fmt.Errorf("%w: format %d, this version reads %d", ErrEncoding, b[0], formatOne)
	}
	body := b[:len(b)-hashBytes]
	if got, want := binary.BigEndian.Uint64(b[len(body):]), Digest(body); got != want {
		return nil, fmt.Errorf("%w: its hash is %016x, its content has %016x", ErrEncoding, got, want)
	}
	r := reader{rest: body[1:]}
	l := &Layout{version: r.uint64(), partitions: int(r.uint32())}
	count := int(r.uint16())
	l.cluster = r.text()
	if count*memberBytes > len(r.rest) {
		return nil, fmt.Errorf("%w: too short for %d members", ErrEncoding, count)
	}
	members := make([]Member, 0, count)
	for range count {
		members = append(members, r.member())
	}
	if r.short || l.version == 0 {
		return nil, fmt.Errorf("%w: too short, or version 0", ErrEncoding)
	}
	if err := l.setMembers(members); err != nil {
		return nil, err
	}
	if err := l.readTable(r.rest); err != nil {
		return nil, err
	}
	l.finish()
	if !bytes.Equal(l.encoded, b) { // members out of order
		return nil, fmt.Errorf("%w: not the canonical encoding", ErrEncoding)
	}
	return l, nil
}

// readTable reads and checks the owners' table.
func (l *Layout) readTable(b []byte) error {
	width := 1
	if len(l.members) > 256 {
		width = 2
	}
	depth := min(tableDepth, len(l.members))
	if len(b) != l.partitions*depth*width {
		return fmt.Errorf("%w: owners' table of %d bytes, want %d", ErrEncoding, len(b), l.partitions*depth*width)
	}
	l.table = table{depth: depth, owner: make([]int16, l.partitions*depth)}
	for i := range l.table.owner {
		m := int(b[i*width])
		if width == 2 {
			m = m<<8 | int(b[i*width+1])
		}
		if m >= len(l.members) {
			return fmt.Errorf("%w: partition %d is owned by member %d of %d", ErrEncoding, i/depth, m, len(l.members))
		}
		l.table.owner[i] = int16(m)
	}
	zone, zones := zonesOf(l.members)
	for p := range l.partitions {
		row := l.table.row(p)
		for k := range row {
			if spread(row[:k+1], zone) != min(k+1, zones) {
				return fmt.Errorf("%w: the owners of partition %d are in fewer zones than they could be", ErrEncoding, p)
			}
			for _, m := range row[:k] {
				if m == row[k] {
					return fmt.Errorf("%w: partition %d has the same owner twice", ErrEncoding, p)
				}
			}
		}
	}
	return nil
}

// reader takes fields off the front; short is set where there was too little, and zeros come from then on.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.rest) {
		r.short = true
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) text() string   { return string(r.take(int(r.take(1)[0]))) }

func (r *reader) member() Member {
	m := Member{ID: NodeID(hex.EncodeToString(r.take(idDigits / 2)))}
	m.Weight = int(r.uint16())
	m.Name = r.text()
	m.Zone = r.text()
	return m
}
