package gossip

import (
	"testing"
	"time"
)

// A node that was cut off comes back with the news that all others had died, which they hear of each other before they can refute it.
// They go on counting on each other meanwhile, unless the other does not answer any more.
func TestDeathByHearsayDoesNotCount(t *testing.T) {
	for _, test := range []struct {
		name    string
		silence time.Duration // of n2, before the news
		want    bool
	}{
		{"it has just answered", 0, true},
		{"it has not answered for long", 3 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(c *cluster) {
				hosts := c.formed()
				h := hosts[0]
				time.Sleep(5 * time.Second)
				c.net.Cut(h.ip, hosts[1].ip) // the third still sees both, so that n2 stays alive
				time.Sleep(test.silence)
				if got := health(h, 2); got == Dead {
					t.Fatal("n2 is dead before the news")
				}
				for _, n := range h.list.Load().Members() {
					if n.Name == string(testID(2)) {
						(*delegate)(h.Membership).NotifyLeave(n)
					}
				}
				if got := health(h, 2); got != Dead {
					t.Fatalf("n2 is %s after the news, want %s", got, Dead)
				}
				if got := h.Alive(testID(2)); got != test.want {
					t.Errorf("counted on: %t, want %t", got, test.want)
				}
			})
		})
	}
}

// What has left in order is gone at once, and what is really dead is counted on no longer than the cluster calls it alive.
func TestRealDeathCountsAtOnce(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(h *host)
	}{{"left", (*host).stop}, {"killed", (*host).kill}} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(c *cluster) {
				hosts := c.formed()
				test.end(hosts[2])
				for range 20_000 {
					gone, counted := health(hosts[0], 3) == Dead, hosts[0].Alive(testID(3))
					if gone == counted {
						t.Fatalf("dead: %t, counted on: %t", gone, counted)
					}
					if gone {
						return
					}
					time.Sleep(time.Millisecond)
				}
				t.Fatal("n3 is not found dead in 20 s")
			})
		})
	}
}

// health is a node's, as another one tells it.
func health(h *host, of int) string {
	n, _ := h.Node(testID(of))
	return n.Health
}
