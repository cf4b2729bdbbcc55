package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/internal/load"
	"github.com/spf13/cobra"
)

func newBenchCommand(s *session) *cobra.Command {
	var (
		c                     load.Config
		r, w, dw, consistency string
		output                string
	)
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput and latency",
		Long: `Put load on the nodes and measure throughput, latency and errors.

Closed loop (the default): each connection sends its next request when the answer to the last one is in. Open loop (--rate): requests are due
at a fixed rate, and latency counts from the instant a request was due, so that a stall is charged to every request it delayed
(no coordinated omission). With --pid, the CPU time of those processes per operation is measured too, on Linux.

It writes keys "key000000000000" and up into the bucket "bench", unless told otherwise. Ctrl-C ends it with the results so far.`,
		Example: `  rondo bench --load --keys 100000 --mix 50 --duration 30s
  rondo bench --mix 90 --rate 5000 --dist zipf --r 1 --w quorum --dw 0
  rondo bench --node http://127.0.0.1:7070,http://127.0.0.1:7080 --pid 4711,4712 -o json`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&c.Connections, "connections", 64, "`N` connections, over all nodes in turn")
	flags.Float64Var(&c.Rate, "rate", 0, "open loop: operations per `SECOND` over all connections (0 = closed loop)")
	flags.IntVar(&c.ReadPercent, "mix", 50, "`PERCENT` of reads; the rest are writes")
	flags.DurationVar(&c.Duration, "duration", 10*time.Second, "that is measured")
	flags.DurationVar(&c.Warmup, "warmup", time.Second, "before that, not measured")
	flags.BoolVar(&c.Load, "load", false, "write every key once before")
	flags.IntVar(&c.Keys, "keys", 100_000, "`N` keys")
	flags.StringVar(&c.Distribution, "dist", load.Uniform, "which keys: uniform, zipf (few are hot) or latest (writes add keys, reads prefer new ones)")
	flags.IntVar(&c.ValueSize, "size", 1024, "`BYTES` of a value")
	flags.StringVar(&c.Content, "content", load.JSON, "values are `KIND`: json or bytes")
	flags.StringVar(&r, "r", "", "`COUNT` of replicas that must answer a read: 1 to n, one, quorum or all")
	flags.StringVar(&w, "w", "", "`COUNT` of replicas that must acknowledge a write")
	flags.StringVar(&dw, "dw", "", "`COUNT` of replicas that must have a write synced to disk")
	flags.StringVar(&consistency, "consistency", "", "`LEVEL` for r and w: one, quorum or all (default: the bucket's)")
	flags.StringVar(&c.Bucket, "bucket", "bench", "`BUCKET` to use")
	flags.StringVar(&c.Prefix, "prefix", "key", "`PREFIX` of the keys")
	flags.IntSliceVar(&c.PIDs, "pid", nil, "`PID`s of the nodes, to measure their CPU time")
	flags.Uint64Var(&c.Seed, "seed", 1, "of all random choices")
	flags.StringVarP(&output, "output", "o", "table", "`FORM` of the result: table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(output); err != nil {
			return err
		}
		query := url.Values{}
		for _, p := range [][2]string{{"r", r}, {"w", w}, {"dw", dw}, {"consistency", consistency}} {
			if p[1] != "" {
				query.Set(p[0], p[1])
			}
		}
		if s.timeout > 0 {
			query.Set("timeout", s.timeout.String())
			c.Timeout = s.timeout + 2*time.Second
		}
		c.Query, c.Nodes = query.Encode(), s.nodeList()
		if c.Warmup == 0 {
			c.Warmup = -1 // none
		}
		if err := c.Check(); err != nil {
			return usageError{err}
		}
		var text atomic.Pointer[string]
		c.Progress = func(p load.Progress) {
			line := benchProgress(p)
			text.Store(&line)
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		shown := startProgress(s.stderr, func() string {
			if line := text.Load(); line != nil {
				return *line
			}
			return "bench: starting"
		})
		result, err := load.Run(ctx, c)
		shown.finish()
		if err != nil && result.All.Count == 0 {
			return fmt.Errorf("bench: %w", err)
		}
		if output == "json" {
			if printErr := s.printBenchJSON(result); printErr != nil {
				return printErr
			}
		} else if printErr := s.print(benchText(result)); printErr != nil {
			return printErr
		}
		if err == nil && result.All.Count == 0 && result.All.Failed() > 0 {
			return statusError{exitUnavailable, fmt.Errorf("bench: no operation succeeded"), "rondo status"}
		}
		return err
	}
	return cmd
}

// benchProgress is one line about a run under way.
func benchProgress(p load.Progress) string {
	rate := 0.0
	if p.Past > 0 {
		rate = float64(p.Done) / p.Past.Seconds()
	}
	text := fmt.Sprintf("bench: %s, %s operations, %s/s", p.Phase, countText(p.Done), countText(int64(rate)))
	switch {
	case p.Total > 0:
		text += fmt.Sprintf(", %d %%", 100*p.Done/p.Total)
	case p.Of > 0:
		text += ", " + clockText(max(p.Of-p.Past, 0)) + " left"
	}
	if p.Errors > 0 {
		text += fmt.Sprintf(", %s errors", countText(p.Errors))
	}
	return text
}

// benchText is the result for people.
func benchText(r load.Result) string {
	c := r.Config
	loop := "closed loop"
	if c.Rate > 0 {
		loop = fmt.Sprintf("open loop, %s/s", countText(int64(c.Rate)))
	}
	query := c.Query
	if query == "" {
		query = "the bucket's consistency"
	}
	text := fmt.Sprintf("%s, %s, %s over %s, %d %% reads, %s keys (%s), %s of %s, %s\n\n", durationText(r.Elapsed), loop,
		plural(c.Connections, "connection"), plural(len(c.Nodes), "node"), c.ReadPercent, countText(c.Keys), c.Distribution, bytesText(int64(c.ValueSize)), c.Content, query)
	rows := [][]string{}
	for _, o := range []struct {
		name string
		load.Operation
	}{{"reads", r.Reads}, {"writes", r.Writes}, {"all", r.All}} {
		l := o.Latency
		row := []string{o.name, countText(o.Count), countText(int64(o.Rate)), countText(o.Failed())}
		for _, d := range []time.Duration{l.Mean, l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max} {
			row = append(row, durationText(d))
		}
		rows = append(rows, row)
	}
	text += table([]string{"", "COUNT", "PER SECOND", "ERRORS", "MEAN", "P50", "P90", "P99", "P99.9", "P99.99", "MAX"}, rows)
	if r.Interrupted {
		text += "\nInterrupted: this is what was measured until then.\n"
	}
	if r.Reads.Misses > 0 {
		text += fmt.Sprintf("\n%s of the reads found no key: --load writes them all first.\n", countText(r.Reads.Misses))
	}
	if r.All.Failed() > 0 {
		text += "\nErrors: " + errorsText(r.All.Errors) + "\n"
	}
	if r.Loaded > 0 {
		text += fmt.Sprintf("\nLoaded %s keys before, in %s.", countText(r.Loaded), durationText(r.LoadTime))
		if len(r.LoadFailed) > 0 {
			text += " Failed: " + errorsText(r.LoadFailed) + "."
		}
		text += "\n"
	}
	if c.Rate > 0 {
		text += fmt.Sprintf("\nSent after they were due: p50 %s, p99 %s, max %s.\n", durationText(r.Late.P50), durationText(r.Late.P99), durationText(r.Late.Max))
		if r.Unsent > 0 {
			text += fmt.Sprintf("%s operations were due and never sent: the nodes do not keep up with this rate, and the latencies above are too good.\n", countText(r.Unsent))
		}
	}
	text += "\nCPU per operation: "
	if len(c.PIDs) > 0 {
		text += fmt.Sprintf("%s over %s, ", durationText(r.Target.PerOp), plural(len(c.PIDs), "node process"))
	}
	return strings.ReplaceAll(text, "processs", "processes") + durationText(r.Generator.PerOp) + " in this program\n"
}

// errorsText lists error counts, the most frequent first.
func errorsText(errors map[string]uint64) string {
	codes := make([]string, 0, len(errors))
	for code := range errors {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b string) int {
		if errors[a] != errors[b] {
			return int(errors[b]) - int(errors[a])
		}
		return strings.Compare(a, b)
	})
	for i, code := range codes {
		codes[i] = fmt.Sprintf("%s %s", countText(errors[code]), code)
	}
	return strings.Join(codes, ", ")
}

// printBenchJSON prints the result for programs: all times in microseconds.
func (s *session) printBenchJSON(r load.Result) error {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	latency := func(l load.Latency) map[string]float64 {
		return map[string]float64{
			"min": us(l.Min), "mean": us(l.Mean), "p50": us(l.P50), "p90": us(l.P90), "p95": us(l.P95), "p99": us(l.P99),
			"p99.9": us(l.P999), "p99.99": us(l.P9999), "max": us(l.Max),
		}
	}
	operation := func(o load.Operation) map[string]any {
		return map[string]any{"count": o.Count, "per_second": o.Rate, "misses": o.Misses, "failed": o.Failed(), "errors": o.Errors, "latency_us": latency(o.Latency)}
	}
	c := r.Config
	b, err := json.MarshalIndent(map[string]any{
		"config": map[string]any{
			"nodes": c.Nodes, "connections": c.Connections, "rate": c.Rate, "read_percent": c.ReadPercent, "keys": c.Keys, "distribution": c.Distribution,
			"value_bytes": c.ValueSize, "content": c.Content, "query": c.Query, "seed": c.Seed,
		},
		"seconds": r.Elapsed.Seconds(), "interrupted": r.Interrupted, "reads": operation(r.Reads), "writes": operation(r.Writes), "all": operation(r.All),
		"late_us": latency(r.Late), "unsent": r.Unsent, "node_cpu_us_per_operation": us(r.Target.PerOp), "own_cpu_us_per_operation": us(r.Generator.PerOp),
		"loaded": r.Loaded, "load_failed": r.LoadFailed, "load_seconds": r.LoadTime.Seconds(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	return s.print(string(b) + "\n")
}
