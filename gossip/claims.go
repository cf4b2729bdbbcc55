package gossip

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/rondodb/rondo/ring"
)

// Two addresses for this node's own id mean one of two things. Mostly it is this node's former address, which the others
// have not given up yet. But if someone answers there in this node's name, a data directory was copied and both copies run;
// they would issue the same versions for different values. So the address is asked. Whoever has run for less time then
// stops taking part.

// claim is the message, as JSON: a question, or an answer that repeats the asking process.
type claim struct {
	ID      ring.NodeID `json:"id"`
	Process uint64      `json:"process"`
	Echo    uint64      `json:"echo,omitempty"` // answers: the process that asked
	Uptime  int64       `json:"uptime_ns"`
	Addr    string      `json:"addr"` // of the sender
}

const (
	maxClaim    = 512 // bytes
	maxDisputed = 16
	askTimes    = 3
)

// claims is what has to be sent about this node's id.
type claims struct {
	asks    map[string]int    // address → questions left
	answers map[string]uint64 // address → process that asked
}

func (c *claims) dispute(addr string) {
	if c.asks == nil {
		c.asks = map[string]int{}
	}
	if len(c.asks) < maxDisputed {
		c.asks[addr] = askTimes
	}
}

func (c *claims) answer(addr string, process uint64) {
	if c.answers == nil {
		c.answers = map[string]uint64{}
	}
	if len(c.answers) < maxDisputed {
		c.answers[addr] = process
	}
}

// hearClaim takes a message; it does not block.
func (m *Membership) hearClaim(b []byte) {
	var c claim
	if len(b) > maxClaim || json.Unmarshal(b, &c) != nil || checkAddr(c.Addr) != nil {
		m.stats.malformed.Add(1)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.ID != m.config.Self || c.Process == m.process || m.closed || m.conflict != nil {
		return
	}
	if c.Echo != m.process { // a question; it may come from a process that is gone, so it proves nothing
		m.claims.answer(c.Addr, c.Process)
		if _, asked := m.claims.asks[c.Addr]; !asked {
			m.claims.dispute(c.Addr)
		}
		signal(m.wakeJoin)
		return
	}
	uptime := time.Since(m.opened).Nanoseconds()
	if uptime > c.Uptime || uptime == c.Uptime && m.process > c.Process {
		if m.once("duplicate " + c.Addr) {
			m.log.Error("another process runs with this node's id, from a copy of its data directory; it has to be stopped",
				"id", m.config.Self, "addr", c.Addr)
		}
		return
	}
	m.conflict = fmt.Errorf("another running node at %s has this node's id %s: the data directory was copied; "+
		"stop one of both, and give it an empty data directory", c.Addr, m.config.Self)
	m.log.Error("this node takes no part in the cluster", "error", m.conflict)
	select {
	case m.failed <- m.conflict:
	default:
	}
	m.refresh()
	signal(m.wakeJoin)
}

// sendClaims sends what is due; where this node turned out to be a duplicate it stops gossiping, without goodbye: that would
// be said in the other one's name.
func (m *Membership) sendClaims(list *memberlist.Memberlist) error {
	m.mu.Lock()
	duplicate := m.conflict != nil
	out := map[string][]claim{}
	own := claim{ID: m.config.Self, Process: m.process, Uptime: time.Since(m.opened).Nanoseconds(), Addr: m.ownAddr}
	for addr, left := range m.claims.asks {
		out[addr] = append(out[addr], own)
		if left--; left > 0 {
			m.claims.asks[addr] = left
		} else {
			delete(m.claims.asks, addr)
		}
	}
	for addr, process := range m.claims.answers {
		answer := own
		answer.Echo = process
		out[addr] = append(out[addr], answer)
	}
	clear(m.claims.answers)
	m.mu.Unlock()
	if duplicate {
		m.ending.enter()
		defer m.ending.leave()
		return list.Shutdown()
	}
	for addr, messages := range out {
		for _, c := range messages {
			b, err := json.Marshal(c)
			if err == nil {
				err = list.SendToAddress(memberlist.Address{Addr: addr}, b)
			}
			if err != nil {
				m.log.Debug("cannot ask a disputed address", "addr", addr, "error", err)
			}
		}
	}
	return nil
}
