package node

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/metrics.md names every metric that a node serves, with its kind and its help text, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	c := three(t)
	doc, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(rondo_[a-z_]+)` \\| ([a-z]+) \\| (.*) \\|$").FindAllStringSubmatch(string(doc), -1) {
		documented[m[1]] = m[2] + " " + m[3]
	}
	for range 10 {
		c.do("PUT", c.url("n1")+"/v1/kv/b/k", "1")
		c.do("GET", c.url("n1")+"/v1/kv/b/k", "")
	}
	status, _, body := c.do("GET", c.url("n1")+"/metrics", "")
	if status != 200 {
		t.Fatalf("/metrics: %d", status)
	}
	help, served := map[string]string{}, map[string]string{}
	for line := range strings.SplitSeq(string(body), "\n") {
		if rest, ok := strings.CutPrefix(line, "# HELP rondo_"); ok {
			name, text, _ := strings.Cut(rest, " ")
			help["rondo_"+name] = text
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE rondo_"); ok {
			name, kind, _ := strings.Cut(rest, " ")
			served["rondo_"+name] = kind
		}
	}
	if len(served) < 40 {
		t.Fatalf("only %d metrics are served", len(served))
	}
	for name, kind := range served {
		if got, want := documented[name], kind+" "+help[name]; got != want {
			t.Errorf("docs/metrics.md says of %s %q, /metrics %q", name, got, want)
		}
	}
	// These have nothing to show in a healthy, small cluster.
	quiet := map[string]bool{"rondo_clock_skew_seconds": true, "rondo_leveldb_level_bytes": true, "rondo_leveldb_level_tables": true}
	for name := range documented {
		if served[name] == "" && !quiet[name] {
			t.Errorf("docs/metrics.md names %s, which is not served", name)
		}
	}
}
