package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	// What the program in the containers is made of, for the same reason as in buildImage.
	_ "github.com/rondodb/rondo/internal/client"
	_ "github.com/rondodb/rondo/internal/load"
	_ "github.com/rondodb/rondo/node"
)

// requireDocker is the variable that makes a missing Docker a failure: set in CI, so that nothing is skipped unseen.
const requireDocker = "RONDO_REQUIRE_DOCKER"

// engine is a Docker engine with Compose, as far as the tests need it.
type engine struct {
	compose []string // the command: "docker compose", or "docker-compose" before version 2
	env     []string
}

// newEngine finds Docker and Compose. Without them it skips the test, and says why.
func newEngine(t *testing.T) *engine {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		why := fmt.Sprintf(format, args...)
		if os.Getenv(requireDocker) != "" {
			t.Fatalf("%s is set, but %s", requireDocker, why)
		}
		t.Skipf("SKIPPED, containers are not tested here: %s", why)
	}
	switch {
	case raceEnabled:
		t.Skip("SKIPPED under the race detector: it does not reach into containers, and the plain run has this test")
	case testing.Short():
		t.Skip("SKIPPED: -short")
	case runtime.GOOS != "linux":
		missing("images hold Linux binaries, and this is %s", runtime.GOOS)
	}
	if out, err := try(t, time.Minute, nil, "docker", "version", "--format", "{{.Server.Version}} {{.Server.Os}}"); err != nil {
		missing("there is no Docker engine that this user may use: %v: %s", err, out)
	}
	for _, compose := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if _, err := try(t, time.Minute, nil, append(compose, "version")...); err == nil {
			return &engine{compose: compose}
		}
	}
	missing("neither \"docker compose\" nor \"docker-compose\" works")
	return nil
}

// try runs a command and returns what it printed.
func try(t *testing.T, limit time.Duration, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// run is try for commands that must succeed.
func (e *engine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(t, 5*time.Minute, e.env, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// buildImage builds the program and an image around it, and returns the image's name. Both are gone after the test.
func (e *engine) buildImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir("../cmd/rondo"); err != nil { // go test notes what a test looks at, and takes no old result for another program
		t.Fatal(err)
	}
	if out, err := try(t, 10*time.Minute, []string{"CGO_ENABLED=0", "GOOS=linux"},
		"go", "build", "-trimpath", "-o", filepath.Join(dir, "rondo"), "../cmd/rondo"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env := []string{}
	if _, err := try(t, time.Minute, nil, "docker", "buildx", "version"); err != nil {
		env = append(env, "DOCKER_BUILDKIT=0") // the classic builder, on engines without the plugin
	}
	image := fmt.Sprintf("rondo-test:%d-%d", os.Getpid(), time.Now().UnixNano())
	if out, err := try(t, 5*time.Minute, env, "docker", "build", "-q", "-t", image, "-f", "Dockerfile.binary", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := try(t, time.Minute, nil, "docker", "rmi", "-f", image); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return image
}

// project is one Compose file brought up under a name of its own, on free ports of loopback. It is gone after the test.
type project struct {
	*engine
	name, file string
}

func (e *engine) up(t *testing.T, file, image string, args ...string) *project {
	t.Helper()
	p := &project{
		engine: &engine{compose: e.compose, env: []string{"RONDO_IMAGE=" + image, "RONDO_PORT_1=", "RONDO_PORT_2=", "RONDO_PORT_3=", "RONDO_PORTS="}},
		name:   fmt.Sprintf("rondotest%d%d", os.Getpid(), time.Now().UnixNano()%1e6),
		file:   file,
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try(t, time.Minute, p.env, p.command("logs", "--tail=60")...)
			t.Logf("%s", out)
		}
		if out, err := try(t, 2*time.Minute, p.env, p.command("down", "-v", "--remove-orphans", "-t", "15")...); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	p.run(t, p.command(append([]string{"up", "-d", "--no-build"}, args...)...)...)
	return p
}

func (p *project) command(args ...string) []string {
	return append(append([]string{}, p.compose...), append([]string{"-p", p.name, "-f", p.file}, args...)...)
}

// container is the id of the index-th container of a service, counted from 1.
func (p *project) container(t *testing.T, service string, index int) string {
	t.Helper()
	return p.run(t, "docker", "ps", "-aq", "--no-trunc",
		"--filter", "label=com.docker.compose.project="+p.name,
		"--filter", "label=com.docker.compose.service="+service,
		"--filter", fmt.Sprintf("label=com.docker.compose.container-number=%d", index))
}

// url is where a container's API can be reached now: a restart may change the port.
func (p *project) url(t *testing.T, container string) string {
	t.Helper()
	lines := strings.Fields(p.run(t, "docker", "port", container, "7070/tcp"))
	if len(lines) == 0 {
		t.Fatalf("container %s publishes no port", container)
	}
	return "http://" + lines[0]
}

// waitReady polls /readyz until the node serves.
func (p *project) waitReady(t *testing.T, container string) {
	t.Helper()
	const limit = 90 * time.Second
	last := ""
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		status, body, err := request(http.MethodGet, p.url(t, container)+"/readyz", "")
		if err == nil && status == http.StatusOK {
			return
		}
		last = fmt.Sprint(status, " ", body, " ", err)
	}
	t.Fatalf("container %s is not ready after %v: %s", container, limit, last)
}

// request makes one HTTP request with a deadline.
func request(method, url, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Close = true // the address behind a port changes with a restart
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b), err
}
