package node

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts of testdata answer into them")

// simRun is what came of a script.
type simRun struct {
	script   []string
	outputs  []string // of each line
	err      error    // the script could not go on
	problems []string
	result   *verify.Result // nil where the script judges nothing
	log      string
	virtual  time.Duration
	seen     simSeen
}

// failure says what is wrong; "" = nothing.
func (r *simRun) failure() string {
	switch {
	case r.err != nil:
		return "error: " + r.err.Error()
	case len(r.problems) > 0:
		return "problem: " + strings.Join(r.problems, "; ")
	case r.result == nil:
		return ""
	}
	if v := r.result; len(v.Report.Violations) > 0 || !v.Converged || len(v.NotRead) > 0 { // a short history is as good as a long one
		return v.Verdict()
	}
	return ""
}

// kind is what a smaller script must show too.
func (r *simRun) kind() string {
	if r.result != nil && len(r.result.Report.Violations) > 0 {
		return string(r.result.Report.Violations[0].Rule)
	}
	word, _, _ := strings.Cut(r.failure(), ":")
	return word
}

// play runs a script in a bubble of its own.
func play(t *testing.T, seed uint64, script []string) *simRun {
	t.Helper()
	dir := simDir(t)
	stuck := time.AfterFunc(simLimit, func() { // in real time, outside of the bubble
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		fmt.Fprintf(os.Stderr, "the simulation of seed %d has not ended after %v:\n%s\n\n%s\n", seed, simLimit, strings.Join(script, "\n"), stacks)
		os.Exit(1)
	})
	defer stuck.Stop()
	r := &simRun{script: script}
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		s := newSimulation(dir, seed)
		for _, line := range script {
			out, err := s.run(line)
			r.outputs = append(r.outputs, out)
			if err != nil {
				r.err = fmt.Errorf("%s: %w", line, err)
				break
			}
		}
		r.seen = s.seen()
		r.err = errors.Join(r.err, s.close())
		time.Sleep(simLinger)
		r.problems, r.result, r.log, r.virtual = s.problems, s.result, s.log.tail(200), time.Since(began)
	})
	return r
}

// simLinger is how long libraries may go on after the end, in virtual time, which stands still afterwards: goleveldb looks up once a second
// whether its database is closed, and memberlist ends a probe of a node that it is unsure of only after eight intervals.
const simLinger = 6 * time.Second

// simLimit is how long one simulation may take in real time. It takes a second or two; what comes here is stuck.
const simLimit = 3 * time.Minute

// shrink looks for the shortest script that still fails in the same way. Since goroutines are not scheduled by the seed, each candidate
// gets some tries.
func shrink(t *testing.T, seed uint64, script []string, kind string, budget time.Duration) ([]string, *simRun) {
	const tries = 4
	deadline := time.Now().Add(budget)
	fails := func(candidate []string) *simRun {
		for range tries {
			if time.Now().After(deadline) {
				return nil
			}
			if r := play(t, seed, candidate); r.failure() != "" && r.kind() == kind {
				return r
			}
		}
		return nil
	}
	var best *simRun
	for size := len(script) / 2; size > 0; size /= 2 {
		for at := 0; at < len(script); {
			var candidate []string
			left := size
			for i, line := range script {
				if i >= at && left > 0 && isFault(line) {
					left--
					continue
				}
				candidate = append(candidate, line)
			}
			if len(candidate) == len(script) {
				break
			}
			if r := fails(candidate); r != nil {
				script, best = candidate, r
			} else {
				at += size
			}
		}
	}
	return script, best
}

// explain shows a failure: what is wrong, the shortest script that shows it, the history of the key, and how to run it again.
func explain(t *testing.T, seed uint64, script []string, r *simRun) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %s\n\nscript:\n  %s\n", seed, r.failure(), strings.Join(script, "\n  "))
	if os.Getenv("RONDO_SIM_SHRINK") != "0" {
		short, again := shrink(t, seed, script, r.kind(), 90*time.Second)
		if again != nil {
			r = again
			fmt.Fprintf(&b, "\nthe shortest script that still fails so:\n  %s\n", strings.Join(short, "\n  "))
		}
	}
	if r.result != nil {
		for _, v := range r.result.Report.Violations[:min(3, len(r.result.Report.Violations))] {
			history := check.Shrink(r.result.History, v)
			fmt.Fprintf(&b, "\n%s\n\nthe shortest history that shows it:\n%s\n", v, check.Timeline(history))
			for _, o := range history {
				fmt.Fprintf(&b, "  %s\n", o)
			}
		}
		for _, p := range r.result.Problems {
			fmt.Fprintf(&b, "\n%s", p)
		}
	}
	fmt.Fprintf(&b, "\nthe last of what the nodes logged:\n%s\n", r.log)
	fmt.Fprintf(&b, "\nrun it again (the seed fixes script and clients, not the order of goroutines; hence the count):\n  RONDO_SIM_SEED=%d go test ./node -run 'TestSimulation$' -count=20\n", seed)
	return b.String()
}

// number reads a number from the environment.
func number64(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

// TestSimulation plays seeds: whole clusters in virtual time under a nemesis that crashes, pauses, cuts off, slows down and confuses
// nodes, powers them off and fills their disks, while clients work; the checkers judge what the clients saw. RONDO_SIM_SEEDS
// says how many, RONDO_SIM_FIRST which is the first, RONDO_SIM_SEED plays one.
func TestSimulation(t *testing.T) {
	usual := uint64(simSeeds)
	if raceDetector {
		usual = simSeeds / 3
	}
	first, count := number64(t, "RONDO_SIM_FIRST", 1), number64(t, "RONDO_SIM_SEEDS", usual)
	if os.Getenv("RONDO_SIM_SEED") != "" {
		first, count = number64(t, "RONDO_SIM_SEED", 0), 1
	}
	var (
		mu      sync.Mutex
		virtual time.Duration
		total   check.Report
		seen    simSeen
		next    = first
		failed  []uint64
		played  uint64
		began   = time.Now()
		workers = runtime.GOMAXPROCS(0)
	)
	t.Run("seeds", func(t *testing.T) {
		for w := range workers {
			t.Run("worker "+strconv.Itoa(w), func(t *testing.T) {
				t.Parallel()
				for {
					mu.Lock()
					seed := next
					next++
					enough := seed >= first+count || len(failed) >= 3
					mu.Unlock()
					if enough {
						return
					}
					script := simPlan(seed)
					r := play(t, seed, script)
					mu.Lock()
					virtual += r.virtual
					seen.add(r.seen)
					if r.result != nil {
						total.Ops += r.result.Report.Ops
						total.Writes += r.result.Report.Writes
						total.Unknown += r.result.Report.Unknown
						total.StrictReads += r.result.Report.StrictReads
					}
					if r.failure() != "" {
						failed = append(failed, seed)
					}
					if played++; played%100 == 0 {
						t.Logf("%d of %d seeds after %v, failed: %v", played, count, time.Since(began).Round(time.Second), failed)
					}
					mu.Unlock()
					if r.failure() != "" {
						t.Error(explain(t, seed, script, r))
					}
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d seeds: %.1f hours of virtual time in %v, %.2f simulated hours per minute; %d operations, %d acknowledged writes, %d unknown, %d strict reads; failed: %v",
		played, virtual.Hours(), took.Round(time.Second), virtual.Hours()/took.Minutes(), total.Ops, total.Writes, total.Unknown, total.StrictReads, failed)
	t.Logf("repair: %v", seen)
	if count >= 50 && seen.missing() {
		t.Errorf("some of what repairs was not met: %v", seen)
	}
	if count >= 10 && (total.Writes < int(count)*50 || total.StrictReads < int(count)*50) {
		t.Errorf("the histories are too thin to show anything: %+v", total)
	}
}

// simSeeds is how many seeds an ordinary run of the tests plays.
const simSeeds = 12

// TestScripts plays the scenarios of testdata: commands behind ">", each followed by what it answers.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			if raceDetector && i%3 != 0 {
				t.Skip("SKIPPED: the race detector sees every third script, the plain run all of them")
			}
			got, want, r := playFile(t, file)
			if r.err != nil || len(r.problems) > 0 {
				t.Errorf("%s\n%s", r.failure(), r.log)
			}
			if got == want {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the answers have changed (-rewrite keeps them):\n%s\nlog:\n%s", got, r.log)
			if r.failure() != "" {
				t.Error(explain(t, 1, r.script, r))
			}
		})
	}
}

// playFile plays a scenario. got is the file as it would be written now.
func playFile(t *testing.T, file string) (got, want string, r *simRun) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var script, kept []string // kept: lines of the file that are no answers
	for _, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		command, is := strings.CutPrefix(line, "> ")
		if is {
			script = append(script, command)
		}
		if is || line == "" || strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	r = play(t, 1, script)
	var out strings.Builder
	outputs := r.outputs
	for _, line := range kept {
		out.WriteString(line + "\n")
		if !strings.HasPrefix(line, "> ") || len(outputs) == 0 {
			continue
		}
		if outputs[0] != "" {
			out.WriteString(outputs[0] + "\n")
		}
		outputs = outputs[1:]
	}
	return out.String(), string(b), r
}
