// Package proc runs nodes as child processes: it starts, pauses, kills and restarts them. Tests with real processes, benchmarks and
// "rondo dev --chaos" stand on it.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says how one node runs: "rondo serve" with these flags.
type Spec struct {
	Binary  string   // the program
	Prefix  []string // what runs the program, as in ip netns exec NAME; it must become the program (exec), so that signals reach it
	Name    string   // of the node
	Cluster string   // name of the cluster
	Host    string   // address that it binds to
	HTTP    int      // port of the API
	Peer    int      // port of the replica protocol
	Gossip  int      // port of membership
	Data    string   // data directory
	Log     string   // file that its output is appended to
	Join    []string // gossip addresses
	Expect  int      // nodes that form the first ring
	Args    []string // more flags
	Env     []string // more variables, NAME=value; RONDO_* of this process are not passed on
}

// Process is a node's process, or the place of one that is not running. Safe for concurrent use.
type Process struct {
	Spec

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{} // closed when cmd has ended
	paused bool
}

// New makes a process and does not start it.
func New(s Spec) *Process { return &Process{Spec: s} }

// URL is the base address of the node's API.
func (p *Process) URL() string { return "http://" + net.JoinHostPort(p.Host, strconv.Itoa(p.HTTP)) }

// command is the whole command line.
func (p *Process) command() []string {
	at := func(port int) string { return net.JoinHostPort(p.Host, strconv.Itoa(port)) }
	line := append(append([]string{}, p.Prefix...), p.Binary, "serve",
		"--data", p.Data, "--name", p.Name, "--cluster", p.Cluster, "--http", at(p.HTTP), "--peer", at(p.Peer), "--gossip", at(p.Gossip))
	if len(p.Join) > 0 {
		line = append(line, "--join", strings.Join(p.Join, ","))
	}
	if p.Expect > 0 {
		line = append(line, "--expect", strconv.Itoa(p.Expect))
	}
	return append(line, p.Args...)
}

// Start runs the program. It dies with this process. Running already is an error.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("start %s: it runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	line := p.command()
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(environment(), p.Env...)
	// A Ctrl-C in the terminal is for the parent, which decides in what order its nodes stop.
	cmd.SysProcAttr = childOfThis()
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.Name, err), log.Close())
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		_ = log.Close()
		close(done)
	}()
	p.cmd, p.done, p.paused = cmd, done, false
	return nil
}

// environment is this process's variables but for the settings of a node, RONDO_*, which are the Spec's to choose.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RONDO_") })
}

func (p *Process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Running tells whether the process exists, paused or not.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// PID is the number of the process that was started last; 0 before the first start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal. A process that has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", s, p.Name, err)
	}
	switch s {
	case sigStop:
		p.paused = true
	case sigCont:
		p.paused = false
	}
	return nil
}

// Pause freezes the process, as SIGSTOP does; where there is a /proc, every thread stands still when Pause returns. An error on
// systems without such signals.
func (p *Process) Pause() error {
	if err := p.Signal(sigStop); err != nil {
		return err
	}
	for deadline := time.Now().Add(pauseTime); p.Running() && !frozen(p.PID()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s still runs %v after SIGSTOP", p.Name, pauseTime)
		}
	}
	return nil
}

// pauseTime is how long a process may take to stand still. A thread that waits for a disk does so when the disk has answered.
const pauseTime = 10 * time.Second

// frozen tells whether no thread of a process runs, as far as /proc tells.
func frozen(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The state follows the name of the program, which is in parentheses and may hold any.
		if i := bytes.LastIndexByte(b, ')'); i+2 < len(b) && !bytes.ContainsRune([]byte("TtZX"), rune(b[i+2])) {
			return false
		}
	}
	return true
}

// Resume lets a paused process go on. One that is not paused is left alone.
func (p *Process) Resume() error {
	if !p.Paused() {
		return nil
	}
	return p.Signal(sigCont)
}

// Paused tells whether the process runs and is frozen.
func (p *Process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running() && p.paused
}

// killTime is how long a killed process may take to go.
const killTime = 10 * time.Second

// Kill ends the process as kill -9 does, and returns when it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err := p.Wait(killTime)
	return err
}

// Stop asks the process to drain (SIGTERM), resumes it where it is paused, and waits until it is gone. code is its exit code.
func (p *Process) Stop(limit time.Duration) (code int, err error) {
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Resume()); err != nil {
		return 0, err
	}
	return p.Wait(limit)
}

// Wait blocks until the process has ended, and returns its exit code; -1 where a signal ended it. One that never ran is an
// error.
func (p *Process) Wait(limit time.Duration) (code int, err error) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return 0, fmt.Errorf("wait for %s: it never ran", p.Name)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return 0, fmt.Errorf("%s has not ended after %v", p.Name, limit)
	}
}

const pollTick = 20 * time.Millisecond

// WaitReady polls /readyz until it answers 200. It fails when ctx ends, or at once when the process has ended.
func (p *Process) WaitReady(ctx context.Context) error {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(pollTick)
	defer tick.Stop()
	last := errors.New("it was not asked")
	for {
		if !p.Running() {
			return fmt.Errorf("%s has ended before it was ready; its last words:\n%s", p.Name, p.LogTail(10))
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("ask %s: %w", p.Name, err)
		}
		response, err := client.Do(request)
		if err == nil {
			err = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			last = errors.Join(fmt.Errorf("/readyz answers %d", response.StatusCode), err)
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.Name, last)
		case <-tick.C:
		}
	}
}

// LogTail is the last lines of the process's output.
func (p *Process) LogTail(lines int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
