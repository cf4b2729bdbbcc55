package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

func TestThreeFreshNodesFormOneRing(t *testing.T) {
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for _, pause := range []time.Duration{0, 400 * time.Millisecond, 4 * time.Minute} {
		for _, order := range orders {
			t.Run(fmt.Sprintf("%v apart, %v", pause, order), func(t *testing.T) {
				inBubble(t, func(c *cluster) {
					hosts := c.three()
					for _, i := range order {
						time.Sleep(pause)
						hosts[i].start()
					}
					took := c.within(10*time.Second, "forming", func() string { return oneRing(hosts...) })
					t.Logf("formed %v after the last start", took)

					cluster := hosts[0].Layout().Cluster()
					for _, h := range hosts {
						h.kill()
					}
					for _, i := range order { // the ring is there at once after a restart
						hosts[i].start()
						if ok, reason := hosts[i].Ready(); !ok || hosts[i].Layout().Cluster() != cluster {
							t.Errorf("after restart: ready %v %q", ok, reason)
						}
					}
					c.within(20*time.Second, "meeting again", func() string { return allSee(hosts...) })
				})
			})
		}
	}
}

func TestFormingSurvivesRestartOfAnyNodeAtAnyTime(t *testing.T) {
	for victim := range 3 {
		for _, after := range []time.Duration{0, 200, 600, 800, 900, 1000, 1100, 1200, 1500, 2500} {
			t.Run(fmt.Sprintf("n%d after %d ms", victim+1, after), func(t *testing.T) {
				inBubble(t, func(c *cluster) {
					hosts := c.three()
					for _, h := range hosts {
						h.start()
					}
					time.Sleep(after * time.Millisecond)
					hosts[victim].kill()
					time.Sleep(20 * time.Second)
					hosts[victim].start()
					c.within(30*time.Second, "forming", func() string { return oneRing(hosts...) })
				})
			})
		}
	}
}

// A member locks and the proposer is gone before it could tell anybody what came of it.
func TestMembersFinishForASilentProposer(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.three()
		for _, h := range hosts {
			h.start()
		}
		c.within(10*time.Second, "seeing each other", func() string { return allSee(hosts...) })
		m := hosts[0].Membership
		m.form.mu.Lock()
		if m.form.state.Lock == nil && m.Layout() == nil {
			if err := m.propose(m.view.Load(), []ring.NodeID{testID(1), testID(2), testID(3)}); err != nil {
				t.Fatal(err)
			}
		}
		lock := m.form.state.Lock
		m.form.mu.Unlock()
		if lock == nil {
			t.Skip("formed too early")
		}
		for _, h := range hosts[1:] {
			h.form.mu.Lock()
			s, reply := h.form.state.ask(lock)
			err := h.keep(s)
			h.form.mu.Unlock()
			if err != nil || reply != replyLocked {
				t.Fatalf("reply %v, %v", reply, err)
			}
		}
		hosts[0].kill()
		c.within(20*time.Second, "finishing", func() string {
			for _, h := range hosts[1:] {
				if ok, reason := h.Ready(); !ok {
					return reason
				}
			}
			return ""
		})
		hosts[0].start()
		c.within(20*time.Second, "the proposer's return", func() string { return oneRing(hosts...) })
	})
}

func TestMoreFreshNodesThanExpected(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := append(c.three(), c.host(4, 3, gossipAt(1)), c.host(5, 3, gossipAt(1)))
		for _, h := range hosts {
			h.start()
		}
		c.within(20*time.Second, "forming", func() string {
			rings := map[string]bool{}
			for _, h := range hosts {
				l := h.Layout()
				if l == nil {
					_, reason := h.Ready()
					return reason
				}
				rings[l.Cluster()] = true
			}
			if len(rings) != 1 {
				t.Fatalf("%d rings", len(rings))
			}
			return ""
		})
	})
}

func TestANodeAloneFormsAtOnce(t *testing.T) {
	inBubble(t, func(c *cluster) {
		h := c.host(1, 1)
		h.start()
		if fault := oneRing(h); fault != "" {
			t.Error(fault)
		}
	})
}

func TestANodeThatJoinsNeverFormsByItself(t *testing.T) {
	inBubble(t, func(c *cluster) {
		h, o := c.host(1, 1, gossipAt(9)), c.host(2, 1, gossipAt(1))
		h.start()
		o.start()
		time.Sleep(5 * time.Minute)
		for _, n := range []*host{h, o} {
			ok, reason := n.Ready()
			if ok || !strings.Contains(reason, "--expect N") {
				t.Errorf("got ready %v, %q", ok, reason)
			}
		}
	})
}

func TestReadyTellsWhoIsMissing(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.three()
		hosts[0].start()
		hosts[1].start()
		c.within(5*time.Second, "reason", func() string {
			_, reason := hosts[1].Ready()
			if want := "waiting for 3 fresh nodes, 2 seen: n1, n2"; reason != want {
				return reason
			}
			return ""
		})
	})
}

func TestFaultsOfConfigurationAreToldWhileForming(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(third *Config)
		want   string
	}{
		{"partitions", func(c *Config) { c.Partitions = 64 }, "--partitions"},
		{"names", func(c *Config) { c.Name = "n1" }, "two fresh nodes are named n1"},
		{"expect", func(c *Config) { c.Expect = 4 }, "different --expect; the largest counts"},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(cl *cluster) {
				hosts := cl.three()
				c.change(&hosts[2].conf)
				for _, h := range hosts {
					h.start()
				}
				time.Sleep(20 * time.Second)
				for _, h := range hosts {
					if ok, reason := h.Ready(); ok || !strings.Contains(reason, c.want) {
						t.Errorf("%s: got ready %v, %q, want %q", h.conf.Name, ok, reason, c.want)
					}
				}
			})
		})
	}
}

func TestAFreshNodeFollowsAFormedRing(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		fourth := c.host(4, 3, gossipAt(2))
		fourth.start()
		c.within(3*time.Second, "following", func() string {
			if l := fourth.Layout(); l == nil || !l.Equal(hosts[0].Layout()) {
				return "no layout"
			}
			return ""
		})
		if ok, reason := fourth.Ready(); ok || !strings.Contains(reason, "not a member of ring 1") {
			t.Errorf("got ready %v, %q", ok, reason)
		}
		c.within(2*time.Second, "being seen", func() string { return allSee(append(hosts, fourth)...) })
		if n, ok := hosts[0].Node(testID(4)); !ok || n.Member || n.Health != Alive {
			t.Errorf("got %+v", n)
		}
	})
}

func TestADiskThatFailsPromisesNothing(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.three()
		hosts[1].disk.failAfter(1)
		for _, h := range hosts {
			h.start()
		}
		time.Sleep(20 * time.Second)
		for _, h := range hosts {
			if h.Layout() != nil {
				t.Errorf("%s has a ring of which n2 has nothing on disk", h.conf.Name)
			}
		}
		hosts[1].disk.failAfter(-1)
		c.within(30*time.Second, "forming", func() string { return oneRing(hosts...) })
	})
}

// The disk of one node stops taking writes at each point in turn, as it is when a crash comes between two steps; then the
// node is killed and comes back with what was kept.
func TestFormingSurvivesACrashBetweenAnyTwoWrites(t *testing.T) {
	for victim := range 3 {
		for writes := 1; writes <= 7; writes++ {
			t.Run(fmt.Sprintf("n%d after %d writes", victim+1, writes), func(t *testing.T) {
				inBubble(t, func(c *cluster) {
					hosts := c.three()
					hosts[victim].disk.failAfter(writes)
					for _, h := range hosts {
						h.start()
					}
					time.Sleep(8 * time.Second)
					hosts[victim].kill()
					hosts[victim].disk.failAfter(-1)
					time.Sleep(8 * time.Second)
					hosts[victim].start()
					c.within(30*time.Second, "forming", func() string { return oneRing(hosts...) })
				})
			})
		}
	}
}
