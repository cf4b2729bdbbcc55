package verify

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
)

func TestOutcome(t *testing.T) {
	for _, test := range []struct {
		name string
		kind check.Kind
		err  error
		want check.Outcome
		next bool
	}{
		{"done", check.Put, nil, check.OK, false},
		{"never sent", check.Put, &client.Unreachable{Err: errors.New("refused")}, check.Fail, true},
		{"sent, no answer", check.Put, &client.Unreachable{Sent: true, Err: errors.New("reset")}, check.Unknown, false},
		{"delete sent, no answer", check.Delete, &client.Unreachable{Sent: true, Err: errors.New("reset")}, check.Unknown, false},
		{"read sent, no answer", check.Read, &client.Unreachable{Sent: true, Err: errors.New("reset")}, check.Unknown, true},
		{"joined", check.Put, errors.Join(&client.Unreachable{Sent: true, Err: errors.New("reset")}), check.Unknown, false},
		{"not applied", check.Put, &client.Error{Status: 503, Outcome: "not_applied"}, check.Fail, false},
		{"unknown", check.Put, &client.Error{Status: 504, Outcome: "unknown"}, check.Unknown, false},
		{"unknown, whatever the status", check.Put, &client.Error{Status: 409, Outcome: "unknown"}, check.Unknown, false},
		{"says nothing", check.Put, &client.Error{Status: 500}, check.Unknown, false},
		{"a proxy's", check.Put, &client.Error{Status: 502}, check.Unknown, false},
		{"request timeout", check.Put, &client.Error{Status: 408}, check.Unknown, false},
		{"refused", check.Put, &client.Error{Status: 413, Code: client.CodeTooLarge}, check.Fail, false},
		{"too many siblings", check.Put, &client.Error{Status: 409, Code: client.CodeTooManySiblings}, check.Fail, false},
		{"cannot be read", check.Put, errors.New("decode answer"), check.Unknown, false},
		{"a read refused", check.Read, &client.Error{Status: 503}, check.Fail, false},
	} {
		if got, next := outcome(test.kind, test.err); got != test.want || next != test.next {
			t.Errorf("%s: got %s %v, want %s %v", test.name, got, next, test.want, test.next)
		}
	}
}

func TestAbsent(t *testing.T) {
	a, err := absent(&client.Error{Code: client.CodeKeyNotFound, Context: "t", Body: []byte(`{"receipt":{"n":3,"replied":2}}`)})
	if err != nil || a.context != "t" || a.receipt.N != 3 || a.receipt.Replied != 2 {
		t.Errorf("got %+v %v", a, err)
	}
	for _, e := range []error{
		&client.Error{Status: 404, Code: "not_found"},
		&client.Error{Code: client.CodeKeyNotFound, Body: []byte(`<html>`)},
		errors.New("other"),
	} {
		if a, err := absent(e); err == nil {
			t.Errorf("%v: got %+v, want the error", e, a)
		}
	}
}

// A value that was altered, cut, or written to another key is never taken for one.
func TestValue(t *testing.T) {
	for _, set := range [][]string{nil, {"c1-1"}, {"c1-1", "c2-9", "c1-3"}} {
		data := encode("k", "c1-3", set)
		if by, got := decode("k", append([]byte(" "), data...)); by != "c1-3" || !slices.Equal(got, set) {
			t.Errorf("%s: got %q %q", data, by, got)
		}
		if by, _ := decode("other", data); by == "c1-3" {
			t.Errorf("%s of another key: got %q", data, by)
		}
		for i := range data {
			if by, got := decode("k", data[:i]); by == "c1-3" || len(got) > 0 {
				t.Errorf("cut at %d: got %q %q", i, by, got)
			}
			for bit := range 8 {
				bad := bytes.Clone(data)
				bad[i] ^= 1 << bit
				if by, got := decode("k", bad); by == "c1-3" || len(got) > 0 {
					t.Errorf("%s: got %q %q", bad, by, got)
				}
			}
		}
	}
}

func TestLevels(t *testing.T) {
	b := client.DefaultBucket
	for _, test := range []struct {
		o           client.Options
		n           int
		r, w, dw    int
		strict      bool
		description string
	}{
		{client.Options{}, 0, 2, 2, 2, true, "the bucket's"},
		{client.Options{}, 2, 2, 2, 2, true, "fewer nodes than n"},
		{client.Options{}, 1, 1, 1, 1, true, "one node"},
		{client.Options{R: "1", W: "one"}, 3, 1, 1, 1, false, "weak"},
		{client.Options{R: "all", W: "1", DW: "0"}, 3, 3, 1, 0, true, "read all, nothing synced"},
		{client.Options{Consistency: "all", R: "2"}, 3, 2, 3, 2, true, "preset, and r"},
		{client.Options{R: "nonsense"}, 3, 0, 2, 2, false, "proves nothing"},
	} {
		l := newLevels(test.o, b)
		if l.reads(test.n) != test.r || l.writes(test.n) != test.w || l.durable(test.n) != test.dw || l.strict(test.n) != test.strict {
			t.Errorf("%s: got %d %d %d %v", test.description, l.reads(test.n), l.writes(test.n), l.durable(test.n), l.strict(test.n))
		}
	}
}

func TestConfig(t *testing.T) {
	for text, change := range map[string]func(*Config){
		"no nodes":            func(c *Config) { c.Nodes = nil },
		"names for":           func(c *Config) { c.Names = []string{"a", "b"} },
		"clients: use":        func(c *Config) { c.Clients = -1 },
		"keys: use":           func(c *Config) { c.Keys = MaxKeys + 1 },
		"timeout":             func(c *Config) { c.Timeout = time.Microsecond },
		"workload \"x\"":      func(c *Config) { c.Workloads = []Workload{"x"} },
		"each once":           func(c *Config) { c.Workloads = []Workload{SetAdd, SetAdd} },
		"node address \"::\"": func(c *Config) { c.Nodes = []string{"http://n1:1", "::"} },
	} {
		c := Config{Nodes: []string{"http://n1:1"}}
		change(&c)
		if v, err := New(c); err == nil || !strings.Contains(err.Error(), text) && !strings.Contains(err.Error(), "address") {
			t.Errorf("%s: got %v %v", text, v, err)
		}
	}
	c := Config{Nodes: []string{"http://n1:7070"}}
	if err := c.Check(); err != nil || c.Names != nil {
		t.Errorf("got %v and a changed configuration %+v", err, c)
	}
}

// The number of keys is bounded: it grows far slower than the operations.
func TestKeys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for w, most := range map[Workload]int{SetAdd: 850, Registers: 300, Deletes: 800, Sessions: 1000} {
		p := newPool(w, "run", 20)
		picks := 900_000 // an hour of one workload
		if w == Sessions {
			picks /= 5
		}
		names := map[string]bool{}
		for range picks {
			names[p.pick(random).name] = true
		}
		all := p.all()
		if len(all) != len(names) || len(all) > most || len(all) < 100 {
			t.Errorf("%s: got %d keys of %d picked, want at most %d", w, len(all), len(names), most)
		}
	}
	k := key{name: "k", set: true}
	adds := 0
	for k.add() {
		adds++
	}
	if adds != maxElements {
		t.Errorf("got %d elements, want %d", adds, maxElements)
	}
	a, b := k.shared([]string{"b", "a", "b"}), k.shared([]string{"a", "b"})
	if !slices.Equal(a, []string{"a", "b"}) || &a[0] != &b[0] {
		t.Errorf("got %q and %q, want the same twice", a, b)
	}
}

// No time is given twice, even where none passes.
func TestRecordTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		o := check.Op{Kind: check.Read, Key: "k"}
		last := int64(0)
		for range 3 * chunk {
			id, ok := r.invoke(&o)
			o.Outcome = check.OK
			r.done(id, &o)
			if !ok || o.Invoke <= last || o.Return <= o.Invoke {
				t.Fatalf("got %d to %d after %d", o.Invoke, o.Return, last)
			}
			last = o.Return
		}
		if h := r.history(); len(h) != 3*chunk || h[len(h)-1].ID != len(h)-1 {
			t.Errorf("got %d operations", len(h))
		}
	})
}

// Progress tells of every second, of each operation once, and of each event once.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		var told []Progress
		c := f.config()
		c.Progress = func(p Progress) { told = append(told, p) }
		r := trial(t, c, 5*time.Second, func(v *Verifier) {
			time.Sleep(1500 * time.Millisecond)
			v.Note("something")
		})
		events, ended := 0, 0
		phases := map[string]bool{}
		for _, p := range told {
			events += len(p.Events)
			ended += p.OK + p.Failed + p.Unknown
			phases[p.Phase] = true
			if len(p.Nodes) != 3 {
				t.Errorf("got %+v", p.Nodes)
			}
		}
		if events != 1 || len(r.Events) != 1 || ended != r.Summary.Ops-r.Summary.Finals || len(told) < 6 || !phases[PhaseLoad] || !phases[PhaseQuiet] {
			t.Errorf("got %d events, %v, %d operations of %d, %d calls, phases %v", events, r.Events, ended, r.Summary.Ops-r.Summary.Finals, len(told), phases)
		}
	})
}

// Where no node answers, Load says so; where its context ends first, too.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		for i := range 3 {
			f.setDown(i, true)
		}
		for _, limit := range []time.Duration{time.Second, time.Hour} {
			v, err := New(f.config())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			began := time.Now()
			if err := v.Load(ctx); err == nil || time.Since(began) > startIn+time.Second {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
			cancel()
			if _, err := v.Finish(t.Context()); err == nil {
				t.Error("finished what never began")
			}
			v.Close()
		}
	})
}

// All nodes gone for a while, without a pause between operations: clients do not spin, and nothing is lost.
func TestAllGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		c := f.config()
		c.Pace = -1
		r := trial(t, c, 2*time.Second, func(*Verifier) {
			time.Sleep(100 * time.Millisecond)
			for i := range 3 {
				f.setDown(i, true)
			}
			time.Sleep(2 * time.Second)
			for i := range 3 {
				f.setDown(i, false)
			}
		})
		if n := r.Summary.Ops; n > 4000 || len(r.Report.Violations) > 0 {
			t.Errorf("got %d operations, %v", n, r.Report)
		}
	})
}

func TestBucketThatDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		f.settings.Resolve = "lww"
		v, err := New(f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "last writer") {
			t.Errorf("got %v", err)
		}
	})
}

// Finish is told to stop: it judges what there is, and passes nothing.
func TestEndedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "mute replica")
		v, err := New(f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		load, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := v.Load(load); err != nil {
			t.Fatal(err)
		}
		finish, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		r, err := v.Finish(finish)
		if err != nil || !strings.HasPrefix(r.Verdict(), "INCONCLUSIVE: it was ended before the final reads") {
			t.Errorf("got %v %v", r, err)
		}
	})
}

// A dial that hangs leaves time for the next node.
func TestDialHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		c := f.config()
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "n2:1" {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
			}
			return f.dial(ctx, network, addr)
		}
		r := trial(t, c, 5*time.Second, nil)
		if r.Verdict() != "PASS" || r.Summary.All.Unknown > 0 || r.Summary.All.Fail > 0 {
			t.Errorf("got %s %+v", r.Verdict(), r.Summary.All)
		}
	})
}
