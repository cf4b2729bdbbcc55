package memnet

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// talk is one direction of a stream in a run of random faults: the bytes are a sequence that tells where each belongs.
type talk struct {
	sent, got int
	ended     error // how the reader's side ended
}

func nth(i int) byte { return byte(i*7 + i>>8) }

// Whatever happens to the network, a reader sees the first part of what was written and nothing else; it sees all of it where the
// stream was closed in order; all comes to an end; and the books are kept.
func TestRandomFaults(t *testing.T) {
	runs := uint64(40)
	if testing.Short() {
		runs = 20
	}
	whole, broken := 0, 0
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b := randomFaults(t, seed)
				whole, broken = whole+w, broken+b
			})
		})
	}
	if whole < int(runs) || broken < int(runs) {
		t.Errorf("%d directions came whole and %d broke: one of them is hardly tested", whole, broken)
	}
}

func randomFaults(t *testing.T, seed uint64) (whole, broken int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	n := New(seed)
	hosts := []string{"p", "q", "r"}
	var (
		mu    sync.Mutex
		talks []*talk
		wg    sync.WaitGroup
	)
	// end writes and reads at one end, in its own time.
	end := func(c net.Conn, seed uint64, out, in *talk) {
		rng := rand.New(rand.NewPCG(seed, 8))
		hurry, patience := rng.IntN(2) == 0, time.Duration(rng.IntN(15_000))*time.Millisecond // before the writer draws
		var both sync.WaitGroup
		both.Go(func() {
			for range rng.IntN(20) {
				b := make([]byte, rng.IntN(40_000))
				for i := range b {
					b[i] = nth(out.sent + i)
				}
				k, err := c.Write(b)
				out.sent += k
				if err != nil {
					return
				}
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
			}
		})
		both.Go(func() {
			b := make([]byte, 10_000)
			for {
				k, err := c.Read(b)
				for i := range k {
					if b[i] != nth(in.got+i) {
						t.Errorf("byte %d is wrong", in.got+i)
						return
					}
				}
				in.got += k
				if err != nil {
					in.ended = err
					return
				}
			}
		})
		if hurry { // else the other end closes first
			time.Sleep(patience)
		} else if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err == nil {
			both.Wait()
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		both.Wait()
	}
	boot := func(name string) {
		h := n.Host(name)
		l, err := h.Listen(name + ":1")
		if err != nil {
			t.Error(err)
			return
		}
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				out, in := &talk{}, &talk{}
				talks = append(talks, out, in)
				near, far := rng.Uint64(), rng.Uint64()
				other := &c.(*Stream).conn.ends[0]
				mu.Unlock()
				wg.Go(func() { end(c, near, out, in) })
				wg.Go(func() { end(other, far, in, out) })
			}
		})
	}
	for _, h := range hosts {
		boot(h)
	}
	pick := func() string { return hosts[rng.IntN(len(hosts))] }
	for range 60 {
		mu.Lock()
		from, to, dice := pick(), pick(), rng.IntN(20)
		r := Rule{Delay: time.Duration(rng.IntN(300)) * time.Millisecond, Jitter: time.Duration(rng.IntN(300)) * time.Millisecond}
		if rng.IntN(4) == 0 {
			r.Rate = 20_000 + rng.IntN(200_000)
		}
		wait := time.Duration(rng.IntN(800)) * time.Millisecond
		silent := rng.IntN(2) == 0
		mu.Unlock()
		switch {
		case dice < 8:
			h := n.Host(from)
			wg.Go(func() {
				_, _ = h.Dial(t.Context(), to+":1") // may fail; who accepts it drives both ends
			})
		case dice < 10:
			n.Cut(from, to)
		case dice < 12:
			n.CutOneWay(from, to)
		case dice < 14:
			n.Heal(from, to)
		case dice < 16:
			n.SetLink(from, to, r)
		case dice < 17:
			n.Pause(from)
		case dice < 18:
			n.Resume(from)
		case dice < 19:
			n.Reset(from, to)
		default:
			n.Host(from).Crash(silent)
			time.Sleep(wait)
			boot(from)
		}
		time.Sleep(wait)
		books(t, n)
	}
	n.HealAll()
	for _, h := range hosts {
		n.Resume(h)
	}
	time.Sleep(time.Hour)
	for _, h := range hosts {
		n.Host(h).Crash(false)
	}
	wg.Wait()
	books(t, n)
	if len(n.conns) != 0 || len(n.sockets) != 0 {
		t.Errorf("%d streams and %d sockets are remembered", len(n.conns), len(n.sockets))
	}
	for _, k := range talks {
		switch {
		case k.got > k.sent:
			t.Errorf("got %d bytes of %d", k.got, k.sent)
		case errors.Is(k.ended, io.EOF) && k.got != k.sent:
			t.Errorf("the end after %d bytes of %d", k.got, k.sent)
		case errors.Is(k.ended, io.EOF):
			whole++
		default:
			broken++
		}
	}
	return whole, broken
}

// books checks what the network notes about its streams.
func books(t *testing.T, n *Network) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		for i := range c.halves {
			h := &c.halves[i]
			under := 0
			var last time.Time
			stuck := false
			for _, s := range h.underWay() {
				under += s.n
				if stuck && !s.at.IsZero() || s.at.Before(last) && !s.at.IsZero() {
					t.Errorf("out of order: %v", h.underWay())
				}
				stuck, last = s.at.IsZero(), s.at
			}
			if h.ready < 0 || h.ready+under != h.size || h.size > window || h.size > len(h.buf) {
				t.Errorf("%d bytes: %d ready and %d under way, in %d", h.size, h.ready, under, len(h.buf))
			}
			if stuck && !h.blocked() && !h.writer.host.paused && !slices.ContainsFunc(h.underWay(), func(s segment) bool { return !s.at.IsZero() }) {
				t.Error("bytes wait for nothing")
			}
		}
	}
}
