package verify

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"strconv"

	"github.com/rondodb/rondo/internal/client"
)

// value is what clients write. Its checksum covers the key too, so that bytes which were altered, cut, or written to another
// key are never taken for a value.
type value struct {
	By  string   `json:"by"`  // unique per key: the client and its count
	Set []string `json:"set"` // of a set: its elements
	Sum string   `json:"sum"`
}

// encode is the bytes of a value.
func encode(key, by string, set []string) []byte {
	b := append([]byte(`{"by":`), client.AppendString(nil, by)...)
	if len(set) > 0 {
		b = append(b, `,"set":[`...)
		for i, e := range set {
			if i > 0 {
				b = append(b, ',')
			}
			b = client.AppendString(b, e)
		}
		b = append(b, ']')
	}
	sum := crc32.Update(crc32.ChecksumIEEE([]byte(key)), crc32.IEEETable, b)
	b = append(b, `,"sum":"`...)
	b = strconv.AppendUint(b, uint64(sum), 16)
	return append(b, `"}`...)
}

// decode is the name of a value and its elements. Bytes that no client wrote to this key have a name that no write has.
func decode(key string, data []byte) (by string, set []string) {
	var v value
	data = bytes.TrimSpace(data)
	if err := json.Unmarshal(data, &v); err != nil || !bytes.Equal(encode(key, v.By, v.Set), data) {
		return "altered: " + string(data[:min(len(data), 200)]), nil
	}
	return v.By, v.Set
}
