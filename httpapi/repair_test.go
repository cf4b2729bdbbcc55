package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/quorum"
)

// A repair may take far longer than any other request: each line is there when it is told, and the connection serves on after the last.
func TestRepairTakesItsTime(t *testing.T) {
	f := newReplica(t)
	const steps, pause = 20, 70 * time.Second
	f.repair = func(ctx context.Context, _ int, progress func(RepairProgress)) error {
		for i := range steps {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}
			progress(RepairProgress{Partitions: i + 1, Total: steps, Done: i == steps-1, OK: i == steps-1})
		}
		return nil
	}
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		c := p.dial()
		defer c.Close()
		r := bufio.NewReader(c)
		go fmt.Fprint(c, "POST /v1/repair HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		began := time.Now()
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatal(resp, err)
		}
		lines := bufio.NewScanner(resp.Body)
		for i := range steps {
			if !lines.Scan() {
				t.Fatalf("the answer ends after %d lines: %v", i, lines.Err())
			}
			var got RepairProgress
			if err := json.Unmarshal(lines.Bytes(), &got); err != nil || got.Partitions != i+1 || time.Since(began) != time.Duration(i+1)*pause {
				t.Errorf("line %d after %v: %v: %s", i, time.Since(began), err, lines.Bytes())
			}
		}
		if lines.Scan() {
			t.Errorf("one line more: %s", lines.Bytes())
		}
		go fmt.Fprint(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("the next request: %v %v", resp, err)
		}
	})
}

// What ends a repair, and what its client is told then.
func TestRepairEnds(t *testing.T) {
	line := RepairProgress{Partitions: 1, Total: 2}
	for name, c := range map[string]struct {
		run    func(func(RepairProgress)) error
		status int
		want   []string // what the lines, or the problem, contain
	}{
		"before it began":      {func(func(RepairProgress)) error { return errors.New("no peers") }, 500, []string{"internal"}},
		"not ready":            {func(func(RepairProgress)) error { return &quorum.Error{Code: quorum.CodeNotReady, Detail: "no ring"} }, 503, []string{"not_ready"}},
		"without a last line":  {func(p func(RepairProgress)) error { p(line); return nil }, 200, []string{`"total":2`, `"error":"the repair ended before it was complete","done":true`}},
		"without any line":     {func(func(RepairProgress)) error { return nil }, 200, []string{`"done":true`}},
		"with an error":        {func(p func(RepairProgress)) error { p(line); return errors.New("disk failed") }, 200, []string{`"total":2`, `"error":"disk failed","done":true`}},
		"lines after the last": {func(p func(RepairProgress)) error { p(RepairProgress{Done: true, OK: true}); p(line); return nil }, 200, []string{`"done":true,"ok":true`}},
	} {
		f := newReplica(t)
		f.repair = func(_ context.Context, _ int, progress func(RepairProgress)) error { return c.run(progress) }
		url, _ := serve(t, f, nil)
		resp, body := call(t, "POST", url+"/v1/repair", "")
		lines := strings.SplitAfter(strings.TrimSuffix(body, "\n"), "\n")
		if resp.StatusCode != c.status || len(lines) != len(c.want) {
			t.Errorf("%s: got %d and %d lines: %s", name, resp.StatusCode, len(lines), body)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(lines[i], want) {
				t.Errorf("%s: got %s, want %s in it", name, lines[i], want)
			}
		}
	}
}

// waiting is a repair that tells one line and then waits for its end.
func waiting(f *replica) (ended chan error) {
	ended = make(chan error, maxRepairs+1)
	f.repair = func(ctx context.Context, _ int, progress func(RepairProgress)) error {
		progress(RepairProgress{Total: 2})
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	return ended
}

// begin sends a request for a repair and waits for its first line.
func beginRepair(t *testing.T, p *pipes) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := p.dial()
	go fmt.Fprint(c, "POST /v1/repair HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || !strings.Contains(line, `"total":2`) {
		t.Fatalf("first line %q, %v", line, err)
	}
	return c, body
}

// A client that goes away ends its repair, and makes room for another.
func TestRepairEndsWithItsClient(t *testing.T) {
	f := newReplica(t)
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		ended := waiting(f)
		c, _ := beginRepair(t, p)
		time.Sleep(10 * time.Minute)
		c.Close()
		if err := <-ended; err == nil {
			t.Error("the repair goes on without its client")
		}
		synctest.Wait()
		if n := s.repairs.Load(); n != 0 {
			t.Errorf("%d repairs are still counted", n)
		}
	})
}

// A client that stays and does not read ends its repair too.
func TestRepairEndsWithADeafClient(t *testing.T) {
	f := newReplica(t)
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		ended := make(chan struct{})
		f.repair = func(ctx context.Context, _ int, progress func(RepairProgress)) error {
			defer close(ended)
			for ctx.Err() == nil {
				progress(RepairProgress{Total: 2})
				time.Sleep(time.Second)
			}
			return ctx.Err()
		}
		c := p.dial()
		defer c.Close()
		fmt.Fprint(c, "POST /v1/repair HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		began := time.Now()
		<-ended
		if took := time.Since(began); took > lineTime+5*time.Second {
			t.Errorf("it took %v to notice", took)
		}
	})
}

// A server that stops ends repairs at once, and says so.
func TestRepairEndsWithTheServer(t *testing.T) {
	f := newReplica(t)
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		waiting(f)
		c, body := beginRepair(t, p)
		defer c.Close()
		var group sync.WaitGroup
		defer group.Wait()
		began := time.Now()
		group.Go(func() {
			if err := s.Shutdown(t.Context()); err != nil || time.Since(began) > 5*time.Second {
				t.Errorf("Shutdown: %v after %v", err, time.Since(began))
			}
		})
		rest, err := io.ReadAll(body)
		if err != nil || !strings.Contains(string(rest), `"error":"this node is shutting down","done":true`) {
			t.Errorf("got %q, %v", rest, err)
		}
	})
}

// More repairs than a node takes on are refused at once.
func TestRepairsAreBounded(t *testing.T) {
	f := newReplica(t)
	inBubble(t, f, nil, func(t *testing.T, p *pipes, s *Server) {
		waiting(f)
		for range maxRepairs {
			c, _ := beginRepair(t, p)
			defer c.Close()
		}
		resp, body, err := p.ask("POST", "/v1/repair", "")
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"overloaded"`) {
			t.Errorf("got %v %s, %v", resp, body, err)
		}
	})
}
