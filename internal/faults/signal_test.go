package faults

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/proc"
)

// others are all nodes but one.
func (c *cluster) others(p *proc.Process) []*proc.Process {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(o *proc.Process) bool { return o == p })
}

// pass lets time go by under load.
func (c *cluster) pass(d time.Duration) {
	c.t.Helper()
	if !wait(c.t.Context(), d) {
		c.t.Fatal("the test was ended")
	}
}

// The short one, which always runs: one node is killed under load and comes back.
func TestKillOneNode(t *testing.T) {
	c := loopback(t, 3)
	c.start()
	l := c.newLoad(nil)
	l.begin()
	c.pass(time.Second)
	c.kill(c.nodes[2])
	l.note("kill -9 of n3")
	c.pass(time.Second)
	c.restart(c.nodes[2])
	l.note("n3 is back")
	c.pass(time.Second)
	l.pass()
}

// F1, F2: kill -9 of a minority in a loop under load, each node in turn. Every node is the coordinator of the requests that are under
// way through it when it dies: their clients see a broken connection, and the write is then wholly there or wholly not.
func TestKillMinorityInALoop(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	l, w := c.underLoad(2 * time.Second)
	var through []sighting
	for round := range 10 {
		victim := c.nodes[round%3]
		killed := time.Now()
		c.kill(victim)
		l.note("kill -9 of %s", victim.Name)
		c.pass(time.Second)
		c.restart(victim)
		c.pass(time.Until(killed.Add(3 * time.Second)))
		through = append(through, w.between(killed, time.Now(), c.others(victim)...)...)
	}
	w.stop()
	w.serves("through the nodes that were not killed", through)
	l.pass()
}

// F3: kill -9 of all nodes at once under load; they are ready again within 30 s, and the ring is the same.
func TestKillAll(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	ring := c.ring()
	l := c.newLoad(nil)
	l.begin()
	for range 3 {
		c.pass(3 * time.Second)
		c.kill(c.nodes...)
		began := time.Now()
		c.restart(c.nodes...)
		l.note("kill -9 of all: ready again after %v", time.Since(began).Round(time.Millisecond))
		if got := c.ring(); got != ring {
			t.Errorf("the ring after the restart is %s, want %s", got, ring)
		}
	}
	c.pass(2 * time.Second)
	l.pass()
}

// Without a majority of the owners no strict request is confirmed: it is refused within its deadline. With them back, all is well.
func TestKillMajority(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	l := c.newLoad(nil)
	l.begin()
	w := c.watch(c.nodes[0])
	c.pass(3 * time.Second)
	c.kill(c.nodes[1:]...)
	l.note("kill -9 of n2 and n3")
	from := time.Now()
	c.pass(12 * time.Second)
	until := time.Now().Add(-witnessTimeout) // later ones may be answered by the nodes that come back
	c.restart(c.nodes[1:]...)
	l.note("n2 and n3 are back; all is well after %v", c.healed(readyTime).Round(time.Millisecond))
	back := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	w.refuses("through n1, without n2 and n3", w.between(from, until, c.nodes[0]))
	w.serves("through n1, with all", w.between(back, time.Now(), c.nodes[0]))
	l.pass()
}

// F15: a node that stops for a while and goes on without a restart. While it stands still the others notice and serve; when it goes on
// it rejoins by itself, and no read shows what was replaced meanwhile.
func TestPause(t *testing.T) {
	long(t)
	for _, length := range []time.Duration{5 * time.Second, 40 * time.Second} {
		t.Run(length.String(), func(t *testing.T) {
			long(t)
			c := loopback(t, 3)
			l, w := c.underLoad(2 * time.Second)
			victim, rest := c.nodes[2], c.nodes[:2]
			c.must(victim.Pause())
			paused := time.Now()
			l.note("SIGSTOP of n3")
			noticed := paused.Add(c.unseen(victim, rest...))
			l.note("its silence is noticed after %v", noticed.Sub(paused).Round(time.Millisecond))
			c.pass(time.Until(paused.Add(length)))
			c.must(victim.Resume())
			resumed := time.Now()
			l.note("SIGCONT of n3; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
			healed := time.Now()
			c.pass(3 * time.Second)
			w.stop()
			w.show("through the others, before it was noticed", w.between(paused, noticed, rest...))
			w.serves("through the others, from then on until all is well", w.between(noticed, healed, rest...))
			w.show("through it, from SIGCONT until all is well", w.between(resumed, healed, victim))
			w.serves("through all, healed", w.between(healed, time.Now(), c.nodes...))
			l.pass()
		})
	}
}

// F6: each node is restarted every 5 s for a minute, by kill -9 and by SIGTERM in turn. There is never a lasting loss of the quorum, and
// contexts stay small although every unclean stop makes a new actor.
func TestRestartStorm(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	l := c.newLoad(nil)
	l.begin()
	w := c.watch(c.nodes...)
	began := time.Now()
	restarts := 0
	for ; time.Since(began) < time.Minute; restarts++ {
		victim := c.nodes[restarts%3]
		next := time.Now().Add(5 * time.Second / 3)
		if restarts%2 == 0 {
			c.kill(victim)
		} else if code, err := victim.Stop(15 * time.Second); err != nil || code != 0 {
			t.Fatalf("%s ended with %d, %v after SIGTERM, want 0", victim.Name, code, err)
		}
		c.restart(victim)
		c.pass(time.Until(next))
	}
	ended := time.Now()
	l.note("%d restarts are over; all is well after %v", restarts, c.healed(time.Minute).Round(time.Millisecond))
	healed := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	during := w.between(began, ended, c.nodes...)
	w.show(fmt.Sprint("during ", restarts, " restarts, through all nodes, also those that are down"), during)
	if gap := drought(began, ended, during); gap > 5*time.Second {
		t.Errorf("no request succeeded for %v, want at most 5 s", gap)
	} else {
		t.Logf("longest time without a success: %v", gap.Round(time.Millisecond))
	}
	w.serves("through all, healed", w.between(healed, time.Now(), c.nodes...))
	longest := 0
	for _, o := range l.pass().History {
		longest = max(longest, len(o.ContextOut))
	}
	if longest == 0 || longest > 4<<10 {
		t.Errorf("the longest context has %d bytes, want 1 to 4096", longest)
	}
	t.Logf("the longest context has %d bytes", longest)
}

// F8: SIGTERM, and SIGKILL one second later while the node still drains: as kill -9, nothing acknowledged is lost.
func TestKillWhileDraining(t *testing.T) {
	long(t)
	c := loopback(t, 3)
	c.start()
	l := c.newLoad(nil)
	l.begin()
	c.pass(2 * time.Second)
	for round := range 6 {
		victim := c.nodes[round%3]
		hold(t, victim)
		c.must(victim.Signal(syscall.SIGTERM))
		c.pass(time.Second)
		if !victim.Running() {
			t.Fatalf("%s has drained within a second although a request is under way: SIGKILL hits nothing", victim.Name)
		}
		c.kill(victim)
		l.note("SIGTERM of %s, and SIGKILL after 1 s", victim.Name)
		c.restart(victim)
		c.pass(time.Second)
	}
	l.note("all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	l.pass()
}

// hold sends half a request, so that the node has something to wait for when it drains.
func hold(t *testing.T, p *proc.Process) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, fmt.Sprint(p.HTTP)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the node has reset it by then
	if _, err := fmt.Fprint(conn, "PUT /v1/kv/held/k?timeout=60s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// The node asks for the body once it works on the request.
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("half a request is answered %q, %v, want 100 Continue", line, err)
	}
}
