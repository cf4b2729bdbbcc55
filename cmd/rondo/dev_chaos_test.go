//go:build unix

package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devSession is a run of "rondo dev --chaos" in a process of its own.
type devSession struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	text  strings.Builder // what it printed, as far as it was read
	data  string          // its temporary folder
}

// startDev runs "rondo dev --chaos" with these arguments, and returns when the nodes run.
func startDev(t *testing.T, args ...string) *devSession {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s := &devSession{t: t, cmd: exec.CommandContext(ctx, self, append([]string{"dev", "--port", "0"}, args...)...), lines: make(chan string, 1000)}
	s.cmd.Env = append(os.Environ(), mainVariable+"=1", "TMPDIR="+t.TempDir())
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			s.lines <- in.Text()
		}
	}()
	s.data = s.until(`^Rondo is ready: .* Data and logs: (\S+)$`)[1]
	return s
}

// until reads lines up to one that matches, and returns its parts.
func (s *devSession) until(pattern string) []string {
	s.t.Helper()
	want := regexp.MustCompile(pattern)
	limit := time.After(30 * time.Second)
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				s.t.Fatalf("it ended without a line %s:\n%s", pattern, s.text.String())
			}
			s.text.WriteString(line + "\n")
			if parts := want.FindStringSubmatch(line); parts != nil {
				return parts
			}
		case <-limit:
			s.t.Fatalf("no line %s in 30 s:\n%s", pattern, s.text.String())
		}
	}
}

// interrupt is what Ctrl-C does.
func (s *devSession) interrupt() {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the end, reads what is left, and wants no process to stay, nor the folder unless it has to.
func (s *devSession) end(wantCode int, wantData bool) {
	s.t.Helper()
	for line := range s.lines {
		s.text.WriteString(line + "\n")
	}
	err := s.cmd.Wait()
	if got := s.cmd.ProcessState.ExitCode(); got != wantCode {
		s.t.Errorf("exit code %d (%v), want %d:\n%s", got, err, wantCode, s.text.String())
	}
	if _, err := os.Stat(s.data); (err == nil) != wantData {
		s.t.Errorf("the folder %s at the end: %v, want it kept: %v", s.data, err, wantData)
	}
	if left := processesWith(s.t, s.data); len(left) > 0 {
		s.t.Errorf("these still run: %v", left)
	}
}

// processesWith lists the processes that have a text in their command line. Empty where there is no /proc.
func processesWith(t *testing.T, text string) (found []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Logf("not checked for processes left behind: %v", err)
		return nil
	}
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(line), text) { // else: no process, or it has ended
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue // self
			}
			found = append(found, pid)
		}
	}
	return found
}

// Faults are shown as they happen, with the state of all nodes; the first Ctrl-C drains what runs, broken or not, and removes
// the folder.
func TestDevChaos(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--chaos", "--every", "800ms", "--seed", "1")
	s.until(`^  n3 +http://127\.[\d.]+:\d+$`)
	s.until(`^Break-it mode, gentle, a fault about every 800ms \(--seed 1\)\.`)
	s.until(`^  rondo verify --node http://127\.[\d.]+:\d+,http://127\.[\d.]+:\d+,http://127\.[\d.]+:\d+$`)
	if got := len(processesWith(t, s.data)); got != 3 && got != 0 {
		t.Errorf("%d processes run, want 3", got)
	}
	for range 3 {
		node := s.until(`^\d\d:\d\d:\d\d  (n[123])(: kill -9, restart|: frozen \(SIGSTOP\) for|: told to stop, restart).* \d\.\d s +n1 .  ?.*n2 .*n3 .`)[1]
		s.until(`^\d\d:\d\d:\d\d  ` + node + ` is back after \d\.\d s +n1 ●  n2 ●  n3 ●$`)
	}
	s.until(`○`) // something is broken now
	s.interrupt()
	s.end(exitOK, false)
	if !strings.HasSuffix(s.text.String(), "Stopping.\n") {
		t.Errorf("it did not say that it stops:\n%s", s.text.String())
	}
}

// A second Ctrl-C does not wait for nodes that take their time.
func TestDevChaosKillsAtTheSecondInterrupt(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--chaos=harsh", "--every", "1h", "--seed", "1")
	s.until(`^  rondo verify `)
	pids := processesWith(t, s.data)
	if len(pids) == 0 {
		t.Skip("SKIPPED: needs /proc")
	}
	for _, pid := range pids { // what is frozen cannot drain
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	s.interrupt()
	s.until(`^Stopping\.$`)
	began := time.Now()
	s.interrupt()
	s.end(exitFailure, false)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v after the second Ctrl-C", took)
	}
}

// A node that ends by itself is an error with its last words, and what it left is kept.
func TestDevChaosReportsANodeThatEnds(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--chaos", "--every", "1h", "-v")
	s.until(`^  rondo verify `)
	pids := processesWith(t, s.data)
	if len(pids) == 0 {
		t.Skip("SKIPPED: needs /proc")
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until(`^Data and logs are kept in ` + regexp.QuoteMeta(s.data) + `$`)
	// The cluster may just be waiting for all nodes to see each other.
	s.until(`^error: (.*: )?n[123] (ended, and nobody had (told it to; its last words:|broken it)|has ended before it was ready; its last words:)$`)
	s.until(`level=INFO`)
	s.end(exitFailure, true)
}

// One command starts the cluster, breaks it, loads it, heals it and ends with the verdict.
func TestDevVerify(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--verify", "--duration", "4s", "--every", "1s", "--seed", "1")
	s.until(`^Break-it mode, gentle, .* Clients write and read for 4s; then comes the verdict\.$`)
	s.until(`^ 0:0\d  n[123](: kill -9|: frozen|: told to stop)`)
	s.until(`^ 0:\d\d  no more faults: `)
	s.until(`^PASS: no promise was broken in [\d,]+ operations\.$`)
	s.until(`^Stopping\.$`)
	s.end(exitOK, false)
}

// Ctrl-C brings the verdict forward.
func TestDevVerifyEndsEarly(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--verify", "--duration", "1h", "--every", "1h")
	s.until(`^ 0:0\d  [\d,]+/s, .* answered`)
	s.interrupt()
	s.until(`^PASS: `)
	s.end(exitOK, false)
}

// A second Ctrl-C does not wait for the verdict.
func TestDevVerifyStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := startDev(t, "--verify", "--duration", "1h", "--every", "1h")
	s.until(`^ 0:0\d  [\d,]+/s, .* answered`)
	s.interrupt()
	s.until(`^ 0:\d\d  no more faults: `)
	s.interrupt()
	s.until(`^error: interrupted: the nodes were killed$`)
	s.end(exitFailure, false)
	if strings.Contains(s.text.String(), "INCONCLUSIVE") {
		t.Errorf("it judged all the same:\n%s", s.text.String())
	}
}
