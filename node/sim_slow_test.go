package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

// TestSlowNode: while one node is 500 ms slow, or answers nothing at all, requests through the others are hardly slower: p99 at most
// half as much again as before, and at least 99 in 100 succeed. Virtual time makes that exact: nothing but the
// network takes time.
func TestSlowNode(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: figures in virtual time, for which the race detector takes minutes; it watches the same code in TestSimulation and TestScripts")
	}
	for _, nodes := range []int{3, 5} {
		for _, fault := range []string{"slow n3 500ms", "pause n3"} {
			t.Run(fmt.Sprintf("%s of %d", strings.ReplaceAll(fault, " ", "_"), nodes), func(t *testing.T) {
				t.Parallel()
				var before, during sample
				dir := simDir(t)
				synctest.Test(t, func(t *testing.T) {
					s := newSimulation(dir, 1)
					defer func() {
						if err := s.close(); err != nil {
							t.Error(err)
						}
						time.Sleep(simLinger)
					}()
					if err := s.start(nodes); err != nil {
						t.Fatal(err)
					}
					err := s.startLoad(verify.Config{
						Run: "slow", Clients: 8, Keys: 40, Pace: 30 * time.Millisecond, Timeout: 2 * time.Second, Settle: time.Minute, Stick: true,
						Workloads: []verify.Workload{verify.Registers},
					})
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					one := len(s.load.History())
					time.Sleep(30 * time.Second)
					two := len(s.load.History())
					if _, err := s.run(fault); err != nil {
						t.Fatal(err)
					}
					time.Sleep(30 * time.Second)
					all := s.load.History()
					before, during = measure(all[one:two], "n3"), measure(all[two:], "n3")
					result, err := s.finish()
					if err != nil {
						t.Fatal(err)
					}
					if v := result.Verdict(); v != "PASS" {
						t.Error(v)
					}
				})
				t.Logf("before: %v\nwith %s: %v", before, fault, during)
				for kind, b := range before.took {
					d := during.took[kind]
					if len(b) < 500 || len(d) < 500 {
						t.Errorf("%s: %d and %d are too few to tell a p99", kind, len(b), len(d))
						continue
					}
					if share := float64(p99(d)) / float64(p99(b)); share > 1.5 {
						t.Errorf("p99 of a %s is %.2f times what it was: %v, before %v", kind, share, p99(d), p99(b))
					}
				}
				if share := during.share(); share < 0.99 {
					t.Errorf("%.2f %% of the requests succeeded", 100*share)
				}
			})
		}
	}
}

// sample is what became of strict operations through healthy nodes.
type sample struct {
	took         map[check.Kind][]time.Duration // of those that succeeded, sorted
	good, failed int
}

func measure(ops []check.Op, except string) sample {
	s := sample{took: map[check.Kind][]time.Duration{}}
	for _, o := range ops {
		if o.Node == except || !o.Strict || o.Return == 0 && o.Outcome == check.Unknown {
			continue
		}
		kind := o.Kind
		if kind == check.Delete {
			kind = check.Put
		}
		if o.Outcome != check.OK {
			s.failed++
			continue
		}
		s.good++
		s.took[kind] = append(s.took[kind], time.Duration(o.Return-o.Invoke))
	}
	for _, took := range s.took {
		slices.Sort(took)
	}
	return s
}

func p99(sorted []time.Duration) time.Duration { return sorted[len(sorted)*99/100] }

func (s sample) share() float64 { return float64(s.good) / float64(max(1, s.good+s.failed)) }

func (s sample) String() string {
	out := fmt.Sprintf("%d succeeded, %d failed", s.good, s.failed)
	for _, kind := range []check.Kind{check.Read, check.Put} {
		if d := s.took[kind]; len(d) > 0 {
			out += fmt.Sprintf("; %s p50 %v p99 %v max %v", kind, d[len(d)/2].Round(time.Microsecond), p99(d).Round(time.Microsecond), d[len(d)-1].Round(time.Microsecond))
		}
	}
	return out
}
