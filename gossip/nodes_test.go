package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestALongSplitHealsByItself(t *testing.T) {
	longBubble(t)
	for _, split := range []time.Duration{10 * time.Minute, time.Hour, 3 * time.Hour} {
		t.Run(split.String(), func(t *testing.T) {
			inBubble(t, func(c *cluster) {
				hosts := c.formed()
				c.net.Split([]string{hosts[0].ip}, []string{hosts[1].ip, hosts[2].ip})
				time.Sleep(split)
				if hosts[0].Alive(testID(2)) || hosts[2].Alive(testID(1)) || !hosts[1].Alive(testID(3)) {
					t.Error("the halves still see each other")
				}
				c.net.HealAll()
				took := c.within(time.Minute, "healing", func() string { return allSee(hosts...) })
				t.Logf("healed in %v", took)
			})
		})
	}
}

func TestFiveNodesInThreePartsHeal(t *testing.T) {
	longBubble(t)
	inBubble(t, func(c *cluster) {
		var hosts []*host
		for i := range 5 {
			hosts = append(hosts, c.host(i+1, 5, gossipAt(1)))
			hosts[i].start()
		}
		c.within(20*time.Second, "forming", func() string { return oneRing(hosts...) })
		c.net.Split([]string{hosts[0].ip}, []string{hosts[1].ip, hosts[2].ip}, []string{hosts[3].ip, hosts[4].ip})
		time.Sleep(15 * time.Minute)
		c.net.HealAll()
		c.within(time.Minute, "healing", func() string { return allSee(hosts...) })
	})
}

// The seeds are gone for good; the peers on disk are enough.
func TestPeersOnDiskStandInForSeeds(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		time.Sleep(3 * time.Second) // the peers are put on disk
		hosts[0].kill()             // the only seed
		hosts[1].kill()
		hosts[2].kill()
		time.Sleep(time.Hour)
		hosts[1].conf.Join, hosts[2].conf.Join = []string{gossipAt(99)}, []string{"gone.example:7072"}
		hosts[1].start()
		hosts[2].start()
		c.within(10*time.Second, "meeting", func() string { return allSee(hosts[1:]...) })
	})
}

func TestANodeComesBackAtAnotherAddress(t *testing.T) {
	for _, c := range []struct {
		what  string
		end   func(*host)
		pause time.Duration
	}{
		{"killed, back at once", (*host).kill, 0},
		{"killed, back while suspected", (*host).kill, 2500 * time.Millisecond},
		{"killed, back after its death", (*host).kill, 20 * time.Second},
		{"killed, back when forgotten", (*host).kill, 30 * time.Minute},
		{"stopped in order", (*host).stop, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			inBubble(t, func(cl *cluster) {
				hosts := cl.formed()
				moved := hosts[2]
				c.end(moved)
				time.Sleep(c.pause)
				moved.ip = "10.0.0.77"
				moved.start()
				took := cl.within(10*time.Second, "return", func() string {
					for _, h := range hosts[:2] {
						if addr, _ := h.Addr(testID(3)); !h.Alive(testID(3)) || addr != "10.0.0.77:7071" {
							return h.conf.Name + " has " + addr
						}
					}
					return allSee(hosts...)
				})
				t.Logf("back in %v", took)
				time.Sleep(5 * time.Second)
				if fault := oneRing(hosts...) + allSee(hosts...); fault != "" {
					t.Error(fault)
				}
			})
		})
	}
}

// All containers come back at once with their addresses changed around.
func TestAddressesAreSwapped(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		for _, h := range hosts {
			h.conf.Join = []string{gossipAt(1), gossipAt(2), gossipAt(3)}
			h.kill()
		}
		hosts[0].ip, hosts[1].ip, hosts[2].ip = hosts[1].ip, hosts[2].ip, hosts[0].ip
		for _, h := range hosts {
			h.start()
		}
		c.within(15*time.Second, "meeting", func() string { return allSee(hosts...) })
	})
}

func TestSeedsAreLookedUpAgain(t *testing.T) {
	inBubble(t, func(c *cluster) {
		var known atomic.Bool
		c.resolve = func(host string) ([]net.IP, error) {
			if !known.Load() {
				return nil, fmt.Errorf("no such host %s", host)
			}
			return []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2)}, nil
		}
		a, b := c.host(1, 2, "seeds.example:7072"), c.host(2, 2, "seeds.example:7072")
		a.start()
		b.start()
		time.Sleep(10 * time.Minute)
		if a.Alive(testID(2)) {
			t.Error("met without a seed")
		}
		known.Store(true)
		c.within(15*time.Second, "meeting", func() string { return oneRing(a, b) })
	})
}

func TestSettingsHashSpreads(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		for round := range uint64(5) {
			hosts[1].SetSettingsHash(42 + round)
			c.within(time.Second, "spreading", func() string {
				for _, h := range hosts {
					if n, _ := h.Node(testID(2)); n.SettingsHash != 42+round {
						return h.conf.Name
					}
				}
				return ""
			})
		}
	})
}

func TestDeadMembersStayListed(t *testing.T) {
	longBubble(t)
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		time.Sleep(3 * time.Second)
		hosts[2].kill()
		took := c.within(10*time.Second, "noticing", func() string {
			if hosts[0].Alive(testID(3)) || hosts[1].Alive(testID(3)) {
				return "still alive"
			}
			return ""
		})
		t.Logf("dead in %v", took)
		time.Sleep(time.Hour) // memberlist has forgotten it
		hosts[0].kill()
		hosts[0].start() // and so has this process
		nodes := hosts[0].Nodes()
		if len(nodes) != 3 {
			t.Fatalf("got %d nodes: %+v", len(nodes), nodes)
		}
		n := nodes[2]
		if n.Health != Dead || !n.Member || n.Name != "n3" || n.PeerAddr != "10.0.0.3:7071" || n.HTTPAddr != "10.0.0.3:7070" {
			t.Errorf("got %+v", n)
		}
	})
}

// A node that this one cannot reach, while others can, is alive and shown as suspect, until it answers again.
func TestSuspectIsShown(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		health := func(want string) func() string {
			return func() string {
				n, _ := hosts[0].Node(testID(3))
				if !hosts[0].Alive(n.ID) {
					t.Error("a suspect is not alive")
				}
				if n.Health != want {
					return n.Health
				}
				return ""
			}
		}
		c.net.Cut(hosts[0].ip, hosts[2].ip)
		c.within(15*time.Second, "suspicion", health(Suspect))
		c.net.HealAll()
		c.within(15*time.Second, "recovery", health(Alive))
	})
}

func TestStopIsToldAtOnce(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		hosts[2].stop()
		c.within(time.Second, "noticing", func() string {
			for _, h := range hosts[:2] {
				if n, _ := h.Node(testID(3)); n.Health != Dead || !n.Draining {
					return fmt.Sprintf("%s: %+v", h.conf.Name, n)
				}
			}
			return ""
		})
		hosts[2].start()
		c.within(10*time.Second, "return", func() string { return allSee(hosts...) })
		if n, _ := hosts[0].Node(testID(3)); n.Draining {
			t.Error("still draining")
		}
	})
}

func TestLossyPacketsKillNobody(t *testing.T) {
	longBubble(t)
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		for _, a := range hosts {
			for _, b := range hosts {
				c.net.Drop(a.ip, b.ip, 0.3)
			}
		}
		for range 1200 {
			time.Sleep(500 * time.Millisecond)
			if fault := allSee(hosts...); fault != "" {
				t.Fatal(fault)
			}
		}
	})
}

// One node can hear and not be heard.
func TestAOneWayCutHeals(t *testing.T) {
	longBubble(t)
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		c.net.CutOneWay(hosts[2].ip, hosts[0].ip)
		c.net.CutOneWay(hosts[2].ip, hosts[1].ip)
		c.within(time.Minute, "notice on both sides", func() string {
			if hosts[0].Alive(testID(3)) || hosts[1].Alive(testID(3)) || hosts[2].Alive(testID(1)) || hosts[2].Alive(testID(2)) {
				return "still alive"
			}
			return ""
		})
		time.Sleep(11 * time.Minute)
		c.net.HealAll()
		c.within(time.Minute, "healing", func() string { return allSee(hosts...) })
	})
}

func TestAFlappingLinkSettles(t *testing.T) {
	longBubble(t)
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		for range 60 {
			c.net.Cut(hosts[0].ip, hosts[2].ip)
			c.net.Cut(hosts[1].ip, hosts[2].ip)
			time.Sleep(2 * time.Second)
			c.net.HealAll()
			time.Sleep(2 * time.Second)
		}
		c.within(time.Minute, "settling", func() string { return allSee(hosts...) })
		time.Sleep(10 * time.Minute)
		if fault := allSee(hosts...); fault != "" {
			t.Error(fault)
		}
	})
}

func TestNobodyToMeetIsToldSeldom(t *testing.T) {
	inBubble(t, func(c *cluster) {
		var out bytes.Buffer
		h := c.host(1, 3, gossipAt(8), "gone.example:7072")
		h.conf.Logger = slog.New(slog.NewTextHandler(&out, nil))
		h.start()
		time.Sleep(10*time.Minute + 30*time.Second)
		h.kill()
		if n := strings.Count(out.String(), "no other node can be met yet"); n < 9 || n > 12 {
			t.Errorf("told %d times in 10 minutes: %s", n, out.String())
		}
		if s := h.Stats(); s.JoinAttempts < 300 || s.JoinFailures != s.JoinAttempts {
			t.Errorf("got %+v", s)
		}
	})
}

// Names and addresses may be mixed in --join; none is lost, whichever answer comes first.
func TestSeedsOfBothKindsAreKept(t *testing.T) {
	var names, want []string
	for i := range 60 {
		if i%2 == 0 {
			names = append(names, fmt.Sprintf("name%d.example:7072", i))
		} else {
			names = append(names, fmt.Sprintf("10.1.0.%d:7072", i))
		}
		want = append(want, fmt.Sprintf("10.1.0.%d:7072", i))
	}
	m := &Membership{ctx: t.Context()}
	m.config.Join, m.config.Timing.Stream = names, 10*time.Second
	m.config.Resolve = func(_ context.Context, host string) ([]net.IP, error) {
		var i byte
		if _, err := fmt.Sscanf(host, "name%d.example", &i); err != nil {
			return nil, err
		}
		return []net.IP{net.IPv4(10, 1, 0, i)}, nil
	}
	for range 200 {
		got, err := m.resolveSeeds()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got %d seeds %v, want %d", len(got), got, len(want))
		}
	}
}
