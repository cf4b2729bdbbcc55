//go:build planted

package gossip

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
	"github.com/rondodb/rondo/ring"
)

// bubble runs a scenario in virtual time and returns the fault that it finds.
func bubble(t *testing.T, scenario func(c *cluster) string) (err error) {
	inBubble(t, func(c *cluster) {
		if fault := scenario(c); fault != "" {
			err = errors.New(fault)
		}
	})
	return err
}

// soon polls until there is no fault, and returns the one that stays.
func soon(d time.Duration, fault func() string) string {
	for end := time.Now().Add(d); ; time.Sleep(50 * time.Millisecond) {
		synctest.Wait()
		if f := fault(); f == "" || time.Now().After(end) {
			return f
		}
	}
}

// Two halves of a split find each other again, however long it was.
func TestPlantedRejoin(t *testing.T) {
	longBubble(t)
	planttest.Catches(t, plant.RejoinOff, func(t *testing.T) error {
		return bubble(t, func(c *cluster) string {
			hosts := c.formed()
			c.net.Split([]string{hosts[0].ip}, []string{hosts[1].ip, hosts[2].ip})
			time.Sleep(10 * time.Minute)
			c.net.HealAll()
			return soon(10*time.Minute, func() string { return allSee(hosts...) })
		})
	})
}

// Two members lock on an attempt, its proposer forms the ring and is cut off before they hear of it, and both restart among enough
// fresh nodes for another ring. There must be one ring.
func TestPlantedVote(t *testing.T) {
	planttest.Catches(t, plant.VoteNotKept, func(t *testing.T) error {
		return bubble(t, func(c *cluster) string {
			hosts := []*host{c.host(1, 3, gossipAt(2)), c.host(2, 3, gossipAt(2)), c.host(3, 3, gossipAt(2)), c.host(4, 3, gossipAt(2)), c.host(5, 3, gossipAt(2))}
			for _, h := range hosts { // nobody forms while there are only two
				h.conf.Expect = 6
			}
			for _, h := range hosts[:3] {
				h.start()
			}
			hosts[0].lockOn(hosts[1:3], testID(1), testID(2), testID(3))
			c.net.Split([]string{hosts[0].ip}, []string{hosts[1].ip, hosts[2].ip, hosts[3].ip, hosts[4].ip})
			for _, h := range hosts[1:] {
				h.conf.Expect = 3
			}
			for _, h := range hosts[1:3] {
				h.kill()
				h.start()
			}
			for _, h := range hosts[3:] {
				h.start()
			}
			return soon(5*time.Minute, func() string {
				for _, h := range hosts {
					l := h.Layout()
					if l == nil {
						return h.conf.Name + " has no ring"
					}
					if a, b := l.Cluster(), hosts[0].Layout().Cluster(); a != b {
						return fmt.Sprintf("two rings: %s has %s, %s has %s", hosts[0].conf.Name, b, h.conf.Name, a)
					}
				}
				return ""
			})
		})
	})
}

// lockOn has this node propose a ring of the members, the others lock on it, and this node alone learn that all have.
func (h *host) lockOn(others []*host, members ...ring.NodeID) {
	if fault := soon(time.Minute, func() string { return allSee(slices.Concat(others, []*host{h})...) }); fault != "" {
		h.c.t.Fatal(fault)
	}
	h.form.mu.Lock()
	err := h.propose(h.view.Load(), members)
	lock := h.form.state.Lock
	h.form.mu.Unlock()
	if err != nil {
		h.c.t.Fatal(err)
	}
	for _, o := range others {
		o.form.mu.Lock()
		s, reply := o.form.state.ask(lock)
		err := o.keep(s)
		o.form.mu.Unlock()
		if err != nil || reply != replyLocked {
			h.c.t.Fatalf("reply %v, %v", reply, err)
		}
	}
	h.form.mu.Lock()
	defer h.form.mu.Unlock()
	if err := h.decide("all have locked"); err != nil {
		h.c.t.Fatal(err)
	}
}
