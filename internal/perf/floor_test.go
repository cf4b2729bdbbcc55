package perf

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
)

// floorVariable makes this test binary run the bare server instead of tests.
const floorVariable = "RONDO_PERF_FLOOR"

// binary is the rondo program under test.
var binary string

func TestMain(m *testing.M) {
	if addr := os.Getenv(floorVariable); addr != "" {
		floor(addr)
		return
	}
	if os.Getenv("RONDO_BENCH") == "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "rondo-perf-")
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

// floor answers GET with 1 KB and takes PUT of 1 KB: the least that a Go server with chi does for such a request.
func floor(addr string) {
	value := []byte(strings.Repeat("x", 1024))
	r := chi.NewRouter()
	r.Get("/v1/kv/{bucket}/*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(value)))
		w.Write(value)
	})
	r.Put("/v1/kv/{bucket}/*", func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}\n")
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(addr, r))
}

// process is a server under measurement.
type process struct {
	url string
	pid int
}

// run starts a command that ends with the test, and waits until url answers below 500.
func run(t *testing.T, url string, env []string, name string, args ...string) process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	logs, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		logs.Close()
	})
	return process{url: url, pid: cmd.Process.Pid}
}

// answers polls until the path answers 200.
func (p process) answers(t *testing.T, path string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(p.url + path)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		last = resp.Status + " " + string(body)
	}
	t.Fatalf("%s%s: %s", p.url, path, last)
}

// startFloor runs the bare server.
func startFloor(t *testing.T) process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := addr(freePorts(t, 1)[0])
	p := run(t, "http://"+at, []string{floorVariable + "=" + at}, self)
	p.answers(t, "/v1/kv/bench/x")
	return p
}

// startCluster runs n nodes with default settings but for addresses.
func startCluster(t *testing.T, n int, extra ...string) []process {
	t.Helper()
	ports := freePorts(t, 3*n)
	join := make([]string, n)
	for i := range n {
		join[i] = addr(ports[3*i+2])
	}
	nodes := make([]process, n)
	for i := range n {
		args := append([]string{
			"serve", "--data", t.TempDir(), "--name", "n" + strconv.Itoa(i+1), "--cluster", "perf", "--expect", strconv.Itoa(n), "--log-level", "warn",
			"--http", addr(ports[3*i]), "--peer", addr(ports[3*i+1]), "--gossip", addr(ports[3*i+2]),
		}, extra...)
		if n > 1 {
			args = append(args, "--join", strings.Join(join, ","))
		}
		nodes[i] = run(t, "http://"+addr(ports[3*i]), nil, binary, args...)
	}
	for _, p := range nodes {
		p.answers(t, "/readyz")
	}
	return nodes
}

func addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// freePorts picks ports that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// cpu is the processor time that the processes have used, user and system.
func cpu(t *testing.T, processes ...process) time.Duration {
	t.Helper()
	var total time.Duration
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, f := range fields[11:13] { // utime, stime
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
		}
	}
	return total
}

// resident is the resident memory of a process in bytes.
func resident(t *testing.T, p process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
