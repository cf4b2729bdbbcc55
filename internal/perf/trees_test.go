package perf

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rondodb/rondo/internal/load"
)

// TestTrees prints what Merkle trees add to the CPU of a quorum write: the storage's own benchmark of a write with trees and without, both in
// one run, once for the replica that coordinates and twice for those that merge, against what a write costs all three nodes.
func TestTrees(t *testing.T) {
	wanted(t)
	binary := filepath.Join(t.TempDir(), "storage.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "github.com/rondodb/rondo/storage").CombinedOutput(); err != nil {
		t.Fatalf("build the tests of storage: %v\n%s", err, out)
	}
	figures := map[string][]float64{} // CPU in ns by case, one for each turn
	for range rounds(t) {
		takeTurn(t, binary, figures)
	}
	median := func(name string) float64 {
		all := figures[name]
		if len(all) == 0 {
			t.Fatalf("the benchmark has no figure of %s: %v", name, figures)
		}
		all = slices.Sorted(slices.Values(all))
		return all[len(all)/2]
	}
	added := 0.0
	var b strings.Builder
	fmt.Fprintf(&b, "\n| CPU of one write in the store | with trees | without |\n|---|---|---|\n")
	for _, part := range []struct {
		name  string
		times float64 // in one quorum write
	}{{"merge", 2}, {"update", 1}} {
		with, without := median("without=false/"+part.name), median("without=true/"+part.name)
		added += part.times * (with - without)
		fmt.Fprintf(&b, "| %s | %.1f µs | %.1f µs |\n", part.name, with/1000, without/1000)
	}
	nodes := startCluster(t, 3)
	var samples []sample
	for range rounds(t) {
		samples = append(samples, drive(t, nodes, load.Config{Connections: 64, Keys: keys, ReadPercent: 0, Query: "dw=0"}))
	}
	whole := float64(middle(samples).cpu.Nanoseconds())
	fmt.Fprintf(&b, "\na quorum write costs all three nodes %.1f µs of CPU, of which trees take %.1f µs: %.1f %% (must: ≤ 10 %%)\n", whole/1000, added/1000, 100*added/whole)
	t.Log(b.String())
}

// takeTurn runs the benchmark once, which takes turns with and without trees, and adds its figures.
func takeTurn(t *testing.T, binary string, figures map[string][]float64) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, "-test.run", "^$", "-test.bench", "^BenchmarkTrees$", "-test.benchtime", "60000x").CombinedOutput()
	if err != nil {
		t.Fatalf("run the benchmark of storage: %v\n%s", err, out)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "BenchmarkTrees/") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "BenchmarkTrees/"), "-")
		for i, unit := range fields {
			if unit != "cpu-ns/op" {
				continue
			}
			value, err := strconv.ParseFloat(fields[i-1], 64)
			if err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			figures[name] = append(figures[name], value)
		}
	}
}
