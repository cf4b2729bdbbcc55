package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/rondodb/rondo/ring"
)

// meta is what every node tells all others about itself, in at most 512 bytes. Encoded, integers big-endian:
//
//	format 1 byte · flags 1 · weight 2 · expect 2 · partitions 4 · layout version 8 · layout hash 8 · settings hash 8 ·
//	hash of the fresh set seen 8 · process 8 · then name, zone, HTTP address, peer address, version, cluster identity, each
//	with its length before it in 1 byte · padding, likewise
//
// The padding makes messages differ in length: memberlist's queue (v0.7.0) loses one of two messages of equal length where
// their running numbers happen to be equal, as they do when a few nodes change at the same time.
//
// A later format may only append to this; what it appended is skipped here.
type meta struct {
	Flags         uint8
	Weight        uint16
	Expect        uint16
	Partitions    uint32
	LayoutVersion uint64 // 0 = fresh
	LayoutHash    uint64
	SettingsHash  uint64
	FreshSet      uint64 // hash of the ids of the fresh nodes that this one sees, itself included; 0 = not fresh
	Process       uint64 // random, new at each start
	Name, Zone    string
	HTTPAddr      string
	PeerAddr      string
	Version       string
	ClusterID     string // identity of the ring; "" = fresh
}

const (
	metaFormat = 1
	metaFixed  = 1 + 1 + 2 + 2 + 4 + 5*8
)

// Flags of meta.
const (
	flagDraining = 1 << iota // about to stop
	flagLocked               // fresh, and bound by an attempt to form a ring
)

var errMeta = errors.New("malformed node description")

func (m *meta) fresh() bool    { return m.LayoutVersion == 0 }
func (m *meta) draining() bool { return m.Flags&flagDraining != 0 }
func (m *meta) locked() bool   { return m.Flags&flagLocked != 0 }

func (m *meta) set(flag uint8, on bool) {
	m.Flags &^= flag
	if on {
		m.Flags |= flag
	}
}

func (m *meta) texts() [6]*string {
	return [6]*string{&m.Name, &m.Zone, &m.HTTPAddr, &m.PeerAddr, &m.Version, &m.ClusterID}
}

const maxPad = 15

// append encodes m after b, with up to maxPad bytes of padding. The texts must be at most 255 bytes each.
func (m *meta) append(b []byte, pad int) []byte {
	b = append(b, metaFormat, m.Flags)
	b = binary.BigEndian.AppendUint16(b, m.Weight)
	b = binary.BigEndian.AppendUint16(b, m.Expect)
	b = binary.BigEndian.AppendUint32(b, m.Partitions)
	for _, v := range []uint64{m.LayoutVersion, m.LayoutHash, m.SettingsHash, m.FreshSet, m.Process} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, s := range m.texts() {
		b = append(append(b, byte(len(*s))), *s...)
	}
	return append(append(b, byte(pad)), make([]byte, pad)...)
}

// decodeMeta reads what append wrote, and what later formats append to it. It keeps no part of b.
func decodeMeta(b []byte) (meta, error) {
	var m meta
	if len(b) < metaFixed {
		return meta{}, fmt.Errorf("%w: %d bytes", errMeta, len(b))
	}
	format := b[0]
	m.Flags = b[1]
	m.Weight = binary.BigEndian.Uint16(b[2:])
	m.Expect = binary.BigEndian.Uint16(b[4:])
	m.Partitions = binary.BigEndian.Uint32(b[6:])
	for i, v := range []*uint64{&m.LayoutVersion, &m.LayoutHash, &m.SettingsHash, &m.FreshSet, &m.Process} {
		*v = binary.BigEndian.Uint64(b[10+8*i:])
	}
	rest := b[metaFixed:]
	texts, pad := m.texts(), ""
	for _, s := range append(texts[:], &pad) {
		if len(rest) == 0 || len(rest)-1 < int(rest[0]) {
			return meta{}, fmt.Errorf("%w: cut short", errMeta)
		}
		end := 1 + int(rest[0]) // as a byte, 1+255 would be 0
		*s, rest = string(rest[1:end]), rest[end:]
		if !utf8.ValidString(*s) {
			return meta{}, fmt.Errorf("%w: not UTF-8", errMeta)
		}
	}
	switch {
	case format == 0:
		return meta{}, fmt.Errorf("%w: format 0", errMeta)
	case format == metaFormat && len(rest) > 0:
		return meta{}, fmt.Errorf("%w: %d bytes too many", errMeta, len(rest))
	case m.Name == "" || len(m.Name) > ring.MaxName || len(m.Zone) > ring.MaxName || len(m.ClusterID) > ring.MaxName:
		return meta{}, fmt.Errorf("%w: name, zone or cluster identity", errMeta)
	case m.Weight < 1 || m.Weight > ring.MaxWeight || m.Expect < 1:
		return meta{}, fmt.Errorf("%w: weight %d, expect %d", errMeta, m.Weight, m.Expect)
	case (m.LayoutVersion == 0) != (m.ClusterID == ""):
		return meta{}, fmt.Errorf("%w: layout %d of cluster %q", errMeta, m.LayoutVersion, m.ClusterID)
	case checkAddr(m.HTTPAddr) != nil || checkAddr(m.PeerAddr) != nil:
		return meta{}, fmt.Errorf("%w: addresses %q, %q", errMeta, m.HTTPAddr, m.PeerAddr)
	}
	return m, nil
}
