package quorum

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Pressure follows operations that become slower within a second or two, and is 1 while they are as usual, where there are none, and once they
// are quick again.
func TestPressure(t *testing.T) {
	var p pace
	r := rand.New(rand.NewPCG(1, 1))
	now := int64(0)
	run := func(d time.Duration, each, took time.Duration) {
		for end := now + int64(d); now < end; {
			now += int64(each)
			p.note(now, took*4/5+time.Duration(r.Int64N(int64(took)*2/5))) // 20 % about took
		}
	}
	between := func(what string, lo, hi float64) {
		t.Helper()
		if got := p.pressure(now, false); got < lo || got > hi {
			t.Errorf("%s: %.2f, want %.1f to %.1f", what, got, lo, hi)
		}
	}
	between("before anything", 1, 1)
	run(time.Minute, 10*time.Millisecond, 2*time.Millisecond)
	between("as usual", 1, 1.3)
	run(2*time.Second, 10*time.Millisecond, 10*time.Millisecond)
	between("five times slower", 3.5, 5.5)
	run(2*time.Second, 10*time.Millisecond, 2*time.Millisecond)
	between("as before", 1, 1.6)
	run(2*time.Second, 10*time.Millisecond, 500*time.Microsecond)
	between("quicker", 1, 1.3)
	run(20*time.Second, 10*time.Millisecond, 2*time.Millisecond)
	run(2*time.Second, 10*time.Millisecond, 20*time.Millisecond)
	between("slow again", 5, 20)
	now += int64(10 * time.Second)
	between("after nothing for a while", 1, 1.1)
	p.note(now, 5*time.Second)
	now += int64(pressureWindow)
	between("one that hung, alone", 1, pressureCap)
	run(2*time.Second, 10*time.Millisecond, 2*time.Millisecond)
	run(30*time.Minute, 100*time.Millisecond, 20*time.Millisecond)
	between("what lasts for half an hour is usual", 1, 1.5)
}

// What is below the noise of a timer is no pressure.
func TestPressureOfQuickOperations(t *testing.T) {
	var p pace
	now := int64(0)
	for range 10_000 {
		now += int64(time.Millisecond)
		p.note(now, 10*time.Microsecond)
	}
	for range 5000 {
		now += int64(time.Millisecond)
		p.note(now, 60*time.Microsecond)
	}
	if got := p.pressure(now, false); got > 1.5 {
		t.Errorf("got %.2f", got)
	}
}

// Operations that hang are pressure as well, though none of them ends.
func TestPressureOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		node := c.owners(key)[0]
		slow := time.Millisecond
		c.fates = func(_, _ ring.NodeID, _ string) fate { return fate{delay: slow} }
		run := func(n int) {
			for range n {
				if _, err := node.coordinator.Put(t.Context(), key, text("v"), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		run(3000)
		if got := node.coordinator.Pressure(); got > 1.2 {
			t.Errorf("as usual: %.2f", got)
		}
		c.set(func() { slow = 20 * time.Millisecond })
		run(100)
		before := node.coordinator.Pressure()
		if before < 5 {
			t.Errorf("twenty times slower: %.2f", before)
		}
		c.set(func() { slow = 3 * time.Second })
		done := make(chan struct{})
		go func() { run(1); close(done) }()
		time.Sleep(2 * time.Second)
		if got := node.coordinator.Pressure(); got < before/2 {
			t.Errorf("hanging: %.2f, before %.2f", got, before)
		}
		<-done
		c.set(func() { slow = time.Millisecond })
		time.Sleep(10 * time.Second)
		if got := node.coordinator.Pressure(); got > 1.2 {
			t.Errorf("idle: %.2f", got)
		}
	})
}
