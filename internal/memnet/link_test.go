package memnet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Delay moves every byte by the same time: bytes are under way together.
func TestDelayIsPipelined(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Delay("x", "y", time.Second)
		began := time.Now()
		for range 10 {
			j.write(j.x, "0123456789")
		}
		j.expect("ten writes", time.Since(began), 0)
		j.expect("what is under way", j.read(j.y, strings.Repeat("0123456789", 10)), time.Second)
		j.write(j.y, "back")
		j.expect("the other direction", j.read(j.x, "back"), 0)
		j.write(j.x, "last")
		j.close(j.x)
		j.read(j.y, "last")
		j.expect("the end, with the last bytes", j.ends(j.y, io.EOF), 0)
		j.write(j.y, "x")
		j.ends(j.y, io.EOF) // the reset is on its way
		j.write(j.y, "x")
		time.Sleep(time.Second)
		j.writeFails(j.y, syscall.ECONNRESET)
	})
}

func TestJitterKeepsTheOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.SetLink("x", "y", Rule{Delay: time.Millisecond, Jitter: 100 * time.Millisecond})
		const count = 2000
		go func() {
			for i := range count {
				if err := binary.Write(j.x, binary.BigEndian, uint32(i)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
			j.close(j.x)
		}()
		gaps := map[time.Duration]bool{}
		last := time.Now()
		for want := range count {
			var got uint32
			if err := binary.Read(j.y, binary.BigEndian, &got); err != nil || int(got) != want {
				t.Fatalf("got %d, %v; want %d", got, err, want)
			}
			gaps[time.Since(last)] = true
			last = time.Now()
		}
		if len(gaps) < 10 {
			t.Errorf("the bytes arrived at %d different gaps only", len(gaps))
		}
	})
}

func TestRate(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.SetLink("x", "y", Rule{Rate: 64 << 10, Delay: time.Second})
		j.write(j.x, string(make([]byte, 128<<10)))
		j.expect("the first part", j.read(j.y, string(make([]byte, 16<<10))), 1250*time.Millisecond)
		j.expect("the rest", j.read(j.y, string(make([]byte, 112<<10))), 1750*time.Millisecond)
		x2, y2 := j.dial()
		j.write(j.x, string(make([]byte, 64<<10)))
		j.write(x2, "x")
		if got := j.read(y2, "x"); got < 2*time.Second { // streams share the link
			t.Errorf("the other stream took %v", got)
		}
	})
}

// Bytes that a cut stops wait and arrive after the heal, in order, those of before the cut too that were under way.
func TestACutStalls(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Delay("x", "y", time.Second)
		j.write(j.x, "one ")
		time.Sleep(time.Second / 2)
		j.n.Cut("x", "y")
		j.write(j.x, "two ")
		j.silent(j.y, 5*time.Second)
		j.n.Heal("x", "y")
		j.write(j.x, "three")
		j.close(j.x)
		j.expect("after the heal", j.read(j.y, "one two three"), time.Second)
		j.ends(j.y, io.EOF)
	})
}

func TestUserTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.write(j.y, "unread")
		j.n.Cut("x", "y")
		j.silent(j.y, time.Hour) // who has sent nothing waits for nothing
		j.write(j.x, "lost")
		time.Sleep(3 * time.Second)
		j.write(j.x, "lost") // does not prolong it
		j.read(j.x, "unread")
		j.expect("the user timeout", j.ends(j.x, syscall.ETIMEDOUT), 7*time.Second)
		j.writeFails(j.x, syscall.ETIMEDOUT)
		j.n.HealAll()
		j.silent(j.y, time.Hour) // half-open: what was unacknowledged never comes
		j.write(j.y, "x")
		j.expect("the reset", j.ends(j.y, syscall.ECONNRESET), 0)
	})
}

// The timeout passes also where nobody waits for it; a heal after it is too late, one before it is not.
func TestUserTimeoutUnseen(t *testing.T) {
	for healed, want := range map[time.Duration]error{9 * time.Second: nil, 10 * time.Second: syscall.ETIMEDOUT} {
		inBubble(t, func(t *testing.T, j *joined) {
			j.n.CutOneWay("x", "y")
			j.write(j.x, "x")
			time.Sleep(healed)
			j.n.Heal("x", "y")
			time.Sleep(time.Hour)
			if _, err := j.x.Write([]byte("y")); !errors.Is(err, want) {
				t.Errorf("healed after %v: got %v, want %v", healed, err, want)
			}
			if want == nil {
				j.read(j.y, "xy")
			} else {
				j.silent(j.y, time.Hour)
			}
		})
	}
}

// A writer that waits for the window behind a cut breaks; without a limit it waits for the heal.
func TestUserTimeoutOfAWriter(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		inBubble(t, func(t *testing.T, j *joined) {
			j.n.UserTimeout = limit
			j.n.CutOneWay("x", "y")
			go func() {
				time.Sleep(time.Hour)
				j.n.HealAll()
				if _, err := io.Copy(io.Discard, j.y); limit == 0 && err != nil {
					t.Error(err)
				}
			}()
			began := time.Now()
			n, err := j.x.Write(make([]byte, 2*window))
			switch {
			case limit == 0 && (err != nil || time.Since(began) != time.Hour):
				t.Errorf("wrote %d, %v after %v", n, err, time.Since(began))
			case limit > 0 && (n != window || !errors.Is(err, syscall.ETIMEDOUT) || time.Since(began) != limit):
				t.Errorf("wrote %d, %v after %v", n, err, time.Since(began))
			}
			j.close(j.x)
			if limit > 0 {
				time.Sleep(2 * time.Hour)
				j.write(j.y, "x") // tells it that x is gone
			}
			synctest.Wait()
		})
	}
}

// A close whose bytes never get through leaves the other end half-open.
func TestCloseBehindACut(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Cut("x", "y")
		j.write(j.x, "never")
		j.close(j.x)
		time.Sleep(time.Minute)
		j.n.HealAll()
		j.silent(j.y, time.Hour)
		j.write(j.y, "x")
		j.ends(j.y, syscall.ECONNRESET)
	})
}

// What goes the open way arrives, but its sender hears nothing and breaks.
func TestOneWayCut(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.CutOneWay("y", "x")
		j.write(j.x, "ping")
		j.read(j.y, "ping")
		j.write(j.y, "pong")
		j.expect("x, unacknowledged", j.ends(j.x, syscall.ETIMEDOUT), 10*time.Second)
		j.expect("y, unacknowledged too", j.ends(j.y, syscall.ETIMEDOUT), 0)

		j.n.HealAll()
		x, y := j.dial()
		j.n.CutOneWay("y", "x")
		j.write(x, "ping")
		j.read(y, "ping")
		time.Sleep(9 * time.Second)
		j.n.HealAll() // the acknowledgement comes
		j.silent(x, time.Hour)
		j.write(x, "ping")
		j.read(y, "ping")
	})
}

// Bytes that wait behind a cut for an end that has given up come back as a reset after the heal.
func TestBytesForAnEndThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Cut("x", "y")
		j.write(j.x, "x")
		time.Sleep(5 * time.Second)
		j.write(j.y, "y")
		j.expect("x", j.ends(j.x, syscall.ETIMEDOUT), 5*time.Second)
		time.Sleep(time.Second)
		j.n.HealAll()
		j.expect("y", j.ends(j.y, syscall.ECONNRESET), 0)

		x, y := j.dial()
		j.close(y)
		j.n.CutOneWay("y", "x")
		j.write(x, "x") // the reset is lost
		j.ends(x, io.EOF)
		time.Sleep(10 * time.Second)
		j.writeFails(x, syscall.ETIMEDOUT)
		j.n.HealAll()

		x, y = j.dial()
		j.n.Delay("x", "y", time.Second)
		j.write(x, "under way")
		j.close(y)
		time.Sleep(time.Second)
		j.writeFails(x, syscall.ECONNRESET) // the reset that came back

		x, y = j.dial()
		j.n.SetLink("x", "y", Rule{Cut: true})
		j.write(x, "stuck")
		j.close(y)
		j.n.SetLink("x", "y", Rule{Delay: time.Second})
		time.Sleep(2 * time.Second)
		j.writeFails(x, syscall.ECONNRESET)

		x, y = j.dial()
		j.n.SetLink("x", "y", Rule{})
		j.n.Delay("y", "x", 5*time.Second)
		j.close(y)
		j.write(x, "x")
		j.n.CutOneWay("y", "x") // stops the reset on its way
		j.expect("a reset that is lost", j.ends(x, syscall.ETIMEDOUT), 10*time.Second)
		j.n.HealAll()

		x, _ = j.dial()
		j.n.Cut("x", "y")
		j.n.Host("y").Crash(false)
		j.write(x, "x")
		j.expect("a killed peer behind a cut", j.ends(x, syscall.ETIMEDOUT), 10*time.Second)
	})
}

func TestReset(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.write(j.x, "seen")
		j.n.Delay("x", "y", time.Second)
		j.write(j.x, "unseen")
		j.n.Reset("y", "x")
		j.writeFails(j.x, syscall.ECONNRESET)
		j.read(j.y, "seen")
		j.ends(j.y, syscall.ECONNRESET)
		j.n.HealAll()
		x, y := j.dial() // the link itself is well
		j.write(x, "on")
		j.read(y, "on")
	})
}

func TestDialOverACut(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		for _, way := range [][2]string{{"x", "y"}, {"y", "x"}} {
			j.n.CutOneWay(way[0], way[1])
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			began := time.Now()
			if _, err := j.n.Dial(ctx, "x", "y:1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
			cancel()
			go func() {
				time.Sleep(time.Second)
				j.n.SetLink("x", "y", Rule{Delay: time.Second})
				j.n.SetLink("y", "x", Rule{Delay: time.Second})
			}()
			began = time.Now()
			j.dial()
			j.expect("a dial that a heal lets through", time.Since(began), 3*time.Second)
			j.n.HealAll()
		}
		if _, err := j.n.Dial(t.Context(), "x", "y:2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
		if _, err := j.n.Dial(t.Context(), "x", "nowhere:2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
	})
}

// A dial waits while the backlog is full.
func TestBacklog(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		for range backlog {
			if _, err := j.n.Dial(t.Context(), "x", "y:1"); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := j.n.Dial(ctx, "x", "y:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		go func() {
			if _, err := j.l.Accept(); err != nil {
				t.Error(err)
			}
		}()
		c, err := j.n.Dial(t.Context(), "x", "y:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := j.l.Close(); err != nil { // with streams that nobody has accepted
			t.Fatal(err)
		}
		j.ends(c, syscall.ECONNRESET)
	})
}

func TestPacketFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		n.SetLink(a, b, Rule{Duplicate: 0.5, Drop: 0.2})
		if got := sent(t, x, y, 700); got < 700*0.8*1.4 || got > 700*0.8*1.6 {
			t.Errorf("got %d of 700, want about 840", got)
		}
		n.SetLink(a, b, Rule{Duplicate: 1, Delay: time.Second, Jitter: time.Second})
		for i := range 100 {
			if _, err := x.WriteTo([]byte{byte(i)}, y.addr); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		var got, overtaken int
		last := byte(0)
		for len(y.PacketCh()) > 0 {
			p := <-y.PacketCh()
			if p.Timestamp.After(time.Now().Add(-time.Second)) {
				t.Error("a packet is late")
			}
			if p.Buf[0] < last {
				overtaken++
			}
			last = p.Buf[0]
			if p.Buf[0] == 200 {
				t.Error("two copies are one")
			}
			p.Buf[0] = 200 // each is the receiver's own
			got++
		}
		if got != 200 || overtaken < 20 {
			t.Errorf("got %d packets, %d overtaken", got, overtaken)
		}
		n.Delay(a, b, time.Second)
		if _, err := x.WriteTo([]byte("x"), y.addr); err != nil {
			t.Fatal(err)
		}
		n.Cut(a, b) // while it is under way
		time.Sleep(time.Hour)
		if got := sent(t, y, x, 0) + sent(t, x, y, 0); got != 0 {
			t.Errorf("got %d through a cut", got)
		}
	})
}
