package gossip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/ring"
)

// peerRecord is a node as it is kept on disk, to be found again when the seeds are gone.
type peerRecord struct {
	ID      ring.NodeID `json:"id"`
	Name    string      `json:"name"`
	Zone    string      `json:"zone,omitempty"`
	Weight  int         `json:"weight"`
	HTTP    string      `json:"http"`
	Peer    string      `json:"peer"`
	Gossip  string      `json:"gossip"`
	Version string      `json:"version,omitempty"`
	Ring    string      `json:"ring,omitempty"`
	// Away is when it was last seen, in Unix seconds; 0 while it is alive.
	Away int64 `json:"away,omitempty"`
}

const (
	maxStrangers = 256            // peers on disk that are no members
	keepStranger = 24 * time.Hour // since they were last seen
)

// loadPeers fills the table from disk. A record that cannot be read is left out: it is only a memory aid.
func (m *Membership) loadPeers() error {
	b, err := m.config.Meta.GetMeta(metaPeers)
	if err != nil {
		return fmt.Errorf("load peers: %w", err)
	}
	var records []peerRecord
	if len(b) > 0 {
		if err := json.Unmarshal(b, &records); err != nil {
			m.log.Warn("the list of known peers on disk cannot be read; starting without it", "error", err)
		}
	}
	for _, r := range records {
		if !validID(string(r.ID)) || r.ID == m.config.Self || checkAddr(r.Gossip) != nil || len(m.table) >= maxTable {
			continue
		}
		seen := time.Unix(r.Away, 0)
		if r.Away == 0 {
			seen = time.Now()
		}
		e := &entry{gossip: r.Gossip, seen: seen}
		e.meta = meta{
			Name: r.Name, Zone: r.Zone, Weight: uint16(r.Weight), HTTPAddr: r.HTTP, PeerAddr: r.Peer, Version: r.Version, ClusterID: r.Ring,
		}
		m.table[r.ID] = e
	}
	m.savedPeers = b
	return nil
}

// savePeers puts the table on disk where it has changed. A failure is logged and tried again; gossip goes on without.
func (m *Membership) savePeers() {
	m.mu.Lock()
	if !m.unsaved {
		m.mu.Unlock()
		return
	}
	m.unsaved = false
	l := m.layout.Load()
	var members, strangers []peerRecord
	for id, e := range m.table {
		r := peerRecord{
			ID: id, Name: e.meta.Name, Zone: e.meta.Zone, Weight: int(e.meta.Weight), HTTP: e.meta.HTTPAddr, Peer: e.meta.PeerAddr,
			Gossip: e.gossip, Version: e.meta.Version, Ring: e.meta.ClusterID,
		}
		if !e.up {
			r.Away = e.seen.Unix()
		}
		switch {
		case m.isForeign(id, &e.meta):
		case isMember(l, id):
			members = append(members, r)
		case e.up || time.Since(e.seen) < keepStranger:
			strangers = append(strangers, r)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(strangers, func(a, b peerRecord) int { // the alive first, then who left last
		if a.Away != b.Away && (a.Away == 0 || b.Away == 0) {
			return int(min(a.Away, 1) - min(b.Away, 1))
		}
		if a.Away != b.Away {
			return int(b.Away - a.Away)
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	records := append(members, strangers[:min(len(strangers), maxStrangers)]...)
	slices.SortFunc(records, func(a, b peerRecord) int { return strings.Compare(string(a.ID), string(b.ID)) })
	b, err := json.Marshal(records)
	if err == nil && !bytes.Equal(b, m.savedPeers) && (len(records) > 0 || len(m.savedPeers) > 0) {
		if err = m.config.Meta.PutMeta(metaPeers, b); err == nil {
			m.savedPeers = b
		}
	}
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unsaved = true
		if m.once("peers " + err.Error()) {
			m.log.Error("cannot keep the list of peers on disk", "error", err)
		}
	}
}
