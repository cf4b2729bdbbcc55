package proc

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeVariable makes this test binary play a node instead of running tests.
const fakeVariable = "PROC_FAKE_NODE"

func TestMain(m *testing.M) {
	if role := os.Getenv(fakeVariable); role != "" {
		os.Exit(fake(role, os.Args[2:]))
	}
	os.Exit(m.Run())
}

// fake is a node for the flags that a Process gives it. Roles: "good"; "bad" ends at once; "late" is never ready; "deaf" does not
// stop when told to.
func fake(role string, args []string) int {
	flags := flag.NewFlagSet("fake", flag.ContinueOnError)
	known := map[string]*string{}
	for _, name := range []string{"data", "name", "cluster", "http", "peer", "gossip", "join", "expect", "more"} {
		known[name] = flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	fmt.Println("line one\nhello from", *known["name"], "more", *known["more"], "setting", os.Getenv("RONDO_SETTING"), "own", os.Getenv("RONDO_OWN"))
	if role == "bad" {
		return 7
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if role == "late" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { fmt.Println(http.ListenAndServe(*known["http"], nil)) }()
	<-term
	if role == "deaf" {
		<-term
	}
	return 5
}

// fakes describes nodes that end with the test.
func fakes(t *testing.T, roles ...string) []*Process {
	t.Helper()
	if !CanSignal {
		t.Skip("SKIPPED: needs the signals of Unix")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Loopback(self, t.TempDir(), "proc", len(roles))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range all {
		p.Env = []string{fakeVariable + "=" + roles[i]}
	}
	t.Cleanup(func() {
		if err := KillAll(all); err != nil {
			t.Error(err)
		}
	})
	return all
}

// within is a context for a part of a test.
func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestLife(t *testing.T) {
	t.Setenv("RONDO_SETTING", "inherited")
	p := fakes(t, "good")[0]
	p.Args = []string{"--more", "flags"}
	p.Env = append(p.Env, "RONDO_OWN=1")
	if p.Running() || p.PID() != 0 || p.Pause() != nil || p.Paused() {
		t.Error("it runs before it was started")
	}
	if _, err := p.Wait(time.Second); err == nil {
		t.Error("waited for a process that never ran")
	}
	start := func() {
		t.Helper()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.WaitReady(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		if !p.Running() || p.Paused() {
			t.Error("it is ready and does not run")
		}
	}
	start()
	if err := p.Start(); err == nil {
		t.Error("it was started twice")
	}
	if got, want := p.LogTail(1), "hello from n1 more flags setting  own 1"; got != want {
		t.Errorf("last line %q, want %q: a node has the settings of its Spec only", got, want)
	}
	if err := p.Resume(); err != nil || p.Paused() {
		t.Errorf("resume of what is not paused: %v", err)
	}
	if err := p.Pause(); err != nil || !p.Paused() {
		t.Errorf("pause: %v", err)
	}
	short := within(t, 300*time.Millisecond)
	if err := p.WaitReady(short); err == nil {
		t.Error("it is ready while paused")
	}
	if err := p.Resume(); err != nil || p.Paused() {
		t.Errorf("resume: %v", err)
	}
	if err := p.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil || p.Running() {
		t.Errorf("kill: %v", err)
	}
	if code, err := p.Wait(time.Second); code != -1 || err != nil {
		t.Errorf("killed: exit code %d, %v, want -1", code, err)
	}
	start()
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Stop(20 * time.Second); code != 5 || err != nil || p.Running() || p.Paused() {
		t.Errorf("stopped while paused: exit code %d, %v, want 5", code, err)
	}
}

// What ends at once is an error with its last words; so is what is never ready, and then nothing is left running.
func TestStartAllFails(t *testing.T) {
	for role, want := range map[string]string{"bad": "hello from n2", "late": "503"} {
		all := fakes(t, "good", role)
		err := StartAll(within(t, 3*time.Second), all)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", role, err, want)
		}
		if slices.ContainsFunc(all, (*Process).Running) {
			t.Errorf("%s: something runs still", role)
		}
	}
}

// StopAll says who did not stop cleanly, and who not at all.
func TestStopAll(t *testing.T) {
	all := fakes(t, "good", "deaf", "good")
	if err := StartAll(within(t, 20*time.Second), all); err != nil {
		t.Fatal(err)
	}
	if err := all[2].Kill(); err != nil {
		t.Fatal(err)
	}
	err := StopAll(all, 2*time.Second)
	if err == nil || !strings.Contains(err.Error(), "n1 was asked to stop and ended with exit code 5") ||
		!strings.Contains(err.Error(), "n2 has not ended") || strings.Contains(err.Error(), "n3") {
		t.Errorf("got %v, want errors of n1 and n2", err)
	}
	if all[0].Running() || !all[1].Running() {
		t.Error("n1 runs, or n2 does not")
	}
}
