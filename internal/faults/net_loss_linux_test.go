package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
)

// F12: the connections of the replica protocol between two nodes go dead in silence: their packets are dropped, new connections work.
// Requests go on through the third replica within their deadline, the kernel ends the dead connections (TCP_USER_TIMEOUT), and new ones
// take their place while the old ones are still dropped.
func TestHalfOpenConnections(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	l, w := c.underLoad(3 * time.Second)
	a, b := c.nodes[0], c.nodes[1]
	dead := n.connections(a, b)
	if len(dead) < 2 { // one in each direction at least
		t.Fatalf("connections between n1 and n2: %q, want at least 2", dead)
	}
	n.silence(dead)
	began := time.Now()
	l.note("%d connections between n1 and n2 go dead", len(dead))
	took := c.until(30*time.Second, func(context.Context) error {
		for _, p := range []*proc.Process{a, b} {
			for _, open := range n.established(p) {
				for _, d := range dead {
					if open == d || open == d.back() {
						return fmt.Errorf("%s still holds %v", p.Name, d)
					}
				}
			}
		}
		return nil
	})
	l.note("the kernel has ended them after %v", took.Round(time.Millisecond))
	all, err := client.New(client.Config{Nodes: []string{a.URL()}, Timeout: witnessTimeout})
	c.must(err)
	defer all.Close()
	took = c.until(30*time.Second, func(ctx context.Context) error {
		_, err := all.Put(ctx, "witness", "all-of-them", []byte("v"), client.Options{W: "all"})
		return err
	})
	l.note("n1 writes to all replicas again after %v more, by %d new connections", took.Round(time.Millisecond), len(n.connections(a, b)))
	ended := time.Now()
	n.heal()
	c.pass(2 * time.Second)
	w.stop()
	w.serves("through all nodes, meanwhile", w.between(began, ended, c.nodes...))
	l.pass()
}

// F13: a third of the UDP packets is lost. Membership probes by TCP too, so nobody is declared dead for long; data does not go by UDP.
func TestUDPLoss(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	l, w := c.underLoad(2 * time.Second)
	n.loseUDP(30)
	began := time.Now()
	l.note("30 %% of UDP packets are lost")
	since := map[string]time.Time{} // who sees whom dead → since when
	worst := map[string]time.Duration{}
	looks := 0
	for time.Since(began) < 40*time.Second {
		for _, p := range c.nodes {
			all, err := members(t.Context(), p)
			c.must(err)
			for _, m := range all {
				who := p.Name + " sees " + m.Name + " " + m.Health
				for _, health := range []string{"suspect", "dead"} {
					if other := p.Name + " sees " + m.Name + " " + health; other != who {
						delete(since, other)
					}
				}
				if m.Health == "alive" {
					continue
				}
				if since[who].IsZero() {
					since[who] = time.Now()
				}
				worst[who] = max(worst[who], time.Since(since[who]))
			}
			looks++
		}
		c.pass(pollTick)
	}
	ended := time.Now()
	if dropped := n.lost(); dropped < 50 {
		t.Errorf("%d UDP packets were dropped: they show nothing", dropped)
	} else {
		t.Logf("%d UDP packets were dropped; not alive in %d looks, longest: %v", dropped, looks, worst)
	}
	for who, d := range worst {
		if strings.HasSuffix(who, "dead") && d > 10*time.Second {
			t.Errorf("%s for %v, want at most 10 s", who, d)
		}
	}
	n.heal()
	l.note("no more loss; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	w.stop()
	w.serves("through all nodes, meanwhile", w.between(began, ended, c.nodes...))
	l.pass()
}

// tuple is one TCP connection as one of its ends sees it: addresses with ports.
type tuple struct{ local, remote string }

func (c tuple) back() tuple { return tuple{c.remote, c.local} }

// element is the tuple as a rule of the switch names it.
func (c tuple) element() string {
	return strings.ReplaceAll(c.local, ":", " . ") + " . " + strings.ReplaceAll(c.remote, ":", " . ")
}

// established are the TCP connections that the kernel of a node's namespace holds open.
func (n *network) established(p *proc.Process) (open []tuple) {
	n.t.Helper()
	out, err := output("", "ip", "netns", "exec", n.prefix+"."+p.Name, "ss", "-Htn", "state", "established")
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 {
			n.t.Fatal(errors.New("a line of ss that makes no sense: " + line))
		}
		// A socket that takes both families shows IPv4 addresses as [::ffff:10.1.2.3].
		plain := strings.NewReplacer("[::ffff:", "", "]", "")
		open = append(open, tuple{plain.Replace(f[2]), plain.Replace(f[3])})
	}
	return open
}

// connections are the established connections of the replica protocol between two nodes, as the first one sees them.
func (n *network) connections(a, b *proc.Process) (open []tuple) {
	n.t.Helper()
	port := fmt.Sprint(":", peerPort)
	for _, c := range n.established(a) {
		if strings.HasPrefix(c.remote, n.addr[b].String()+":") && (strings.HasSuffix(c.remote, port) || strings.HasSuffix(c.local, port)) {
			open = append(open, c)
		}
	}
	return open
}

// silence drops the packets of connections, both ways.
func (n *network) silence(all []tuple) {
	n.t.Helper()
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "add element bridge faults half { %s, %s }\n", c.element(), c.back().element())
	}
	n.switchRules(b.String())
}

// lost is how many UDP packets the switch has dropped.
func (n *network) lost() (packets int) {
	n.t.Helper()
	out, err := output("", "ip", "netns", "exec", n.prefix+".switch", "nft", "list", "chain", "bridge", "faults", "loss")
	if err != nil {
		n.t.Fatal(err)
	}
	_, after, _ := strings.Cut(out, "counter packets ")
	if _, err := fmt.Sscan(after, &packets); err != nil {
		n.t.Fatalf("read the counter of %q: %v", out, err)
	}
	return packets
}
