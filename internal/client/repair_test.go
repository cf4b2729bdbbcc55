package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// node is a server that gives one answer.
func node(t *testing.T, status int, body string, calls *atomic.Int64) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1); status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// A write that was refused because disks are full goes on to the next node, where nothing was written; never where something may have been.
func TestFailoverOfFullDisks(t *testing.T) {
	const (
		full    = `{"code":"insufficient_storage","detail":"full","outcome":"not_applied"}`
		unclear = `{"code":"insufficient_storage","detail":"full","outcome":"unknown"}`
	)
	for name, test := range map[string]struct {
		statuses []int
		bodies   []string
		calls    []int
		code     string // of the error; "" = none
		sent     bool   // the error is an *Unreachable whose request was sent
	}{
		"the next has space":       {[]int{507, 507, 200}, []string{full, full, `{"context":"c"}`}, []int{1, 1, 1}, "", false},
		"none has space":           {[]int{507, 507}, []string{full, full}, []int{1, 1}, "insufficient_storage", false},
		"it may have been written": {[]int{507, 200}, []string{unclear, `{"context":"c"}`}, []int{1, 0}, "insufficient_storage", false},
		"the next breaks off":      {[]int{507, 0, 200}, []string{full, "", `{"context":"c"}`}, []int{1, 1, 0}, "", true},
		"the next says otherwise":  {[]int{507, 503, 200}, []string{full, `{"code":"quorum_unavailable"}`, `{}`}, []int{1, 1, 0}, "quorum_unavailable", false},
	} {
		calls := make([]atomic.Int64, len(test.statuses))
		var urls []string
		for i, status := range test.statuses {
			urls = append(urls, node(t, status, test.bodies[i], &calls[i]))
		}
		c, err := New(Config{Nodes: urls})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Put(context.Background(), "b", "k", []byte("v"), Options{})
		c.Close()
		var problem *Error
		var lost *Unreachable
		switch {
		case test.sent:
			if !errors.As(err, &lost) || !lost.Sent {
				t.Errorf("%s: got %v", name, err)
			}
		case test.code == "":
			if err != nil {
				t.Errorf("%s: got %v", name, err)
			}
		case !errors.As(err, &problem) || problem.Code != test.code:
			t.Errorf("%s: got %v, want %s", name, err, test.code)
		}
		for i := range calls {
			if got, want := int(calls[i].Load()), test.calls[i]; got != want {
				t.Errorf("%s: got %d calls of node %d, want %d", name, got, i, want)
			}
		}
	}
}

// A repair is followed step by step, for longer than other calls may take; one that breaks off is never taken for one that ended.
func TestRepair(t *testing.T) {
	const step, end = `{"peer":"n2","partitions":1,"total":2,"objects_sent":7}` + "\n", `{"partitions":2,"total":2,"done":true,"ok":true}` + "\n"
	for name, test := range map[string]struct {
		status int
		lines  []string
		steps  int
		err    string // a part of the error; "" = none
	}{
		"whole":        {200, []string{step, "\n", step, end}, 3, ""},
		"breaks off":   {200, []string{step, step}, 2, "ended before the repair did"},
		"not progress": {200, []string{step, "<html>\n"}, 1, "decode progress"},
		"refused":      {400, []string{`{"code":"invalid_argument","detail":"no such partition"}`}, 0, "no such partition"},
	} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.RequestURI() != "/v1/repair?partition=5" {
				t.Errorf("got %s %s", r.Method, r.URL)
			}
			w.WriteHeader(test.status)
			for _, line := range test.lines {
				io.WriteString(w, line)
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, refusing(t))
		c.timeout = 10 * time.Millisecond
		var steps []RepairProgress
		last, err := c.Repair(context.Background(), 5, func(p RepairProgress) { steps = append(steps, p) })
		if len(steps) != test.steps || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %d steps and %v", name, len(steps), err)
		}
		if err == nil && (!last.OK || !last.Done || last != steps[len(steps)-1] || steps[0].Sent != 7) {
			t.Errorf("%s: got %+v", name, steps)
		}
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			t.Errorf("all partitions: got the query %s", r.URL.RawQuery)
		}
		io.WriteString(w, step)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := c.Repair(ctx, -1, func(RepairProgress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// What the operator pages say is read whole.
func TestOperatorPages(t *testing.T) {
	pages := map[string]string{
		"GET /v1/hints":            `{"paused":false,"known":true,"targets":[{"target":"n2","id":"a2","count":3,"bytes":9,"oldest_s":1.5,"delivered":4,"rate":2.5,"error":"slow","divergent_partitions":1}]}`,
		"POST /v1/hints":           `{"paused":true,"known":true,"targets":[]}`,
		"GET /v1/tombstones":       `{"waiting":3,"oldest_s":2.5,"blocker":"n3","collected":4,"refused":5,"partitions":[{"partition":1,"n":3,"waiting":3,"oldest_s":2.5,"watermark_s":null,"blocker":"n3"}]}`,
		"GET /v1/node?merkle=true": `{"name":"n1","id":"a1","repair":{"oldest_equal_s":7.5,"verify_age_s":60},"disk":{"full":true},"tombstones":{"waiting":1},"merkle":[{"partition":2,"n":3,"root":"00","equal_s":1.5,"peers":[{"node":"n2","equal_s":null,"error":"x"}],"synced":true}]}`,
	}
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		io.WriteString(w, pages[r.Method+" "+r.URL.RequestURI()])
	})
	ctx := context.Background()
	h, err := c.Hints(ctx)
	if want := (Hint{"n2", "a2", 3, 9, 1.5, 4, 2.5, "slow", 1}); err != nil || len(h.Targets) != 1 || h.Targets[0] != want || h.Paused || !h.Known {
		t.Errorf("hints: %+v, %v", h, err)
	}
	if h, err := c.PauseHints(ctx, true); err != nil || !h.Paused || body != `{"paused":true}` {
		t.Errorf("pause: %+v, %v after %s", h, err, body)
	}
	d, err := c.Tombstones(ctx)
	if err != nil || d.Waiting != 3 || d.Collected != 4 || d.Refused != 5 || len(d.Partitions) != 1 || d.Partitions[0].WatermarkS != nil || d.Blocker != "n3" {
		t.Errorf("tombstones: %+v, %v", d, err)
	}
	s, err := c.Status(ctx, true)
	if err != nil || s.ID != "a1" || s.Repair.OldestEqualS != 7.5 || *s.Repair.VerifyAgeS != 60 || !s.Disk.Full || len(s.Merkle) != 1 || *s.Merkle[0].EqualS != 1.5 || s.Merkle[0].Peers[0].Error != "x" {
		t.Errorf("node: %+v, %v", s, err)
	}
}
