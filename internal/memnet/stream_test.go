package memnet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// joined are two hosts with a stream between them: x dialed y.
type joined struct {
	t    *testing.T
	n    *Network
	l    *Listener
	x, y net.Conn
}

// inBubble runs a test with hosts x and y in virtual time, and closes what is open after it.
func inBubble(t *testing.T, test func(t *testing.T, j *joined)) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		l, err := n.Host("y").Listen("y:1")
		if err != nil {
			t.Fatal(err)
		}
		j := &joined{t: t, n: n, l: l}
		t.Cleanup(func() {
			n.mu.Lock()
			var open []*Stream
			for c := range n.conns {
				open = append(open, &c.ends[0], &c.ends[1])
			}
			n.mu.Unlock()
			for _, s := range open {
				if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
			if len(n.conns) > 0 {
				t.Errorf("%d streams are remembered", len(n.conns))
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		j.x, j.y = j.dial()
		test(t, j)
	})
}

// dial makes one more stream.
func (j *joined) dial() (x, y net.Conn) {
	j.t.Helper()
	x, err := j.n.Host("x").Dial(j.t.Context(), "y:1")
	if err != nil {
		j.t.Fatal(err)
	}
	if y, err = j.l.Accept(); err != nil {
		j.t.Fatal(err)
	}
	return x, y
}

func (j *joined) write(c net.Conn, text string) {
	j.t.Helper()
	if n, err := io.WriteString(c, text); n != len(text) || err != nil {
		j.t.Fatalf("wrote %d of %q: %v", n, text, err)
	}
}

// writeFails wants a write to fail with an error.
func (j *joined) writeFails(c net.Conn, want error) {
	j.t.Helper()
	if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
		j.t.Fatalf("got %v, want %v", err, want)
	}
}

// read wants these bytes, and tells how long they took.
func (j *joined) read(c net.Conn, want string) time.Duration {
	j.t.Helper()
	began, got := time.Now(), make([]byte, len(want))
	if n, err := io.ReadFull(c, got); string(got) != want {
		j.t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
	return time.Since(began)
}

// ends wants a read to fail with an error, and tells after how long.
func (j *joined) ends(c net.Conn, want error) time.Duration {
	j.t.Helper()
	began := time.Now()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		j.t.Fatalf("read %d bytes, %v; want %v", n, err, want)
	}
	return time.Since(began)
}

// silent wants nothing to arrive for some time.
func (j *joined) silent(c net.Conn, d time.Duration) {
	j.t.Helper()
	j.deadline(c, d)
	if got := j.ends(c, os.ErrDeadlineExceeded); got != d {
		j.t.Fatalf("the deadline came after %v, want %v", got, d)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *joined) deadline(c net.Conn, d time.Duration) {
	j.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		j.t.Fatal(err)
	}
}

func (j *joined) close(c net.Conn) {
	j.t.Helper()
	if err := c.Close(); err != nil {
		j.t.Fatal(err)
	}
}

// expect fails unless a time is what it should be.
func (j *joined) expect(what string, got, want time.Duration) {
	j.t.Helper()
	if got != want {
		j.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func TestCloseInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.write(j.x, "good")
		j.write(j.x, "bye")
		j.close(j.x)
		j.ends(j.x, net.ErrClosed)
		j.writeFails(j.x, net.ErrClosed)
		if err := j.x.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		if err := j.x.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("deadline of a closed stream: %v", err)
		}
		j.read(j.y, "goodbye")
		j.ends(j.y, io.EOF)
		j.write(j.y, "x") // nobody knows yet
		j.writeFails(j.y, syscall.ECONNRESET)
		j.ends(j.y, syscall.ECONNRESET)
	})
}

func TestCloseUnblocks(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		got := make(chan error, 3)
		go func() {
			_, err := j.x.Read(make([]byte, 1))
			got <- err
		}()
		for range 2 { // one waits for the window, the other for its turn
			go func() {
				_, err := j.x.Write(make([]byte, window+1))
				got <- err
			}()
		}
		synctest.Wait()
		j.close(j.x)
		for range 3 {
			if err := <-got; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// A writer that waits for the window hears that the other end is gone.
func TestCloseWithAWriterAtTheOtherEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		got := make(chan error, 1)
		go func() {
			_, err := j.x.Write(make([]byte, 3*window))
			got <- err
		}()
		synctest.Wait()
		j.close(j.y)
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.write(j.y, "x")
		j.silentAtOnce()
		j.read(j.x, "x")
		got := make(chan error, 2)
		go func() {
			_, err := j.x.Read(make([]byte, 1))
			got <- err
		}()
		go func() {
			n, err := j.x.Write(make([]byte, window+7))
			if n != window {
				t.Errorf("wrote %d, want the window", n)
			}
			got <- err
		}()
		synctest.Wait()
		began := time.Now()
		for _, d := range []time.Duration{time.Hour, time.Second} { // the later one is taken back
			if err := j.x.SetDeadline(began.Add(d)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			var timeout net.Error
			if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("got %v", err)
			}
		}
		j.expect("the deadline", time.Since(began), time.Second)
		if err := j.x.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		j.read(j.y, string(make([]byte, window)))
		j.write(j.x, "on")
		j.read(j.y, "on")
	})
}

// silentAtOnce: a deadline in the past wins over bytes that are there.
func (j *joined) silentAtOnce() {
	j.t.Helper()
	j.deadline(j.x, -time.Second)
	j.expect("a deadline in the past", j.ends(j.x, os.ErrDeadlineExceeded), 0)
	if err := j.x.SetReadDeadline(time.Time{}); err != nil {
		j.t.Fatal(err)
	}
}

// A slow reader stops the writer for as long as it likes, and loses nothing.
func TestWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		want := make([]byte, 5*window+123)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for sent := 0; sent < len(want); {
				n, err := j.x.Write(want[sent:min(len(want), sent+rng.IntN(100_000))])
				if err != nil {
					t.Error(err)
					return
				}
				sent += n
			}
			j.close(j.x)
		}()
		time.Sleep(time.Hour)
		select {
		case <-done:
			t.Error("the window has no end")
		default:
		}
		got, err := io.ReadAll(j.y)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
		}
		<-done
	})
}

// Writes of several goroutines do not mix.
func TestWritesAreWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		const writers, size = 5, window + window/3
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				if _, err := j.x.Write(bytes.Repeat([]byte{byte('a' + w)}, size)); err != nil {
					t.Error(err)
				}
			})
		}
		for range writers {
			got := make([]byte, size)
			if _, err := io.ReadFull(j.y, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, bytes.Repeat(got[:1], size)) {
				t.Error("mixed")
			}
		}
		wg.Wait()
	})
}

func TestAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		h := n.Host("n1")
		l, err := h.Listen("10.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if host, port, err := net.SplitHostPort(l.Addr().String()); host != "10.0.0.1" || port == "0" || err != nil {
			t.Errorf("got %s", l.Addr())
		}
		if _, err := n.Host("n2").Listen("10.0.0.1:9"); !errors.Is(err, errInUse) {
			t.Errorf("an address of another host: %v", err)
		}
		x, err := n.Host("n2").Dial(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		y, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if x.RemoteAddr() != l.Addr() || y.LocalAddr() != l.Addr() || x.LocalAddr() != y.RemoteAddr() || hostOf(x.LocalAddr().String()) != "n2" {
			t.Errorf("%v-%v, %v-%v", x.LocalAddr(), x.RemoteAddr(), y.LocalAddr(), y.RemoteAddr())
		}
		n.SetLink("n2", "10.0.0.1", Rule{Cut: true}) // either name will do
		if n.Reaches("n1", "n2") || !n.Link("n2", "n1").Cut {
			t.Error("the link is not cut")
		}
		if n.Host("10.0.0.1") != h {
			t.Error("an address is not its host")
		}
		if err := errors.Join(x.Close(), y.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
}
