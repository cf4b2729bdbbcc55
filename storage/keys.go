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
//	'd' token(8) bucket 0 name              → digest(8) object
//	'i' partition(2) bucket 0 name          → state(1), or with expiries: the listing index (indexEntry)
//	't' partition(2) n(1) leaf(4)           → hash(8): the Merkle trees' leaves that are not empty
//	't' partition(2) 0(1)                   → generation(8) in which the partition's trees were last computed from its objects
//	'x' partition(2) n(1) at(8) bucket 0 name → nothing: objects that can be collected some day, by the time from which they can
//	'h' target 0 token(8) bucket 0 name     → time(8) digest(8) object
//	'm' name                                → what PutMeta was given
//	's' name                                → the store's own notes
//
// Numbers are big endian. A bucket never holds a zero byte, so the first one ends it; names are arbitrary bytes.
const (
	spaceData  = 'd'
	spaceIndex = 'i'
	spaceTree  = 't'
	spaceDue   = 'x'
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

// appendClass begins the keys of a class in the spaces of trees and of what can be collected.
func appendClass(dst []byte, space byte, c ring.Class) []byte {
	return append(appendPartition(dst, space, c.Partition), byte(c.N))
}

// The prefixes of a partition's records.
func appendIndexPrefix(dst []byte, partition int) []byte {
	return appendPartition(dst, spaceIndex, partition)
}

func appendTreePrefix(dst []byte, partition int) []byte {
	return appendPartition(dst, spaceTree, partition)
}

func appendDuePrefix(dst []byte, partition int) []byte {
	return appendPartition(dst, spaceDue, partition)
}

func appendPartition(dst []byte, space byte, partition int) []byte {
	return binary.BigEndian.AppendUint16(append(dst, space), uint16(partition))
}

func appendLeafKey(dst []byte, c ring.Class, leaf int) []byte {
	return binary.BigEndian.AppendUint32(appendClass(dst, spaceTree, c), uint32(leaf))
}

// appendStampKey is the key of a partition's generation: no class has the replica count 0.
func appendStampKey(dst []byte, partition int) []byte {
	return appendClass(dst, spaceTree, ring.Class{Partition: partition})
}

func appendDueKey(dst []byte, c ring.Class, at uint64, bucket, name string) []byte {
	return appendName(appendDueTime(dst, c, at), bucket, name)
}

// appendDueTime is where the keys of a class begin that can be collected from this time on.
func appendDueTime(dst []byte, c ring.Class, at uint64) []byte {
	return binary.BigEndian.AppendUint64(appendClass(dst, spaceDue, c), at)
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

// parseClass reads the class off a key of the spaces of trees and of what can be collected, and returns what follows it.
func parseClass(k []byte) (c ring.Class, rest []byte, err error) {
	if len(k) < 4 || k[3] > maxReplicas {
		return ring.Class{}, nil, fmt.Errorf("%w: %q", errBadKey, k)
	}
	return ring.Class{Partition: int(binary.BigEndian.Uint16(k[1:])), N: int(k[3])}, k[4:], nil
}

// parseDueKey reads a key of the space of what can be collected.
func parseDueKey(k []byte) (c ring.Class, at uint64, bucket, name string, err error) {
	c, rest, err := parseClass(k)
	if err != nil || k[0] != spaceDue || len(rest) < 9 {
		return ring.Class{}, 0, "", "", fmt.Errorf("%w: %q", errBadKey, k)
	}
	at, rest = binary.BigEndian.Uint64(rest), rest[8:]
	end := bytes.IndexByte(rest, 0)
	if end < 0 {
		return ring.Class{}, 0, "", "", fmt.Errorf("%w: %q", errBadKey, k)
	}
	return c, at, string(rest[:end]), string(rest[end+1:]), nil
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
