package node

import (
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/load"
)

// BenchmarkCluster loads three nodes in this process over HTTP, for profiles: go test -bench Cluster/write -cpuprofile.
// Figures to quote come from separate processes (internal/perf).
func BenchmarkCluster(b *testing.B) {
	for _, bench := range []struct {
		name        string
		connections int
		reads       int
		query       string
	}{
		{"read", 64, 100, "r=2"},
		{"write", 64, 0, "dw=0"},
		{"write-synced", 64, 0, ""},
		{"read-1", 1, 100, "r=2"},
		{"write-1", 1, 0, "dw=0"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := three(b)
			config := load.Config{Connections: bench.connections, Keys: 20_000, ReadPercent: bench.reads, Query: bench.query, Load: true, Duration: 4 * time.Second}
			for _, name := range []string{"n1", "n2", "n3"} {
				config.Nodes = append(config.Nodes, c.url(name))
			}
			result, err := load.Run(b.Context(), config)
			if err != nil || result.All.Failed() > 0 {
				b.Fatal(err, result.All.Errors)
			}
			b.ReportMetric(result.All.Rate, "ops/s")
			b.ReportMetric(float64(result.All.Latency.P50.Microseconds()), "p50-µs")
			b.ReportMetric(0, "ns/op")
		})
	}
}
