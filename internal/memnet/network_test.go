package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const a, b = "10.0.0.1", "10.0.0.2"

func pair(t *testing.T, n *Network) (x, y *Transport) {
	t.Helper()
	x, err := n.Transport(a + ":1")
	if err != nil {
		t.Fatal(err)
	}
	if y, err = n.Transport(b + ":1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(x.Shutdown(), y.Shutdown()); err != nil {
			t.Error(err)
		}
	})
	return x, y
}

// sent is how many of these packets arrive.
func sent(t *testing.T, from, to *Transport, packets int) int {
	t.Helper()
	for range packets {
		if _, err := from.WriteTo([]byte("hi"), to.addr); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	got := 0
	for {
		select {
		case p := <-to.PacketCh():
			if string(p.Buf) != "hi" || p.From.String() != from.addr {
				t.Errorf("got %q from %s", p.Buf, p.From)
			}
			got++
		default:
			return got
		}
	}
}

func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		if got := sent(t, x, y, 10); got != 10 {
			t.Errorf("got %d of 10", got)
		}
		n.CutOneWay(a, b)
		if there, back := sent(t, x, y, 10), sent(t, y, x, 10); there != 0 || back != 10 {
			t.Errorf("one-way cut: %d there, %d back", there, back)
		}
		if n.Reaches(a, b) || n.Reaches(b, a) {
			t.Error("a round trip over a cut")
		}
		n.Heal(a, b)
		n.Drop(a, b, 0.5)
		if got := sent(t, x, y, 1000); got < 400 || got > 600 {
			t.Errorf("half lost: got %d of 1000", got)
		}
		n.HealAll()
		n.Delay(a, b, time.Second)
		if got := sent(t, x, y, 10); got != 0 {
			t.Errorf("got %d too early", got)
		}
		time.Sleep(time.Second)
		if got := sent(t, x, y, 0); got != 10 {
			t.Errorf("got %d of 10 late", got)
		}
		n.HealAll()
		if got := sent(t, x, y, 5000); got != cap(y.packets) {
			t.Errorf("got %d, want %d: the rest is lost", got, cap(y.packets))
		}
		if got, want := n.Hosts(), []string{a, b}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		near, err := x.DialTimeout(b+":1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		far := <-y.StreamCh()
		if _, err := near.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 2)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "hi" {
			t.Errorf("got %q, %v", got, err)
		}
		n.CutOneWay(b, a)
		began := time.Now()
		var timeout net.Error
		if _, err := x.DialTimeout(b+":1", time.Second); !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		n.HealAll()
		if _, err := x.DialTimeout(b+":2", time.Second); err == nil {
			t.Error("dialed where nobody listens")
		}
		if _, err := n.Transport(a + ":1"); !errors.Is(err, errInUse) {
			t.Errorf("got %v", err)
		}
	})
}

func TestShutdownHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		near, err := x.DialTimeout(b+":1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := y.Shutdown(); err != nil { // it never took the stream
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); err == nil {
			t.Error("the stream is still open")
		}
		n.Cut(a, b)
		failed := make(chan error, 1)
		go func() {
			_, err := x.DialTimeout(b+":1", time.Hour)
			failed <- err
		}()
		synctest.Wait()
		if err := x.Shutdown(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if again, err := n.Transport(b + ":1"); err != nil {
			t.Errorf("the address is not free: %v", err)
		} else if err := again.Shutdown(); err != nil {
			t.Error(err)
		}
	})
}

func TestListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		l, err := n.Listen(b + ":7")
		if err != nil {
			t.Fatal(err)
		}
		near, err := n.Dial(t.Context(), a, b+":7")
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil || far.LocalAddr().String() != b+":7" || near.RemoteAddr().String() != b+":7" {
			t.Errorf("got %v, %v", far, err)
		}
		if err := errors.Join(near.Close(), far.Close(), l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		n.Cut(a, b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Dial(ctx, a, b+":7"); err == nil {
			t.Error("dialed over a cut")
		}
	})
}
