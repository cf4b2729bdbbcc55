package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

func TestCalls(t *testing.T) {
	big := bytes.Repeat([]byte("big"), 1<<20)
	server := openServer(t, &handler{
		mark: 5,
		tryRead: func(key ring.Key, digestOnly bool) ([]byte, uint64, bool, error) {
			if key.Name == "cached" {
				return []byte("from memory"), 11, true, nil
			}
			return nil, 0, false, nil
		},
		read: func(key ring.Key, digestOnly bool) ([]byte, uint64, error) {
			switch key.Name {
			case "stored":
				return []byte("from disk"), 12, nil
			case "big":
				return big, 13, nil
			}
			return nil, 0, nil
		},
		write: func(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error)) {
			if from != idA || layout != 7 || !sync || !repair || key != ring.NewKey("b", "k") || !bytes.Equal(object, big) && string(object) != "small" {
				done(fmt.Errorf("got from %s, layout %d, sync %v, key %+v, %d bytes", from, layout, sync, key, len(object)))
				return
			}
			done(nil)
		},
		call: func(_ context.Context, from ring.NodeID, layout uint64, op Op, payload []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s %d %s %s", from, layout, op, payload), nil
		},
	}, nil)
	client := openClient(t, server.Addr().String(), nil)
	ctx := within(t, 10*time.Second)

	for name, want := range map[string]struct {
		object []byte
		digest uint64
	}{"cached": {[]byte("from memory"), 11}, "stored": {[]byte("from disk"), 12}, "big": {big, 13}, "absent": {nil, 0}} {
		for range 3 { // the large connection comes up behind the first large answer
			object, digest, err := read(ctx, client, ring.NewKey("b", name))
			if err != nil || !bytes.Equal(object, want.object) || digest != want.digest || (object == nil) != (want.object == nil) {
				t.Errorf("read %s: got %d bytes, digest %d, %v", name, len(object), digest, err)
			}
		}
	}
	got := make(chan string, 1)
	client.Read(ctx, idB, 7, ring.NewKey("b", "cached"), true, func(object []byte, digest, watermark uint64, err error) {
		got <- fmt.Sprint(object, digest, watermark, err)
	})
	if got, want := <-got, "[] 11 5 <nil>"; got != want {
		t.Errorf("digest: got %s, want %s", got, want)
	}
	for _, object := range [][]byte{big, []byte("small"), big, big} {
		if err := write(ctx, client, ring.NewKey("b", "k"), object); err != nil {
			t.Errorf("write: %v", err)
		}
	}
	answer, err := client.Coordinate(ctx, idB, 3, []byte("x"))
	if want := string(idA) + " 3 coordinate x"; err != nil || string(answer) != want {
		t.Errorf("coordinate: got %q, %v, want %q", answer, err, want)
	}
	if answer, err = client.List(ctx, idB, 4, nil); err != nil || !strings.HasSuffix(string(answer), "4 list ") {
		t.Errorf("list: got %q, %v", answer, err)
	}
	if answer, err = client.Call(ctx, idB, 5, Op(200), []byte("future")); err != nil || !strings.HasSuffix(string(answer), "op 200 future") {
		t.Errorf("call: got %q, %v", answer, err)
	}

	eventually(t, "two connections", func() bool { return client.Stats()[0].Connects == 2 })
	s := client.Stats()[0]
	if s.Peer != idB || !s.Connected || s.InFlight != 0 || s.BytesIn < 4<<20 || s.BytesOut < 9<<20 || s.FramesIn != s.FramesOut || s.StrayReplies != 0 {
		t.Errorf("got stats %+v", s)
	}
	eventually(t, "a server at rest", func() bool {
		s := server.Stats()
		return s.InFlight == 0 && s.Queued == 0 && s.BytesInFlight == 0 && s.Connections == 2 && s.FramesIn == s.FramesOut
	})
}

// refused is a handler's error with everything that crosses the wire.
type refused struct{}

func (refused) Error() string       { return "layout 3 is older than 5" }
func (refused) NotApplied() bool    { return true }
func (refused) StaleLayout() uint64 { return 5 }
func (refused) Outcome() string     { return "stale" }

type full struct{}

func (full) Error() string    { return "no space is left" }
func (full) NotApplied() bool { return true }
func (full) Outcome() string  { return "full" }

func TestHandlerErrors(t *testing.T) {
	var err error
	server := openServer(t, &handler{
		tryRead: func(ring.Key, bool) ([]byte, uint64, bool, error) { return nil, 0, false, err },
		write:   func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) { done(err) },
		call:    func(context.Context, ring.NodeID, uint64, Op, []byte) ([]byte, error) { return nil, err },
	}, nil)
	client := openClient(t, server.Addr().String(), nil)
	ctx := within(t, 10*time.Second)
	for _, test := range []struct {
		err        error
		outcome    string
		notApplied bool
		stale      uint64
	}{
		{fmt.Errorf("write object: %w", refused{}), OutcomeStale, true, 5},
		{errors.New("disk is full"), OutcomeError, false, 0},
		{fmt.Errorf("write object: %w", full{}), OutcomeFull, true, 0},
		{context.DeadlineExceeded, OutcomeTimeout, false, 0},
	} {
		err = test.err
		_, _, onRead := read(ctx, client, ring.NewKey("b", "k"))
		onWrite := write(ctx, client, ring.NewKey("b", "k"), []byte("o"))
		_, onCall := client.Call(ctx, idB, 1, OpForm, nil)
		for _, got := range []error{onRead, onWrite, onCall} {
			e := failed(t, got, test.outcome, test.notApplied)
			if e.StaleLayout() != test.stale || !strings.Contains(e.Error(), test.err.Error()) || !strings.Contains(e.Error(), string(idB)) {
				t.Errorf("got %v, stale layout %d, want %v, %d", e, e.StaleLayout(), test.err, test.stale)
			}
		}
	}
}

// Answers come in the order in which they are ready.
func TestRepliesOutOfOrder(t *testing.T) {
	const n = 100
	var mu sync.Mutex
	var waiting []func()
	server := openServer(t, &handler{
		write: func(_ ring.NodeID, _ uint64, key ring.Key, _ []byte, _, _ bool, done func(error)) {
			mu.Lock()
			defer mu.Unlock()
			waiting = append(waiting, func() { done(errors.New("about " + key.Name)) })
			if len(waiting) == n {
				for i := range waiting {
					waiting[n-1-i]()
				}
			}
		},
	}, nil)
	client := openClient(t, server.Addr().String(), nil)
	var calls sync.WaitGroup
	for i := range n {
		name := fmt.Sprintf("key-%d.", i)
		calls.Add(1)
		client.Write(within(t, 10*time.Second), idB, 1, ring.NewKey("b", name), nil, false, false, func(err error) {
			defer calls.Done()
			if err == nil || !strings.Contains(err.Error(), "about "+name) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
	calls.Wait()
}

// A large value on its way holds up no small one: it has a connection of its own.
func TestLargeOnItsOwnConnection(t *testing.T) {
	server := openServer(t, &handler{}, nil)
	client := openClient(t, server.Addr().String(), nil)
	ctx := within(t, 10*time.Second)
	large := make([]byte, 1<<20)
	for _, object := range [][]byte{nil, large} { // over the ordinary one: there is no other yet
		if err := write(ctx, client, ring.NewKey("b", "k"), object); err != nil {
			t.Fatal(err)
		}
	}
	l := (*client.links.Load())[idB]
	eventually(t, "a large connection", func() bool { return l.conn.Load().large.Load() != nil })
	c := l.conn.Load().large.Load()
	c.mu.Lock()
	c.busy = true // as if the kernel took no more
	c.mu.Unlock()
	done := make(chan error, 1)
	client.Write(ctx, idB, 1, ring.NewKey("b", "large"), large, true, false, func(err error) { done <- err })
	if err := write(ctx, client, ring.NewKey("b", "small"), []byte("small")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("the large write has ended: %v", err)
	default:
	}
	c.mu.Lock()
	c.busy = false
	c.flush()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	server := openServer(t, &handler{
		read: func(key ring.Key, _ bool) ([]byte, uint64, error) {
			return bytes.Repeat([]byte(key.Name), 1+len(key.Name)*int(key.Token%2)*20000), key.Token, nil
		},
		write: func(_ ring.NodeID, _ uint64, key ring.Key, object []byte, _, _ bool, done func(error)) {
			if !strings.HasPrefix(string(object), key.Name) {
				done(errors.New("another key's object"))
				return
			}
			go done(nil)
		},
	}, nil)
	client := openClient(t, server.Addr().String(), nil)
	ctx := within(t, 30*time.Second)
	var callers sync.WaitGroup
	for g := range 16 {
		callers.Go(func() {
			for i := range 100 {
				key := ring.NewKey("b", fmt.Sprintf("%d-%d", g, i))
				object, digest, err := read(ctx, client, key)
				if err != nil || digest != key.Token || !strings.HasPrefix(string(object), key.Name) {
					t.Errorf("read %s: got %.20q, %d, %v", key.Name, object, digest, err)
				}
				if err := write(ctx, client, key, append([]byte(key.Name), make([]byte, (i%5)*40000)...)); err != nil {
					t.Errorf("write %s: %v", key.Name, err)
				}
			}
		})
	}
	callers.Wait()
}

func TestCancelledCall(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	server := openServer(t, &handler{call: func(context.Context, ring.NodeID, uint64, Op, []byte) ([]byte, error) {
		close(begun)
		<-release
		return nil, nil
	}}, nil)
	client := openClient(t, server.Addr().String(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-begun; cancel() }()
	_, err := client.Call(ctx, idB, 1, OpForm, nil)
	failed(t, err, OutcomeTimeout, false)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to say canceled", err)
	}
	close(release)
	eventually(t, "the late answer", func() bool { return client.Stats()[0].StrayReplies == 1 })
	_, err = client.Call(ctx, idB, 1, OpForm, nil)
	failed(t, err, OutcomeTimeout, true) // ended before it was sent
}

func TestOverload(t *testing.T) {
	release := make(chan struct{})
	var begun atomic.Int32
	server := openServer(t, &handler{
		write: func(_ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
			begun.Add(1)
			<-release
			done(nil)
		},
		call: func(context.Context, ring.NodeID, uint64, Op, []byte) ([]byte, error) { <-release; return nil, nil },
	}, func(c *Config) { c.Workers, c.Queue, c.CallWorkers = 2, 3, 1 })
	client := openClient(t, server.Addr().String(), func(c *Config) { c.MaxPending = 20 })
	ctx := within(t, 10*time.Second)
	results := make(chan error, 100)
	send := func() {
		client.Write(ctx, idB, 1, ring.NewKey("b", "k"), []byte("o"), false, false, func(err error) { results <- err })
	}
	send()
	send()
	eventually(t, "busy workers", func() bool { return begun.Load() == 2 })
	for range 10 {
		send()
	}
	for range 7 { // 2 run, 3 wait
		failed(t, <-results, OutcomeOverloaded, true)
	}
	// Calls have their own workers, and their own limit.
	for i := range 2 { // one runs, one waits
		go func() { _, err := client.Call(ctx, idB, 1, OpForm, nil); results <- err }()
		eventually(t, "calls in flight", func() bool {
			s := server.Stats()
			return s.InFlight == 6+i && s.Queued == 3+i
		})
	}
	_, err := client.Call(ctx, idB, 1, OpForm, nil)
	failed(t, err, OutcomeOverloaded, true)
	close(release)
	for range 7 {
		if err := <-results; err != nil {
			t.Errorf("got %v", err)
		}
	}
	if got := server.Stats().Refused; got != 8 {
		t.Errorf("got %d refused, want 8", got)
	}
}

func TestSendBufferLimit(t *testing.T) {
	dialling := make(chan struct{})
	client := openClient(t, "127.0.0.1:1", func(c *Config) {
		c.SendBuffer = 100_000
		c.MaxPending = 5
		c.DialTimeout = time.Minute // the dial waits for the test, however slow the machine
		c.Dial = pipesThatWait(dialling)
	})
	results := make(chan error, 10)
	send := func(n int) {
		client.Write(within(t, 10*time.Second), idB, 1, ring.NewKey("b", "k"), make([]byte, n), false, false, func(err error) { results <- err })
	}
	send(200_000) // more than the limit, but nothing else waits
	send(1)
	failed(t, <-results, OutcomeOverloaded, true)
	send(MaxFrame)
	failed(t, <-results, OutcomeError, true)
	close(dialling)
	failed(t, <-results, OutcomeUnreachable, true)
}
