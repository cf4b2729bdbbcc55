package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/rondodb/rondo/ring"
)

// The key spaces, by first byte:
//
//	'd' token(8) bucket 0 name             → digest(8) object
//	'i' partition(2) bucket 0 name         → state(1): the listing index
//	'h' target 0 token(8) bucket 0 name    → time(8) digest(8) object
//	'm' name                               → what PutMeta was given
//	's' name                               → the store's own notes
//
// Numbers are big endian. A bucket never holds a zero byte, so the first one ends it; names are arbitrary bytes.
const (
	spaceData  = 'd'
	spaceIndex = 'i'
	spaceHint  = 'h'
	spaceMeta  = 'm'
	spaceStore = 's'

	digestLen = 8
)

var errBadKey = errors.New("malformed database key")

func appendDataKey(dst []byte, key ring.Key) []byte {
	dst = append(dst, spaceData)
	dst = binary.BigEndian.AppendUint64(dst, key.Token)
	return appendName(dst, key.Bucket, key.Name)
}

func appendIndexKey(dst []byte, partition int, bucket, name string) []byte {
	dst = append(dst, spaceIndex)
	dst = binary.BigEndian.AppendUint16(dst, uint16(partition))
	return appendName(dst, bucket, name)
}

func appendHintKey(dst []byte, target ring.NodeID, key ring.Key) []byte {
	dst = appendHintPrefix(dst, target)
	dst = binary.BigEndian.AppendUint64(dst, key.Token)
	return appendName(dst, key.Bucket, key.Name)
}

func appendHintPrefix(dst []byte, target ring.NodeID) []byte {
	dst = append(dst, spaceHint)
	dst = append(dst, target...)
	return append(dst, 0)
}

func appendName(dst []byte, bucket, name string) []byte {
	dst = append(dst, bucket...)
	dst = append(dst, 0)
	return append(dst, name...)
}

// parseDataKey reads a key of the data space. The strings are copies.
func parseDataKey(k []byte) (ring.Key, error) {
	if len(k) < 1 || k[0] != spaceData {
		return ring.Key{}, fmt.Errorf("%w: %q", errBadKey, k)
	}
	return parseTokenKey(k[1:])
}

// parseHintKey reads a key of the hint space.
func parseHintKey(k []byte) (ring.NodeID, ring.Key, error) {
	end := bytes.IndexByte(k, 0)
	if end < 1 || k[0] != spaceHint {
		return "", ring.Key{}, fmt.Errorf("%w: %q", errBadKey, k)
	}
	key, err := parseTokenKey(k[end+1:])
	return ring.NodeID(k[1:end]), key, err
}

// parseIndexKey reads a key of the index space.
func parseIndexKey(k []byte) (partition int, bucket, name string, err error) {
	if len(k) < 4 || k[0] != spaceIndex {
		return 0, "", "", fmt.Errorf("%w: %q", errBadKey, k)
	}
	end := bytes.IndexByte(k[3:], 0)
	if end < 0 {
		return 0, "", "", fmt.Errorf("%w: %q", errBadKey, k)
	}
	return int(binary.BigEndian.Uint16(k[1:])), string(k[3 : 3+end]), string(k[3+end+1:]), nil
}

func parseTokenKey(k []byte) (ring.Key, error) {
	if len(k) < 9 {
		return ring.Key{}, fmt.Errorf("%w: %q", errBadKey, k)
	}
	end := bytes.IndexByte(k[8:], 0)
	if end < 0 {
		return ring.Key{}, fmt.Errorf("%w: %q", errBadKey, k)
	}
	return ring.Key{Token: binary.BigEndian.Uint64(k), Bucket: string(k[8 : 8+end]), Name: string(k[8+end+1:])}, nil
}

// partitionOf is the partition of a token: its top bits.
func partitionOf(token uint64, partitions int) int {
	return int(token >> (64 - bits.Len(uint(partitions)-1)))
}

// appendValue appends what is stored under a data key: the digest of the object and the object.
func appendValue(dst, object []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, ring.Digest(object))
	return append(dst, object...)
}

// splitValue takes a stored value apart and checks it.
func splitValue(v []byte) (object []byte, digest uint64, err error) {
	if len(v) <= digestLen {
		return nil, 0, fmt.Errorf("%w: value of %d bytes", ErrCorrupt, len(v))
	}
	object, digest = v[digestLen:], binary.BigEndian.Uint64(v)
	if got := ring.Digest(object); got != digest {
		return nil, 0, fmt.Errorf("%w: digest %016x, stored as %016x", ErrCorrupt, got, digest)
	}
	return object, digest, nil
}
