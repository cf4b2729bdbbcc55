package peer

import (
	"cmp"
	"slices"

	"github.com/rondodb/rondo/ring"
)

// PeerStats is what the client has seen of one peer. Counters only grow.
type PeerStats struct {
	Peer      ring.NodeID
	Addr      string // "" while there is no connection
	Connected bool
	InFlight  int // calls
	Waiting   int // bytes not handed to the kernel yet

	BytesIn, BytesOut   uint64
	FramesIn, FramesOut uint64
	StrayReplies        uint64 // answers that came too late
	Connects            uint64 // connections that were made, large ones included
	LastError           string // why the last dial failed or the last connection ended, "" if neither has happened
}

// Stats tells about every peer that was called, by id.
func (c *Client) Stats() []PeerStats {
	var all []PeerStats
	for _, l := range *c.links.Load() {
		all = append(all, l.stats())
	}
	slices.SortFunc(all, func(a, b PeerStats) int { return cmp.Compare(a.Peer, b.Peer) })
	return all
}

func (l *link) stats() PeerStats {
	s := PeerStats{
		Peer: l.id, BytesIn: l.bytesIn.Load(), BytesOut: l.bytesOut.Load(), FramesIn: l.framesIn.Load(), FramesOut: l.framesOut.Load(),
		StrayReplies: l.strayReplies.Load(),
	}
	if c := l.conn.Load(); c != nil {
		s.Addr, s.Connected = c.addr, c.ready.Load()
		s.count(c)
		if large := c.large.Load(); large != nil {
			s.count(large)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Connects = l.connects
	if l.lastErr != nil {
		s.LastError = l.lastErr.Error()
	}
	return s
}

func (s *PeerStats) count(c *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.InFlight += c.pending
	s.Waiting += len(c.out)
}

// ServerStats is what the server has seen. Counters only grow; the others are of this moment.
type ServerStats struct {
	Connections         int
	InFlight            int   // requests that workers have not answered yet
	Queued              int   // of them, not begun
	BytesInFlight       int64 // payloads of requests that are not answered yet
	BytesIn, BytesOut   uint64
	FramesIn, FramesOut uint64
	Refused             uint64 // requests turned away because of a limit or a shutdown
}

// Stats tells about all connections together.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	conns := len(s.conns)
	s.mu.Unlock()
	return ServerStats{
		Connections: conns, InFlight: int(s.inFlight.Load()), Queued: len(s.workers.jobs) + len(s.callers.jobs), BytesInFlight: s.bytes.out(),
		BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(), FramesIn: s.framesIn.Load(), FramesOut: s.framesOut.Load(), Refused: s.refused.Load(),
	}
}
