package faults

import (
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/proc"
)

// F9: a split of one against two under load, for longer than membership remembers the dead. The smaller side refuses every strict request
// within its deadline, the larger one serves; the cluster heals by itself.
func TestSplit(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	alone, rest := c.nodes[2], c.nodes[:2]
	l, w := c.underLoad(3 * time.Second)
	n.cut([]*proc.Process{alone}, rest)
	split := time.Now()
	l.note("n3 is cut off")
	noticed := split.Add(c.unseen(alone, rest...))
	l.note("noticed after %v", noticed.Sub(split).Round(time.Millisecond))
	c.pass(time.Until(split.Add(time.Minute)))
	until := time.Now().Add(-witnessTimeout) // later ones may be answered after the split
	n.heal()
	healed := time.Now()
	took := c.healed(time.Minute)
	l.note("healed; all is well after %v", took.Round(time.Millisecond))
	back := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	w.refuses("through the smaller side", w.between(split, until, alone))
	w.show("through the larger side, before it was noticed", w.between(split, noticed, rest...))
	w.serves("through the larger side, from then on", w.between(noticed, healed, rest...))
	w.show("through all, until all is well", w.between(healed, back, c.nodes...))
	w.serves("through all, healed", w.between(back, time.Now(), c.nodes...))
	l.pass()
}

// F10: a link that works in one direction only. The node at its end must not take its own word, or what it hears, for a quorum.
func TestOneWayCut(t *testing.T) {
	long(t)
	for _, test := range []struct {
		name string
		cut  func(n *network, one, rest []*proc.Process)
	}{
		{"receives, cannot send", func(n *network, one, rest []*proc.Process) { n.mute(one, rest) }},
		{"sends, cannot receive", func(n *network, one, rest []*proc.Process) { n.mute(rest, one) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			long(t)
			n, c := namespaces(t, 3)
			one, rest := c.nodes[2:], c.nodes[:2]
			l, w := c.underLoad(3 * time.Second)
			test.cut(n, one, rest)
			cut := time.Now()
			l.note("n3 %s", test.name)
			noticed := cut.Add(c.unseen(one[0], rest...))
			l.note("noticed after %v", noticed.Sub(cut).Round(time.Millisecond))
			c.pass(time.Until(cut.Add(30 * time.Second)))
			until := time.Now().Add(-witnessTimeout)
			n.heal()
			healed := time.Now()
			l.note("healed; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
			back := time.Now()
			c.pass(3 * time.Second)
			w.stop()
			w.refuses("through it", w.between(cut, until, one...))
			w.show("through the others, before it was noticed", w.between(cut, noticed, rest...))
			w.serves("through the others, from then on", w.between(noticed, healed, rest...))
			w.serves("through all, healed", w.between(back, time.Now(), c.nodes...))
			l.pass()
		})
	}
}

// F11: a link that comes and goes every 2 s.
func TestFlappingLink(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	alone, rest := c.nodes[2], c.nodes[:2]
	l, w := c.underLoad(3 * time.Second)
	began := time.Now()
	for i := 0; time.Since(began) < 30*time.Second; i++ {
		if i%2 == 0 {
			n.cut([]*proc.Process{alone}, rest)
		} else {
			n.heal()
		}
		c.pass(2 * time.Second)
	}
	n.heal()
	ended := time.Now()
	l.note("the link is stable; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	back := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	w.serves("through the nodes between which the link is good", w.between(began, ended, rest...))
	w.show("through the node at the end of the flapping link", w.between(began, ended, alone))
	w.serves("through all, healed", w.between(back, time.Now(), c.nodes...))
	l.pass()
}

// F11: two halves that only one node sees. Membership, which asks through others, sees everybody alive; who owns a key on both sides of the
// gap cannot reach its quorum there, and must say so in time.
func TestBridgePartition(t *testing.T) {
	long(t)
	n, c := namespaces(t, 5)
	left, middle, right := c.nodes[:2], c.nodes[2], c.nodes[3:]
	l, w := c.underLoad(3 * time.Second)
	n.cut(left, right)
	began := time.Now()
	l.note("n1 and n2 see n4 and n5 no more; n3 sees all")
	c.pass(30 * time.Second)
	n.heal()
	ended := time.Now()
	l.note("healed; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	back := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	for _, p := range c.nodes {
		w.answers("through "+p.Name, w.between(began, ended, p))
	}
	w.show("through the node that sees all", w.between(began, ended, middle))
	w.serves("through all, healed", w.between(back, time.Now(), c.nodes...))
	l.pass()
}
