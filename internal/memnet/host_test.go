package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestKill(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.write(j.x, "unread")
		j.write(j.y, "arrived")
		j.n.Delay("y", "x", time.Second)
		j.write(j.y, "under way")
		old := j.n.Host("y")
		old.Crash(false)
		j.read(j.x, "arrived")
		j.expect("the reset", j.ends(j.x, syscall.ECONNRESET), time.Second)
		j.writeFails(j.x, syscall.ECONNRESET)
		if _, err := j.n.Dial(t.Context(), "x", "y:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
		j.zombie(old, j.y)
		if len(j.n.Hosts()) != 0 || j.n.Reaches("x", "y") {
			t.Errorf("%v listen", j.n.Hosts())
		}
	})
}

// zombie wants nothing to be possible on a host that has crashed.
func (j *joined) zombie(old *Host, c net.Conn) {
	j.t.Helper()
	j.ends(c, errDown)
	j.writeFails(c, errDown)
	j.close(c)
	if _, err := j.l.Accept(); !errors.Is(err, net.ErrClosed) {
		j.t.Errorf("accept: %v", err)
	}
	if _, err := old.Listen("y:1"); !errors.Is(err, errDown) {
		j.t.Errorf("listen: %v", err)
	}
	if _, err := old.Dial(j.t.Context(), "x:1"); !errors.Is(err, errDown) {
		j.t.Errorf("dial: %v", err)
	}
	if _, err := old.Transport("10.0.0.9:1"); !errors.Is(err, errDown) {
		j.t.Errorf("transport: %v", err)
	}
	old.Crash(true) // nothing more
}

func TestPowerLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		x2, y2 := j.dial()
		x3, _ := j.dial()
		x4, _ := j.dial()
		j.n.Delay("y", "x", time.Second)
		j.write(j.y, "under way")
		j.n.Delay("x", "y", time.Second)
		j.write(x4, "under way")
		j.n.SetLink("x", "y", Rule{})
		old := j.n.Host("y")
		old.Crash(true)
		j.expect("what was under way to it", j.ends(x4, syscall.ETIMEDOUT), 10*time.Second)
		j.zombie(old, y2)
		j.silent(j.x, 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := j.n.Dial(ctx, "x", "y:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
		j.write(j.x, "x")
		j.expect("the user timeout", j.ends(j.x, syscall.ETIMEDOUT), 10*time.Second)

		j.write(x2, "x")
		time.Sleep(5 * time.Second)
		again := j.n.Host("y")
		if again == old || again != j.n.Host("y") {
			t.Fatal("no reboot")
		}
		j.expect("the reset of what was sent before the reboot", j.ends(x2, syscall.ECONNRESET), time.Second)
		j.silent(x3, time.Hour)
		j.write(x3, "x")
		j.expect("the reset of what was sent after it", j.ends(x3, syscall.ECONNRESET), time.Second)
		l, err := again.Listen("y:1")
		if err != nil {
			t.Fatal(err)
		}
		j.l = l
		x, y := j.dial()
		j.write(x, "on")
		j.read(y, "on")
		old.Crash(false) // the old life has no power over the new one
		j.write(y, "on")
		j.read(x, "on")
		j.close(x)
		j.close(y)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What a process sends that does not know yet that it is dead reaches nobody, and what waits in it ends.
func TestCrashEndsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		n.SetLink(a, b, Rule{Delay: time.Second})
		if _, err := x.WriteTo([]byte("under way"), y.addr); err != nil {
			t.Fatal(err)
		}
		n.Cut(a, "10.0.0.3")
		failed := make(chan error, 1)
		go func() {
			_, err := x.DialTimeout("10.0.0.3:1", time.Hour)
			failed <- err
		}()
		synctest.Wait()
		n.Host(a).Crash(false)
		if err := <-failed; !errors.Is(err, errDown) {
			t.Errorf("dial: %v", err)
		}
		if _, err := x.WriteTo([]byte("zombie"), y.addr); !errors.Is(err, errDown) {
			t.Errorf("write: %v", err)
		}
		time.Sleep(time.Hour)
		if got := len(y.PacketCh()); got != 0 {
			t.Errorf("got %d packets of the dead", got)
		}
		n.HealAll()
		if _, err := n.Dial(t.Context(), a, b+":1"); !errors.Is(err, errDown) {
			t.Errorf("a dial from a host that is down: %v", err)
		}
		again, err := n.Host(a).Transport(a + ":1")
		if err != nil {
			t.Fatal(err)
		}
		if got := sent(t, y, again, 5); got != 5 || len(x.PacketCh()) != 0 {
			t.Errorf("the new life got %d of 5, the old %d", got, len(x.PacketCh()))
		}
		if err := again.Shutdown(); err != nil {
			t.Error(err)
		}
	})
}

// A stream that a process had closed before it was killed ends in order.
func TestKillAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Delay("y", "x", time.Second)
		j.write(j.y, "last words")
		j.close(j.y)
		j.n.Host("y").Crash(false)
		j.expect("the last words", j.read(j.x, "last words"), time.Second)
		j.ends(j.x, io.EOF)
	})
}

// A reset that a cut stops is heard after the heal, however late.
func TestKillBehindACut(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Cut("x", "y")
		j.n.Host("y").Crash(false)
		j.silent(j.x, time.Hour)
		j.n.HealAll()
		j.ends(j.x, syscall.ECONNRESET)
	})
}

func TestLoopback(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		h := j.n.Host("y")
		j.n.SetLink("y", "y", Rule{Cut: true})
		j.n.Pause("y")
		x, err := h.Dial(t.Context(), "y:1")
		if err != nil {
			t.Fatal(err)
		}
		y, err := j.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		j.write(x, "self")
		j.read(y, "self")
		h.Crash(false)
		j.ends(x, errDown)
		j.ends(y, errDown)
	})
}

func TestPauseStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, j *joined) {
		j.n.Delay("y", "x", time.Second)
		j.write(j.y, "left before; ")
		j.write(j.x, "came before; ")
		j.n.Pause("y")
		j.write(j.y, "held")
		j.write(j.x, "meanwhile")
		j.silent(j.y, time.Minute)
		j.expect("what had left", j.read(j.x, "left before; "), 0)
		j.silent(j.x, time.Hour) // and no user timeout: the kernel acknowledges
		dialed, err := j.n.Dial(t.Context(), "x", "y:1")
		if err != nil {
			t.Fatal("the kernel does not answer: ", err)
		}
		j.write(dialed, "hello")
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := j.l.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		outgoing := make(chan error, 1)
		go func() {
			_, err := j.n.Dial(t.Context(), "y", "x:1")
			outgoing <- err
		}()
		time.Sleep(time.Minute)
		if len(accepted) != 0 || len(outgoing) != 0 {
			t.Error("a frozen host accepts or dials")
		}
		filled := make(chan int)
		go func() { // up to the window
			if err := j.x.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Error(err)
			}
			n, err := j.x.Write(make([]byte, 2*window))
			if err == nil {
				t.Error("the window has no end")
			}
			filled <- n
		}()
		want := window - len("came before; meanwhile")
		if got := <-filled; got != want {
			t.Errorf("wrote %d, want %d", got, want)
		}
		j.n.Resume("y")
		j.expect("what was held", j.read(j.x, "held"), time.Second)
		j.read(j.y, "came before; meanwhile"+string(make([]byte, want)))
		j.read(<-accepted, "hello")
		if err := <-outgoing; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPausePackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		x, y := pair(t, n)
		n.Pause(b)
		if n.Reaches(a, b) {
			t.Error("a frozen host answers")
		}
		if there, back := sent(t, x, y, 10), sent(t, y, x, 20); there != 0 || back != 0 {
			t.Errorf("%d to a frozen host, %d from it", there, back)
		}
		stream, err := x.DialTimeout(b+":1", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(y.StreamCh()) != 0 {
			t.Error("a frozen host is handed a stream")
		}
		n.Resume(b)
		if there, back := sent(t, x, y, 0), sent(t, y, x, 0); there != 10 || back != 20 {
			t.Errorf("%d held to it, %d from it", there, back)
		}
		far := <-y.StreamCh()
		n.Pause(b)
		sent(t, x, y, 5000)
		n.Resume(b)
		if got := sent(t, x, y, 0); got != cap(y.packets) {
			t.Errorf("%d of 5000 packets were kept", got)
		}
		n.Pause(b)
		sent(t, x, y, 10)
		n.Host(b).Crash(true)
		n.Pause(b) // nothing to freeze
		n.Resume(b)
		if got := len(y.PacketCh()); got != 0 {
			t.Errorf("the dead got %d packets", got)
		}
		if err := errors.Join(stream.Close(), far.Close()); err != nil {
			t.Error(err)
		}
	})
}

// The HTTP server and client of the standard library, with keep-alive, over a link with delay, a cut, and a crash.
func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetLink("client", "server", Rule{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
		server := n.Host("server")
		l, err := server.Listen("server:80")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{ReadHeaderTimeout: time.Second, IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // the client has given up
			}
			if _, err := w.Write(body); err != nil {
				t.Error(err)
			}
		})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return n.Host("client").Dial(ctx, addr)
		}}}
		post := func(body string, limit time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			got, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return err
			}
			if string(got) != body {
				t.Errorf("got %d bytes, want %d", len(got), len(body))
			}
			return nil
		}
		for i := range 20 {
			if err := post(strings.Repeat("x", i*i*2000), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(n.conns); got != 1 {
			t.Errorf("%d connections, want one that is kept", got)
		}
		n.Cut("client", "server")
		if err := post("x", time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over a cut: %v", err)
		}
		n.HealAll()
		if err := post("x", time.Minute); err != nil {
			t.Error(err)
		}
		server.Crash(false)
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
		if err := post("x", time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("after a crash: %v", err)
		}
		client.CloseIdleConnections()
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		synctest.Wait()
		if len(n.conns) != 0 {
			t.Errorf("%d streams are remembered", len(n.conns))
		}
	})
}
