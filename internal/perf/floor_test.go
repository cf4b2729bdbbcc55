package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rondodb/rondo/internal/proc"
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

// floor answers GET with 1 KB and takes PUT of 1 KB: the least that a Go server with chi does for such a request.
func floor(addr string) {
	value := []byte(strings.Repeat("x", 1024))
	r := chi.NewRouter()
	r.Get("/v1/kv/{bucket}/*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(value)))
		w.Write(value)
	})
	r.Get("/readyz", func(http.ResponseWriter, *http.Request) {})
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

// run starts processes and waits until they are ready. They end with the test.
func run(t *testing.T, all []*proc.Process) {
	t.Helper()
	t.Cleanup(func() {
		if err := proc.KillAll(all); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := proc.StartAll(ctx, all); err != nil {
		t.Fatal(err)
	}
}

// startFloor runs the bare server.
func startFloor(t *testing.T) *proc.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all, err := proc.Loopback(self, t.TempDir(), "floor", 1)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(all[0].URL(), "http://")
	all[0].Env = []string{floorVariable + "=" + at} // it does not look at its arguments
	run(t, all)
	return all[0]
}

// startCluster runs n nodes with default settings but for addresses.
func startCluster(t *testing.T, n int) []*proc.Process {
	t.Helper()
	all, err := proc.Loopback(binary, t.TempDir(), "perf", n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		p.Args = []string{"--log-level", "warn"}
	}
	run(t, all)
	return all
}

// cpu is the processor time that the processes have used, user and system.
func cpu(t *testing.T, processes ...*proc.Process) time.Duration {
	t.Helper()
	var total time.Duration
	for _, p := range processes {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
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
func resident(t *testing.T, p *proc.Process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
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
