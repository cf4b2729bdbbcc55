package httpapi

import (
	"strconv"

	"github.com/rondodb/rondo/quorum"
)

// appendReceipt appends what an answer rests on.
func appendReceipt(dst []byte, r *quorum.Receipt, write, full bool) []byte {
	dst = appendInt(dst, `{"n":`, r.N)
	dst = appendInt(dst, `,"required":`, r.Required)
	if write {
		dst = appendInt(dst, `,"acked":`, r.Acked)
		dst = appendInt(dst, `,"durable":`, r.Durable)
	} else {
		dst = appendInt(dst, `,"replied":`, r.Replied)
		dst = appendBool(dst, `,"agreed":`, r.Agreed)
		dst = appendInt(dst, `,"repaired":`, r.Repaired)
	}
	dst = appendInt(dst, `,"standins":`, r.Standins)
	dst = append(dst, `,"ring":`...)
	dst = strconv.AppendUint(dst, r.Ring, 10)
	dst = append(dst, `,"coordinator":`...)
	dst = appendString(dst, r.Coordinator)
	if full {
		dst = append(dst, `,"replicas":`...)
		dst = appendReplicas(dst, r.Replicas)
	}
	return append(dst, '}')
}

func appendReplicas(dst []byte, replicas []quorum.ReplicaReceipt) []byte {
	dst = append(dst, '[')
	for i := range replicas {
		r := &replicas[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"node":`...)
		dst = appendString(dst, r.Node)
		dst = append(dst, `,"zone":`...)
		dst = appendString(dst, r.Zone)
		dst = append(dst, `,"role":`...)
		dst = appendString(dst, r.Role)
		dst = appendBool(dst, `,"ok":`, r.OK)
		dst = appendBool(dst, `,"durable":`, r.Durable)
		dst = append(dst, `,"ms":`...)
		dst = appendMillis(dst, r.Took)
		dst = append(dst, `,"error":`...)
		dst = appendString(dst, r.Error)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
