package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/proc"

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
	code := 1
	if binary, err = proc.Build(dir); err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// long skips a test that takes more than some seconds unless it was asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RONDO_E2E") == "" {
		t.Skip("SKIPPED: takes long; set RONDO_E2E=1 or run make e2e")
	}
}

// span is how long something goes on: in an ordinary run of the tests, and where long ones were asked for.
func span(usual, long time.Duration) time.Duration {
	if os.Getenv("RONDO_E2E") == "" {
		return usual
	}
	return long
}

// process is one rondo serve, whose troubles fail the test.
type process struct {
	*proc.Process
	t   *testing.T
	url string
}

// startCluster starts n processes that form one ring, and waits until each is ready. They are ended with the test, and their
// logs are shown where it failed.
func startCluster(t *testing.T, n int, extra ...string) []*process {
	t.Helper()
	if _, err := os.ReadDir("../../cmd/rondo"); err != nil { // for the same reason: go test notes what a test looks at
		t.Fatal(err)
	}
	all, err := proc.Loopback(binary, t.TempDir(), "e2e", n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proc.KillAll(all); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, p := range all {
				t.Logf("log of %s:\n%s", p.Name, p.LogTail(60))
			}
		}
	})
	nodes := make([]*process, n)
	for i, p := range all {
		p.Args = extra
		nodes[i] = &process{p, t, p.URL()}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := proc.StartAll(ctx, all); err != nil {
		t.Fatal(err)
	}
	return nodes
}

// start runs the process (again).
func (p *process) start() {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Error(err)
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) signal(s syscall.Signal) {
	if err := p.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	if err := p.Kill(); err != nil {
		p.t.Error(err)
	}
}

// drain asks the process to stop, and wants it gone within ten seconds with exit code 0.
func (p *process) drain() {
	p.t.Helper()
	if code, err := p.Stop(10 * time.Second); err != nil || code != 0 {
		p.t.Errorf("%s after SIGTERM: exit code %d, %v", p.Name, code, err)
	}
}

// waitReady waits until the node is ready.
func (p *process) waitReady(limit time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		p.t.Error(err)
	}
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
