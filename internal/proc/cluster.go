package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Loopback describes count nodes named n1, n2, … on loopback, each with its data and log under dir, that form one ring and know
// each other's addresses. On Linux the cluster has a loopback address of its own, so that a node that is down finds its ports free when it
// comes back, whatever else the machine does; elsewhere its ports are free when Loopback is called.
func Loopback(binary, dir, cluster string, count int) ([]*Process, error) {
	host := "127.0.0.1"
	var ports []int
	if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is there
		pid := os.Getpid()
		host = net.IPv4(127, byte(1+pid/254%254), byte(1+pid%254), byte(1+clusters.Add(1)%254)).String()
		for i := range 3 * count {
			ports = append(ports, 7070+10*(i/3)+i%3)
		}
	} else {
		var err error
		if ports, err = FreePorts(3 * count); err != nil {
			return nil, err
		}
	}
	var join []string
	for i := 0; i < count && count > 1; i++ { // a node that is to be alone joins nobody
		join = append(join, net.JoinHostPort(host, strconv.Itoa(ports[3*i+2])))
	}
	var out []*Process
	for i := range count {
		name := "n" + strconv.Itoa(i+1)
		out = append(out, New(Spec{
			Binary: binary, Name: name, Cluster: cluster, Host: host, HTTP: ports[3*i], Peer: ports[3*i+1], Gossip: ports[3*i+2],
			Data: filepath.Join(dir, name), Log: filepath.Join(dir, name+".log"), Join: join, Expect: count,
		}))
	}
	return out, nil
}

// clusters counts those of this process.
var clusters atomic.Uint32

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

// StopAll drains every process that runs, side by side. One that is not gone in time, or whose exit code is not 0, is an error;
// the former still runs.
func StopAll(all []*Process, limit time.Duration) error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, p := range all {
		if !p.Running() {
			continue
		}
		group.Go(func() {
			code, err := p.Stop(limit)
			if err == nil && code != 0 {
				err = fmt.Errorf("%s was asked to stop and ended with exit code %d; its last words:\n%s", p.Name, code, p.LogTail(10))
			}
			errs[i] = err
		})
	}
	group.Wait()
	return errors.Join(errs...)
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
