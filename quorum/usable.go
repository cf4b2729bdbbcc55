package quorum

import (
	"fmt"
	"time"

	"github.com/rondodb/rondo/ring"
)

// answers is nil where a node can be asked now; for this node, where its store works.
func (c *Coordinator) answers(id ring.NodeID, now time.Time) error {
	switch {
	case id == c.self:
		return c.state.healthy()
	case !c.config.Membership.Alive(id):
		return errNotAlive
	case !c.table.get(id).ready(now):
		return errBreaker
	}
	return nil
}

// unusable says why an owner cannot be used now for what is wanted, nil where it can.
func (c *Coordinator) unusable(t *target, id ring.NodeID, now time.Time, u use) error {
	if id == c.self {
		return c.state.fit(t.class(), u)
	}
	if err := c.answers(id, now); err != nil {
		return err
	}
	if u == toWrite && c.table.get(id).saidFull(now) {
		return errFull
	}
	return nil
}

// others tells whether another owner can take a client's write now.
func (c *Coordinator) others(t *target, now time.Time) bool {
	for _, id := range t.owners {
		if id != c.self && c.unusable(t, id, now, toWrite) == nil {
			return true
		}
	}
	return false
}

// enough fails at once where it is clear already that required replicas will not answer. Stand-ins are counted where the request allows them;
// a write needs an owner all the same, to coordinate it.
func (c *Coordinator) enough(t *target, required int, u use) *Error {
	now := time.Now()
	usable, down, full := 0, 0, 0
	for _, id := range t.owners {
		switch err := c.unusable(t, id, now, u); {
		case err == nil:
			usable++
		case isDown(err):
			down++
		case outcomeOf(err) == outcomeFull:
			full++
		}
	}
	if usable >= required {
		return nil
	}
	standins := 0
	if t.sloppy {
		standins = c.standins(t, down, now)
	}
	if usable+standins >= required && (usable > 0 || u == toRead) {
		return nil
	}
	e := &Error{Code: CodeUnavailable, Outcome: NotApplied, N: t.n, Required: required, Replicas: c.useless(t, now, u)}
	what := "read"
	if u == toWrite {
		what = "write"
	}
	e.Detail = fmt.Sprintf("the %s needs %d of the key's %d replicas, and only %d can be reached", what, required, t.n, usable)
	switch {
	case full > 0 && usable+standins+full >= required:
		e.Code = CodeFull
		e.Detail = fmt.Sprintf("the write needs %d of the key's %d replicas, and %d of them have no space left on their disks", required, t.n, full)
	case t.sloppy && usable == 0 && u == toWrite:
		e.Detail = fmt.Sprintf("none of the key's %d replicas can be reached, and one of them must coordinate the write", t.n)
	case t.sloppy:
		e.Detail += fmt.Sprintf(", with %d nodes that could stand in for others", standins)
	}
	e.Detail += ": nothing was sent"
	return e
}

// useless lists the owners that cannot be used, and why.
func (c *Coordinator) useless(t *target, now time.Time, u use) (out []ReplicaReceipt) {
	for _, id := range t.owners {
		if why := c.unusable(t, id, now, u); why != nil {
			r := t.receipt(id)
			r.Error = why.Error()
			out = append(out, r)
		}
	}
	return out
}
