package verify

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/check"
)

// trial loads a fake for so long, in virtual time, and returns the result.
func trial(t *testing.T, c Config, load time.Duration, meanwhile func(v *Verifier)) *Result {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithTimeout(t.Context(), load)
	defer cancel()
	var faults sync.WaitGroup
	defer faults.Wait()
	if meanwhile != nil {
		faults.Go(func() { meanwhile(v) })
	}
	if err := v.Load(ctx); err != nil {
		t.Fatal(err)
	}
	faults.Wait()
	r, err := v.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rules(r *Result) []check.Rule {
	var out []check.Rule
	for _, v := range r.Report.Violations {
		out = append(out, v.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A correct store passes, with nodes that go away and come back.
func TestPass(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		faults int
	}{
		{"nothing breaks", func(*Config) {}, 0},
		{"nodes break", func(*Config) {}, 4},
		{"clients stick", func(c *Config) { c.Stick, c.Seed = true, 7 }, 4},
		{"no pause", func(c *Config) { c.Pace, c.Keys = -1, 40 }, 1},
		{"one workload", func(c *Config) { c.Workloads = []Workload{Deletes} }, 4},
		{"values expire", func(c *Config) { c.TTL, c.Skew = time.Second, 10*time.Millisecond }, 4},
		{"stand-ins", func(c *Config) { c.SloppyPercent = 50 }, 4},
		{"only stand-ins", func(c *Config) { c.Options.Sloppy = "true" }, 4},
		{"nobody reads in the end", func(c *Config) { c.Quiet = true }, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, "")
				c := f.config()
				test.change(&c)
				if c.Quiet || c.SloppyPercent > 0 || c.Options.Sloppy != "" {
					go f.heal()
				}
				load := 6 * time.Second // longer than all faults
				if c.Pace < 0 {
					load = time.Second
				}
				r := trial(t, c, load, func(v *Verifier) {
					for i := range test.faults {
						time.Sleep(500 * time.Millisecond)
						f.setDown(i%3, true)
						f.setDown((i+1)%3, i == 3) // once two at a time
						v.Note("down")
						time.Sleep(800 * time.Millisecond)
						f.setDown(i%3, false)
						f.setDown((i+1)%3, false)
					}
				})
				t.Logf("%s: %v, converged in %v\n%+v", r.Verdict(), r.Report, r.ConvergedIn, r.Summary)
				if r.Verdict() != "PASS" || !r.Converged || !r.Strict || len(r.NotRead) > 0 {
					t.Errorf("got %s %v", r.Verdict(), rules(r))
				}
				standins, expiring := 0, 0
				for _, o := range r.History {
					standins += o.Standins
					if o.Expires != 0 {
						expiring++
					}
				}
				if (standins > 0) != (c.SloppyPercent > 0 || c.Options.Sloppy != "") || (expiring > 100) != (c.TTL > 0) {
					t.Errorf("got %d stand-ins and %d values that expire", standins, expiring)
				}
				s := r.Summary
				if test.faults > 0 {
					if !slices.ContainsFunc(r.Events, func(e Event) bool { return strings.HasSuffix(e.Text, "stopped answering") }) ||
						!slices.ContainsFunc(r.Events, func(e Event) bool { return strings.Contains(e.Text, "is back after ") }) {
						t.Errorf("got events %v", r.Events)
					}
				}
				if len(c.Workloads) != 1 && (s.Staleness.Reads < 100 || s.Set.Elements < 50 || s.Set.Lost != 0) {
					t.Errorf("got %+v %+v", s.Staleness, s.Set)
				}
			})
		})
	}
}

// Each way of being wrong is found, and named.
func TestFail(t *testing.T) {
	for _, test := range []struct {
		bug  string
		want check.Rule
	}{
		{"lost writes", check.Quorum},
		{"lost writes", check.Lost},
		{"lost deletes", check.Zombie},
		{"lost elements", check.LostElement},
		{"last writer wins", check.Lost},
		{"stale reads", check.Quorum},
		{"session ignored", check.Session},
		{"write receipts", check.Receipt},
		{"read receipts", check.Receipt},
		{"unsynced", check.Receipt},
		{"altered bytes", check.Phantom},
		{"dishonest failures", check.Rejected},
		{"never converges", check.Diverged},
		{"stand-ins of their own accord", check.Receipt},
		{"expired shown", check.Expired},
	} {
		t.Run(test.bug+" "+string(test.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFake(t, test.bug).config()
				if test.want == check.Expired {
					c.TTL, c.Skew = time.Second, 10*time.Millisecond
				}
				r := trial(t, c, 2*time.Second, nil)
				if !strings.HasPrefix(r.Verdict(), "FAIL: ") || !slices.Contains(rules(r), test.want) || slices.Contains(rules(r), check.Malformed) {
					t.Errorf("got %s %v, want %s", r.Verdict(), rules(r), test.want)
				}
			})
		})
	}
}

// Where nobody reads and nothing heals by itself, replicas that have missed a write stay apart.
func TestQuietNeedsHealing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t, "").config()
		c.Quiet = true
		r := trial(t, c, 2*time.Second, nil)
		if got := r.Verdict(); !strings.HasPrefix(got, "INCONCLUSIVE: ") || r.Converged || len(r.Unsettled) == 0 {
			t.Errorf("got %s, %d keys unsettled", got, len(r.Unsettled))
		}
	})
}

// What cannot be judged is not passed.
func TestInconclusive(t *testing.T) {
	for _, test := range []struct {
		name, want string
		bug        string
		fault      func(node int, r *http.Request) (int, string)
		load       time.Duration
	}{
		{name: "mute replica", bug: "mute replica", want: "keys could not be read at the end", load: 2 * time.Second},
		{name: "too short", want: "are too few", load: 50 * time.Millisecond},
		{name: "no write", want: "no write was acknowledged", load: 2 * time.Second, fault: func(_ int, r *http.Request) (int, string) {
			if r.Method != http.MethodGet {
				return 500, `{"code":"internal","outcome":"unknown"}`
			}
			return 0, ""
		}},
		{name: "no answer to reads of all", want: "could not be read at the end", load: 2 * time.Second, fault: func(_ int, r *http.Request) (int, string) {
			if r.URL.Query().Get("r") == "all" {
				return -1, ""
			}
			return 0, ""
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, test.bug)
				f.fault = test.fault
				r := trial(t, f.config(), test.load, nil)
				if got := r.Verdict(); !strings.HasPrefix(got, "INCONCLUSIVE: ") || !strings.Contains(got, test.want) {
					t.Errorf("got %s %v, want %s", got, r.Report, test.want)
				}
			})
		})
	}
}
