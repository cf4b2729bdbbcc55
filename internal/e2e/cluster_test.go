package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	// What the program under test is made of, so that go test does not take an old result for one of it.
	_ "github.com/rondodb/rondo/internal/client"
	_ "github.com/rondodb/rondo/internal/load"
	_ "github.com/rondodb/rondo/node"
)

// binary is the rondo program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rondo-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "rondo")
	build := exec.Command("go", "build", "-o", binary, "github.com/rondodb/rondo/cmd/rondo")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build rondo:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// long skips a test that takes more than some seconds unless it was asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RONDO_E2E") == "" {
		t.Skip("SKIPPED: takes long; set RONDO_E2E=1 or run make e2e")
	}
}

// process is one rondo serve.
type process struct {
	t    *testing.T
	name string
	args []string
	url  string
	log  string // path of its log file

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// startCluster starts n processes that form one ring, and waits until each is ready. They are ended with the test, and their
// logs are shown where it failed.
func startCluster(t *testing.T, n int, extra ...string) []*process {
	t.Helper()
	if _, err := os.ReadDir("../../cmd/rondo"); err != nil { // for the same reason: go test notes what a test looks at
		t.Fatal(err)
	}
	ports := freePorts(t, 3*n)
	join := make([]string, n)
	for i := range n {
		join[i] = addr(ports[3*i+2])
	}
	nodes := make([]*process, n)
	dir := t.TempDir()
	for i := range n {
		p := &process{t: t, name: "n" + strconv.Itoa(i+1), url: "http://" + addr(ports[3*i])}
		p.log = filepath.Join(dir, p.name+".log")
		p.args = append([]string{
			"serve", "--data", filepath.Join(dir, p.name), "--name", p.name, "--cluster", "e2e", "--expect", strconv.Itoa(n),
			"--http", addr(ports[3*i]), "--peer", addr(ports[3*i+1]), "--gossip", addr(ports[3*i+2]), "--join", strings.Join(join, ","),
		}, extra...)
		nodes[i] = p
		p.start()
	}
	for _, p := range nodes {
		p.waitReady(30 * time.Second)
	}
	return nodes
}

func addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// freePorts picks ports that nobody listens on, for TCP and UDP.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", addr(port))
		if err != nil {
			continue
		}
		defer u.Close()
		ports = append(ports, port)
	}
	return ports
}

// start runs the process (again).
func (p *process) start() {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(binary, p.args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		f.Close()
		close(done)
	}()
	p.mu.Lock()
	first := p.cmd == nil
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	if first {
		p.t.Cleanup(func() {
			p.kill()
			if p.t.Failed() {
				b, _ := os.ReadFile(p.log)
				p.t.Logf("log of %s:\n%s", p.name, lastLines(string(b), 60))
			}
		})
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait(10 * time.Second)
}

// wait blocks until the process has ended.
func (p *process) wait(limit time.Duration) {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	select {
	case <-done:
	case <-time.After(limit):
		p.t.Errorf("%s has not ended after %v", p.name, limit)
	}
}

// exitCode is how the process ended.
func (p *process) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.ProcessState.ExitCode()
}

// waitReady polls /readyz until it answers 200.
func (p *process) waitReady(limit time.Duration) {
	p.t.Helper()
	deadline := time.Now().Add(limit)
	var last string
	for time.Now().Before(deadline) {
		status, body, err := request(context.Background(), "GET", p.url+"/readyz", nil, nil)
		if err == nil && status == http.StatusOK {
			return
		}
		last = fmt.Sprint(status, " ", string(body), " ", err)
		time.Sleep(20 * time.Millisecond) // a poll, bounded by the deadline
	}
	p.t.Fatalf("%s is not ready after %v: %s", p.name, limit, last)
}

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 30 * time.Second}

// request makes one HTTP request and reads the whole answer.
func request(ctx context.Context, method, url string, body io.Reader, header map[string]string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}
