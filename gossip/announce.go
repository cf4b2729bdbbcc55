package gossip

import "time"

// SetDraining tells the others that this node is about to stop.
func (m *Membership) SetDraining() { m.describe(func(own *meta) { own.set(flagDraining, true) }) }

// SetSettingsHash tells the others the hash of this node's bucket settings.
func (m *Membership) SetSettingsHash(hash uint64) {
	m.describe(func(own *meta) { own.SettingsHash = hash })
}

// describe changes what this node says about itself, and says it.
func (m *Membership) describe(change func(*meta)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.own
	change(&m.own)
	if m.own != before {
		m.refresh()
		signal(m.announce)
	}
}

// announceLoop gossips this node's description whenever it has changed, and a few times more after that: messages may be
// lost, and a full exchange would make up for that only much later.
func (m *Membership) announceLoop() {
	told := len(tellAfter)
	for {
		var again <-chan time.Time
		if told < len(tellAfter) {
			again = time.After(m.jitter(tellAfter[told]))
		}
		select {
		case <-m.ctx.Done():
			return
		case <-m.announce:
			told = 0
		case <-again:
			told++
		}
		// The description is queued at once; whether it went out within this time does not matter, since it will.
		if err := m.say(time.Millisecond); err != nil {
			m.log.Debug("own description is still waiting to go out", "reason", err)
		}
	}
}

var tellAfter = [...]time.Duration{300 * time.Millisecond, 700 * time.Millisecond, 2 * time.Second}

// say queues this node's description for gossip and waits until it went out once. memberlist allows one caller at a time.
func (m *Membership) say(timeout time.Duration) error {
	m.saying.enter()
	defer m.saying.leave()
	return m.list.Load().UpdateNode(timeout)
}
