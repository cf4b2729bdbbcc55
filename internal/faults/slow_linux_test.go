package faults

import (
	"testing"
	"time"
)

// F16: one node answers half a second late. Requests through the others do not wait for it. The times are figures, not
// a verdict: that p99 stays near what it was is asserted in virtual time.
func TestSlowNode(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	slow, rest := c.nodes[2], c.nodes[:2]
	c.start()
	l := c.newLoad(nil)
	l.begin()
	w := c.watch(c.nodes...)
	began := time.Now()
	c.pass(10 * time.Second)
	late := time.Now()
	heal := n.slow(slow, slowLine{delay: 250 * time.Millisecond})
	l.note("every packet of n3 is 250 ms late, each way")
	c.pass(20 * time.Second)
	ended := time.Now()
	heal()
	l.note("n3 is as fast as before; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	back := time.Now()
	c.pass(3 * time.Second)
	w.stop()
	w.serves("through the fast nodes, before", w.between(began, late, rest...))
	w.serves("through the fast nodes, meanwhile", w.between(late, ended, rest...))
	through := w.between(late.Add(witnessTimeout), ended, slow)
	w.show("through the slow node, meanwhile", through)
	if got, want := quantile(through, 0.5), 500*time.Millisecond; got < want {
		t.Errorf("half of the requests through the slow node took %v or less, want %v at least: it was not slow", got, want)
	}
	w.serves("through all, afterwards", w.between(back, time.Now(), c.nodes...))
	l.pass()
}

// F14: packets of one node come late by 50 to 150 ms, overtake each other, and one in ten comes twice. What arrives twice or late
// does no harm.
func TestReorderedAndDuplicatedPackets(t *testing.T) {
	long(t)
	n, c := namespaces(t, 3)
	l, w := c.underLoad(2 * time.Second)
	heal := n.slow(c.nodes[2], slowLine{delay: 50 * time.Millisecond, jitter: 100 * time.Millisecond, duplicate: 0.1})
	began := time.Now()
	l.note("packets of n3 are 50 to 150 ms late, out of order, some twice")
	c.pass(20 * time.Second)
	ended := time.Now()
	heal()
	l.note("n3's link is good; all is well after %v", c.healed(time.Minute).Round(time.Millisecond))
	w.stop()
	w.serves("through the others, meanwhile", w.between(began, ended, c.nodes[:2]...))
	w.answers("through it, meanwhile", w.between(began, ended, c.nodes[2]))
	l.pass()
}
