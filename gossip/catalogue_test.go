package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// F36, F47: a node that has a ring is started under the name of another cluster, and pointed at that one's nodes. A name can be changed on
// purpose, so it starts; but its ring is another, so neither side takes anything from the other. Under its own name it is back at once.
func TestNodeUnderTheNameOfAnotherCluster(t *testing.T) {
	inBubble(t, func(c *cluster) {
		x := c.formed()
		var y []*host
		for i := range 3 {
			h := c.host(11+i, 3, gossipAt(11))
			h.conf.Cluster = "other"
			y = append(y, h)
			h.start()
		}
		c.within(30*time.Second, "forming", func() string { return oneRing(y...) + allSee(y...) })
		ring, other := x[0].Layout().Cluster(), y[0].Layout().Cluster()

		stray := x[2]
		join := stray.conf.Join
		stray.kill()
		stray.conf.Cluster, stray.conf.Join = "other", []string{gossipAt(11), gossipAt(12)}
		stray.start()
		time.Sleep(5 * time.Minute)
		separate(t, []*host{stray}, y)
		if got := stray.Layout().Cluster(); got != ring {
			t.Errorf("the stray node has ring %s, want its own", got)
		}
		for _, h := range y {
			if h.Layout().Cluster() != other || h.Layout().Version() != 1 {
				t.Errorf("%s has layout %d of ring %s", h.conf.Name, h.Layout().Version(), h.Layout().Cluster())
			}
		}
		if stray.Stats().Refused == 0 || y[0].Stats().Refused+y[1].Stats().Refused+y[2].Stats().Refused == 0 {
			t.Error("nothing was counted as refused")
		}

		stray.kill()
		stray.conf.Cluster, stray.conf.Join = "test", join
		stray.start()
		c.within(30*time.Second, "coming back", func() string { return oneRing(x...) + allSee(x...) })
	})
}

// F48: a late node has the name of a member. Names are for people: it is another node, told apart by its id everywhere, and the member
// stays one.
func TestLateNodeWithAMembersName(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		late := c.host(9, 3, gossipAt(1))
		late.conf.Name = hosts[2].conf.Name
		late.start()
		all := append([]*host{late}, hosts...)
		c.within(30*time.Second, "meeting", func() string { return allSee(all...) })
		time.Sleep(time.Minute)
		for _, h := range all {
			named := map[bool]int{}
			for _, n := range h.Nodes() {
				if n.Name == late.conf.Name {
					named[n.Member]++
				}
				if n.Member != (n.ID != late.conf.Self) || n.Health != Alive {
					t.Errorf("%s sees %+v", h.conf.Self, n)
				}
			}
			if named[true] != 1 || named[false] != 1 {
				t.Errorf("%s sees %d members and %d others of that name, want one each", h.conf.Self, named[true], named[false])
			}
		}
	})
}

// F48: another node, with an id of its own, starts at the address of a member that is down. Neither is taken for the other.
func TestAnotherNodeAtAMembersAddress(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		hosts[2].kill()
		time.Sleep(10 * time.Second)
		other := c.host(9, 3, gossipAt(1))
		other.ip = hosts[2].ip
		other.start()
		c.within(30*time.Second, "following", func() string {
			if other.Layout() == nil {
				return "no layout"
			}
			return ""
		})
		for _, h := range hosts[:2] {
			c.within(30*time.Second, "telling them apart", func() string {
				old, _ := h.Node(hosts[2].conf.Self)
				now, known := h.Node(other.conf.Self)
				if old.Health != Dead || !old.Member || !known || now.Health != Alive || now.Member {
					return fmt.Sprintf("%+v and %+v", old, now)
				}
				return ""
			})
		}
	})
}

// F11: two halves hear each other only through one node between them. Nobody is lost for good, and all see all soon after the cut is gone.
func TestOneNodeConnectsTwoHalves(t *testing.T) {
	inBubble(t, func(c *cluster) {
		var hosts []*host
		for i := range 5 {
			h := c.host(1+i, 5, gossipAt(1))
			hosts = append(hosts, h)
			h.start()
		}
		c.within(30*time.Second, "forming", func() string { return oneRing(hosts...) + allSee(hosts...) })
		cluster := hosts[0].Layout().Cluster()
		for _, left := range hosts[:2] {
			for _, right := range hosts[3:] {
				c.net.Cut(left.ip, right.ip)
			}
		}
		for range 60 {
			time.Sleep(5 * time.Second)
			for _, h := range hosts { // within a half, and with the node between them, nothing is cut
				for _, o := range hosts {
					half, other := slices.Index(hosts, h)/3, slices.Index(hosts, o)/3
					if between := h == hosts[2] || o == hosts[2]; (between || half == other) && !h.Alive(o.conf.Self) {
						t.Errorf("%s does not see %s", h.conf.Name, o.conf.Name)
					}
				}
			}
		}
		c.net.HealAll()
		c.within(time.Minute, "healing", func() string { return oneRing(hosts...) + allSee(hosts...) })
		if got := hosts[4].Layout().Cluster(); got != cluster {
			t.Errorf("the ring is %s, was %s", got, cluster)
		}
	})
}
