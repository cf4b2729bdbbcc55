// Package proc runs nodes as child processes: it starts, pauses, kills and restarts them. Tests with real processes, benchmarks and
// "rondo dev --chaos" stand on it.
package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	Env     []string // more variables, NAME=value
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
	cmd.Env = append(os.Environ(), p.Env...)
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
	case syscall.SIGSTOP:
		p.paused = true
	case syscall.SIGCONT:
		p.paused = false
	}
	return nil
}

// Pause freezes the process, as SIGSTOP does.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

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

// Stop asks the process to drain (SIGTERM) and waits until it is gone. code is its exit code.
func (p *Process) Stop(limit time.Duration) (code int, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
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

// Loopback describes count nodes named n1, n2, … on free loopback ports, each with its data and log under dir, that form one
// ring and know each other's addresses.
func Loopback(binary, dir, cluster string, count int) ([]*Process, error) {
	ports, err := FreePorts(3 * count)
	if err != nil {
		return nil, err
	}
	var join []string
	for i := range count {
		join = append(join, net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[3*i+2])))
	}
	var out []*Process
	for i := range count {
		name := "n" + strconv.Itoa(i+1)
		out = append(out, New(Spec{
			Binary: binary, Name: name, Cluster: cluster, Host: "127.0.0.1", HTTP: ports[3*i], Peer: ports[3*i+1], Gossip: ports[3*i+2],
			Data: filepath.Join(dir, name), Log: filepath.Join(dir, name+".log"), Join: join, Expect: count,
		}))
	}
	return out, nil
}

// StartAll starts processes and waits until each is ready. On an error those it started are killed.
func StartAll(ctx context.Context, all []*Process) error {
	var err error
	for _, p := range all {
		if err = p.Start(); err != nil {
			break
		}
	}
	for _, p := range all {
		if err == nil {
			err = p.WaitReady(ctx)
		}
	}
	if err != nil {
		return errors.Join(err, KillAll(all))
	}
	return nil
}

// KillAll ends every process that runs.
func KillAll(all []*Process) error {
	var errs []error
	for _, p := range all { // all at once, as a power cut does
		errs = append(errs, p.Signal(syscall.SIGKILL))
	}
	for _, p := range all {
		if p.PID() != 0 {
			_, err := p.Wait(killTime)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// FreePorts picks loopback ports that nobody listens on, for TCP and UDP.
func FreePorts(count int) (ports []int, err error) {
	var held []interface{ Close() error }
	defer func() {
		for _, h := range held {
			err = errors.Join(err, h.Close())
		}
	}()
	for len(ports) < count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		held = append(held, l)
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue // taken for UDP only
		}
		held = append(held, u)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Build compiles the program into dir and returns its path. For tests.
func Build(dir string, flags ...string) (string, error) {
	path := filepath.Join(dir, "rondo")
	build := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "github.com/rondodb/rondo/cmd/rondo")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build rondo: %w\n%s", err, out)
	}
	return path, nil
}
