package quorum

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	now := time.Unix(0, 0)
	var b breaker
	fail := func() bool { return b.silence(now, now.Add(-time.Second), r) }
	for i := range breakerThreshold - 1 {
		if fail() || !b.ready(now) {
			t.Fatalf("open after %d failures", i+1)
		}
	}
	if !fail() || b.ready(now) {
		t.Fatal("not open at the threshold")
	}
	for range 2 {
		if fail() {
			t.Error("a straggler opens it again")
		}
	}
	wait := breakerMinWait
	for range 10 { // failing probes: the wait doubles up to its limit
		if b.ready(now.Add(wait/2 - 1)) {
			t.Fatalf("ready before half of %v", wait)
		}
		now = now.Add(wait)
		if !b.acquire(now) {
			t.Fatalf("no probe after %v", wait)
		}
		if b.acquire(now) || b.ready(now) {
			t.Fatal("two probes at once")
		}
		sent := now
		if b.silence(now, sent.Add(-time.Minute), r); !b.probing {
			t.Fatal("a straggler ended the probe")
		}
		now = now.Add(time.Millisecond)
		b.silence(now, sent, r)
		wait = min(2*wait, breakerMaxWait)
	}
	now = now.Add(wait)
	b.acquire(now)
	b.unsure(now) // the probe met a full queue: another one soon
	if b.ready(now) || !b.ready(now.Add(breakerMinWait)) {
		t.Error("a probe that told nothing")
	}
	now = now.Add(breakerMinWait)
	b.acquire(now)
	b.reply(now)
	if !b.ready(now) || b.failures != 0 {
		t.Error("a reply does not close it")
	}
	// Slow is not down: timeouts of requests sent before the last reply do not count.
	for range 100 {
		b.reply(now)
		if b.silence(now, now.Add(-time.Second), r) {
			t.Fatal("opened though the peer answers")
		}
	}
}

func TestLatency(t *testing.T) {
	now := time.Unix(0, 0)
	var l latency
	if got := l.percentile(); got != latencyPrior {
		t.Errorf("without samples: %v", got)
	}
	for i := range 1000 {
		took := time.Millisecond
		if i%10 == 0 {
			took = 40 * time.Millisecond
		}
		l.observe(now, took)
	}
	if got := l.percentile(); got < 40*time.Millisecond || got > 46*time.Millisecond {
		t.Errorf("one in ten takes 40ms: p95 %v", got)
	}
	for range latencyWindow {
		l.observe(now, time.Millisecond)
	}
	if got := l.percentile(); got > 2*time.Millisecond {
		t.Errorf("after a window of 1ms: p95 %v", got)
	}
	quick := l
	l.late(now, 500*time.Millisecond)
	if l.score(now, 0) < 100*quick.score(now, 0) {
		t.Error("a late answer does not show")
	}
	if l.percentile() != quick.percentile() {
		t.Error("a late answer must not feed the percentile")
	}
	if quick.score(now, 3) <= quick.score(now, 0) {
		t.Error("load does not show")
	}
	later := now.Add(time.Minute)
	if l.score(later, 0) > quick.score(now, 0) {
		t.Error("a slow replica is never tried again")
	}
	if l.score(later, 1) < quick.score(now, 0) {
		t.Error("a slow replica is tried by several at once")
	}
}

func TestHedgeBudget(t *testing.T) {
	var b hedgeBudget
	if b.spend() {
		t.Error("spent what was not earned")
	}
	sent := 0
	for range 10_000 {
		b.earn()
		if b.spend() {
			sent++
		}
	}
	if sent < 450 || sent > 500 {
		t.Errorf("%d hedges in 10000 reads, want at most 5%%", sent)
	}
	for range 100_000 {
		b.earn()
	}
	for sent = 0; b.spend(); sent++ {
	}
	if sent > 10 {
		t.Errorf("%d hedges saved up", sent)
	}
}
