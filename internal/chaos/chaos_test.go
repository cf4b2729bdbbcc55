package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/proc"
)

// fakeVariable makes this test binary play a node instead of running tests: it is ready, and sees the named nodes alive.
const fakeVariable = "CHAOS_FAKE_NODE"

func TestMain(m *testing.M) {
	if role := os.Getenv(fakeVariable); role != "" {
		os.Exit(fake(role, os.Args[2:]))
	}
	os.Exit(m.Run())
}

// fake is a node for the flags that proc gives it. Roles: "good"; "stubborn" ends with exit code 3 when told to stop; "frail" ends
// by itself a moment after its start; "once" does not start a second time.
func fake(role string, args []string) int {
	flags := flag.NewFlagSet("fake", flag.ContinueOnError)
	known := map[string]*string{}
	for _, name := range []string{"data", "name", "cluster", "http", "peer", "gossip", "join", "expect"} {
		known[name] = flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	data := *known["data"]
	if _, err := os.Stat(data); role == "once" && err == nil {
		fmt.Println("there is data already")
		return 1
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		fmt.Println(err)
		return 1
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		type member struct {
			Name   string `json:"name"`
			Health string `json:"health"`
		}
		var members []member
		for i := range len(strings.Split(*known["join"], ",")) {
			members = append(members, member{fmt.Sprint("n", i+1), "alive"})
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"members": members}); err != nil {
			fmt.Println(err)
		}
	})
	go func() { fmt.Println(http.ListenAndServe(*known["http"], mux)) }()
	if role == "frail" {
		select {
		case <-term:
		case <-time.After(time.Second):
		}
		fmt.Println("out of luck")
		return 1
	}
	<-term
	if role == "stubborn" {
		return 3
	}
	return 0
}

// cluster starts fakes that end with the test.
func cluster(t *testing.T, roles ...string) []*proc.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := proc.Loopback(self, t.TempDir(), "chaos", len(roles))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		n.Env = []string{fakeVariable + "=" + roles[i]}
	}
	t.Cleanup(func() {
		if err := proc.KillAll(nodes); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := proc.StartAll(ctx, nodes); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// Run breaks nodes in every way, tells of each fault before and after, never breaks more than it may, and leaves all well.
func TestRun(t *testing.T) {
	for _, level := range []Level{Gentle, Harsh} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, "good", "good", "good")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			byName := map[string]*proc.Process{}
			for _, n := range nodes {
				byName[n.Name] = n
			}
			down, most, over := map[string]Event{}, 0, 0
			used, broken := map[What]bool{}, map[string]bool{}
			last := time.Duration(0)
			c, err := New(Config{Nodes: nodes, Seed: 3, Level: level, Every: 200 * time.Millisecond, Event: func(e Event) {
				if e.At < last || e.For <= 0 {
					t.Errorf("event %+v after %v", e, last)
				}
				last = e.At
				p := byName[e.Node]
				if e.Over {
					if begin, ok := down[e.Node]; !ok || begin.What != e.What || e.For < begin.For {
						t.Errorf("over: %+v, began: %+v", e, begin)
					}
					if !p.Running() || p.Paused() {
						t.Errorf("%s is said to be back and is not", e.Node)
					}
					delete(down, e.Node)
					if over++; over == 20 {
						cancel()
					}
					return
				}
				down[e.Node] = e
				most = max(most, len(down))
				used[e.What], broken[e.Node] = true, true
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if over < 20 {
				t.Fatalf("%d faults in 30 s", over)
			}
			if len(used) != 3 || len(broken) != 3 {
				t.Errorf("used %v on %v, want every way and every node", used, broken)
			}
			if want := map[Level]int{Gentle: 1, Harsh: 3}[level]; most != want {
				t.Errorf("at most %d nodes were down, want %d", most, want)
			}
			for _, n := range nodes {
				if !n.Running() || n.Paused() {
					t.Errorf("%s was left broken", n.Name)
				}
			}
		})
	}
}

// A fault that is under way when ctx ends is healed by Run, whichever it is.
func TestRunHealsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, "good", "good", "good")
	for seed, left := uint64(0), map[What]bool{Kill: true, Pause: true, Drain: true}; len(left) > 0; seed++ {
		if seed == 30 {
			t.Fatalf("no plan of %d began with %v", seed, left)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var what What
		c, err := New(Config{Nodes: nodes, Seed: seed, Every: time.Second, Event: func(e Event) { what = e.What; cancel() }})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, n := range nodes {
			if !n.Running() || n.Paused() {
				t.Errorf("%s was left broken by %s", n.Name, what)
			}
		}
		delete(left, what)
	}
}

// Nodes that end by themselves, do not come back, or do not stop cleanly are errors that show their last words.
func TestRunReports(t *testing.T) {
	for _, test := range []struct {
		role, want string
	}{
		{"frail", "out of luck"},
		{"once", "there is data already"},
		{"stubborn", "exit code 3"},
	} {
		t.Run(test.role, func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, "good", test.role, "good")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var told atomic.Int64
			c, err := New(Config{Nodes: nodes, Every: 100 * time.Millisecond, Event: func(Event) { told.Add(1) }})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Break(ctx); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "n2") {
				t.Errorf("after %d events: got %v, want an error with %q of n2", told.Load(), err, test.want)
			}
		})
	}
}

// A log that cannot be written is found when the node is started again.
func TestRunReportsAFailedStart(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, "good", "good", "good")
	nodes[1].Log = filepath.Join(t.TempDir(), "no", "such", "folder")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := New(Config{Nodes: nodes, Every: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Break(ctx); err == nil || !strings.Contains(err.Error(), "start n2") {
		t.Errorf("got %v, want an error of the start of n2", err)
	}
}
