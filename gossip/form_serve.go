package gossip

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rondodb/rondo/ring"
)

// formRequest is a message of the forming protocol, as JSON.
type formRequest struct {
	Kind     string      `json:"kind"` // "ask" or "query"
	Proposer ring.NodeID `json:"proposer"`
	Attempt  uint64      `json:"attempt"`
	Layout   []byte      `json:"layout,omitempty"` // ask
}

const (
	kindAsk   = "ask"
	kindQuery = "query"
)

type formAnswer struct {
	Reply  formReply `json:"reply"`
	Layout []byte    `json:"layout,omitempty"` // replyFormed
}

const (
	maxFormMessage = 16 << 20 // bytes; a layout of the largest size fits, in base64
	maxRefused     = 10_000   // proposers
)

// HandleForm answers a message of the forming protocol from another node. What it promises is on disk before it returns.
func (m *Membership) HandleForm(from ring.NodeID, payload []byte) ([]byte, error) {
	var r formRequest
	if len(payload) > maxFormMessage {
		return nil, fmt.Errorf("form: message of %d bytes", len(payload))
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, fmt.Errorf("form: %w", err)
	}
	if !validID(string(r.Proposer)) || r.Attempt == 0 {
		return nil, fmt.Errorf("form: proposer %q, attempt %d", r.Proposer, r.Attempt)
	}
	m.mu.Lock()
	unfit := m.conflict
	if m.closed {
		unfit = errClosed
	}
	m.mu.Unlock()
	if unfit != nil {
		return nil, fmt.Errorf("form: %w", unfit)
	}
	m.form.mu.Lock()
	defer m.form.mu.Unlock()
	if l := m.layout.Load(); l != nil {
		return json.Marshal(formAnswer{Reply: replyFormed, Layout: l.Encode()})
	}
	state, reply, err := m.form.state, replyRefused, error(nil)
	switch r.Kind {
	case kindAsk:
		var lock *formLock
		if lock, err = m.readAsk(from, &r); err != nil {
			return nil, fmt.Errorf("form: %w", err)
		}
		state, reply = state.ask(lock)
	case kindQuery:
		state, reply = state.query(r.Proposer, r.Attempt)
	default:
		return nil, fmt.Errorf("form: kind %q is unknown to this version", r.Kind)
	}
	if len(state.Refused) > maxRefused {
		return nil, fmt.Errorf("form: attempts of %d nodes were refused; this one is not taken note of", maxRefused)
	}
	if err := m.keep(state); err != nil {
		return nil, err
	}
	return json.Marshal(formAnswer{Reply: reply})
}

var errClosed = errors.New("this node is stopping")

// readAsk checks what a proposer asks for.
func (m *Membership) readAsk(from ring.NodeID, r *formRequest) (*formLock, error) {
	l, err := ring.Decode(r.Layout)
	if err != nil {
		return nil, err
	}
	switch {
	case from != r.Proposer:
		return nil, fmt.Errorf("%s asks for an attempt of %s", from, r.Proposer)
	case l.Version() != 1 || !isMember(l, m.config.Self) || !isMember(l, from):
		return nil, fmt.Errorf("layout %d, proposed by %s to this node, is not a first one with both as members", l.Version(), from)
	case l.Partitions() != m.config.Partitions:
		return nil, fmt.Errorf("%d partitions were proposed, and this node was started with %d", l.Partitions(), m.config.Partitions)
	}
	lock := &formLock{Proposer: r.Proposer, Attempt: r.Attempt, Ring: l.Cluster(), Layout: r.Layout}
	for _, member := range l.Members() {
		lock.Members = append(lock.Members, member.ID)
	}
	return lock, nil
}
