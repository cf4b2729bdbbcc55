package gossip

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOtherClustersAreKeptOut(t *testing.T) {
	longBubble(t)
	// x and y are two clusters that were pointed at each other; order is in which their hosts start.
	for _, order := range []string{"xyxyxy", "xxxyyy", "yyxxyx"} {
		t.Run("another name "+order, func(t *testing.T) {
			inBubble(t, func(c *cluster) {
				x, y := c.mixed(order, func(conf *Config) { conf.Cluster = "other" })
				c.within(30*time.Second, "forming", func() string { return oneRing(x...) + oneRing(y...) })
				time.Sleep(10 * time.Minute)
				separate(t, x, y)
				if x[0].Stats().OtherCluster+y[0].Stats().OtherCluster == 0 {
					t.Error("nothing was counted")
				}
			})
		})
	}
	t.Run("the same name", func(t *testing.T) {
		inBubble(t, func(c *cluster) {
			x := c.formed()
			c.net.Split([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, []string{"10.0.0.11", "10.0.0.12", "10.0.0.13"})
			var y []*host
			for i := range 3 {
				y = append(y, c.host(11+i, 3, gossipAt(11), gossipAt(1)))
				y[i].start()
			}
			c.within(30*time.Second, "forming", func() string { return oneRing(y...) })
			c.net.HealAll()
			time.Sleep(10 * time.Minute)
			separate(t, x, y)
			if x[0].Stats().Refused == 0 || y[0].Stats().Refused == 0 {
				t.Errorf("refused %d and %d", x[0].Stats().Refused, y[0].Stats().Refused)
			}

			// A fresh node that is pointed at both follows one; neither ring takes nodes of the other through it.
			f := c.host(21, 3, gossipAt(1), gossipAt(11))
			f.start()
			c.within(10*time.Second, "following", func() string {
				if f.Layout() == nil {
					return "no layout"
				}
				return ""
			})
			own, other := x, y
			if f.Layout().Cluster() == y[0].Layout().Cluster() {
				own, other = y, x
			}
			c.within(20*time.Second, "settling", func() string { return allSee(append(own, f)...) })
			time.Sleep(time.Minute)
			separate(t, append(own, f), other)
		})
	})
}

// mixed starts three hosts of each of two clusters, all pointed at all.
func (c *cluster) mixed(order string, change func(*Config)) (x, y []*host) {
	join := []string{gossipAt(1), gossipAt(11)}
	for _, r := range order {
		var h *host
		if r == 'x' {
			h = c.host(1+len(x), 3, join...)
			x = append(x, h)
		} else {
			h = c.host(11+len(y), 3, join...)
			change(&h.conf)
			y = append(y, h)
		}
		h.start()
		time.Sleep(300 * time.Millisecond)
	}
	return x, y
}

func separate(t *testing.T, x, y []*host) {
	t.Helper()
	for _, sides := range [][2][]*host{{x, y}, {y, x}} {
		for _, h := range sides[0] {
			for _, o := range sides[1] {
				if n, known := h.Node(o.conf.Self); known {
					t.Errorf("%s knows %+v", h.conf.Name, n)
				}
			}
		}
		if fault := allSee(sides[0]...); fault != "" {
			t.Error(fault)
		}
	}
}

func TestACopiedDataDirectoryIsFoundOut(t *testing.T) {
	inBubble(t, func(c *cluster) {
		hosts := c.formed()
		time.Sleep(time.Minute)
		twin := c.host(9, 3, gossipAt(1))
		twin.conf.Self, twin.disk = hosts[2].conf.Self, hosts[2].disk.copy()
		twin.start()
		c.within(10*time.Second, "finding out", func() string {
			if ok, reason := twin.Ready(); ok || !strings.Contains(reason, "data directory was copied") {
				return fmt.Sprint(ok, " ", reason)
			}
			return ""
		})
		select {
		case err := <-twin.Failed():
			if !strings.Contains(err.Error(), "10.0.0.3:7072") {
				t.Errorf("got %v", err)
			}
		default:
			t.Error("Failed has nothing")
		}
		time.Sleep(time.Minute)
		if fault := oneRing(hosts...) + allSee(hosts...); fault != "" {
			t.Error(fault)
		}
		twin.stop() // its goodbye must not be taken for the other one's
		time.Sleep(5 * time.Second)
		if fault := oneRing(hosts...) + allSee(hosts...); fault != "" {
			t.Error(fault)
		}
	})
}
