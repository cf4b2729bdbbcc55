package httpapi

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// The metrics are there, named and explained as the conventions want, and count.
func TestMetrics(t *testing.T) {
	url, s := serve(t, newReplica(t), nil)
	m := s.Metrics
	for range 3 {
		m.PeerCall("11111111111111111111111111111111", "read", "ok", 2*time.Millisecond)
	}
	m.PeerCall("11111111111111111111111111111111", "new class", "new outcome", time.Millisecond)
	m.Quorum("read", "")
	m.Quorum("write", quorum.CodeTimeout)
	m.Event("conflict", 4)
	m.Event("read_repair", 2)
	m.Event("hint", 2)
	m.Event("standin_write", 1)
	m.Event("not known", 2)
	m.ClockSkew("11111111111111111111111111111111", 3*time.Second)
	call(t, "PUT", url+"/v1/kv/b/k", "1")
	call(t, "GET", url+"/v1/kv/b/other", "")
	_, body := call(t, "GET", url+"/metrics", "")
	for _, want := range []string{
		`rondo_http_requests_total{code="200",op="put"} 1`, `rondo_http_requests_total{code="404",op="get"} 1`, `rondo_http_request_seconds_count{op="put"} 1`,
		`rondo_peer_calls_total{class="read",outcome="ok",peer="11111111111111111111111111111111"} 3`, `outcome="other"`, `rondo_peer_call_seconds_count{class="read",`,
		`rondo_quorum_operations_total{op="read",outcome="met"} 1`, `rondo_quorum_operations_total{op="write",outcome="quorum_timeout"} 1`,
		"rondo_conflicts_total 1", "rondo_conflict_siblings_sum 4", "rondo_read_repairs_total 2", "rondo_clock_skew_seconds{", "rondo_store_gets_total 7",
		`rondo_store_fsync_seconds_bucket{file="journal",le="1"} 5`, `rondo_store_fsync_seconds_count{file="journal"} 6`, `rondo_members{health="alive",state="member"} 3`,
		"rondo_ready 1", `rondo_build_info{version="test"} 1`, "go_goroutines", "process_cpu_seconds_total", "rondo_store_keys 5",
		`rondo_hints_pending{target="11111111111111111111111111111111"} 3`, `rondo_hints_bytes{target="11111111111111111111111111111111"} 300`, "rondo_hints_paused 0",
		`rondo_hints_oldest_seconds{target="11111111111111111111111111111111"} 12.5`, `rondo_hints_delivered_total{target="11111111111111111111111111111111"} 7`,
		`rondo_hints_divergent_partitions{target="11111111111111111111111111111111"} 2`, "rondo_hints_left_total 2", "rondo_standin_writes_total 1",
		"rondo_repair_debt_seconds 12.5", "rondo_repair_never_equal_partitions 1", "rondo_unsynced_classes 2", `rondo_exchanges_total{result="ok"} 7`,
		`rondo_exchanges_total{result="failed"} 2`, `rondo_exchange_objects_total{direction="sent"} 5`, `rondo_exchange_objects_total{direction="received"} 6`,
		"rondo_exchange_bytes_total 700", "rondo_verified_objects_total 80", "rondo_damaged_objects_total 1", "rondo_wrong_leaves_total 3", "rondo_verify_age_seconds 3600",
		"rondo_tombstones_waiting 5", "rondo_tombstones_oldest_seconds 90", "rondo_tombstones_collected_total 11", "rondo_tombstones_refused_total 1", "rondo_tombstones_blocked 1",
		"rondo_disk_free_bytes 1.073741824e+09", "rondo_disk_total_bytes 8.589934592e+09", "rondo_disk_reserve_bytes 2.68435456e+08", "rondo_disk_full 0",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is not there", want)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "rondo_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s has no help text", family.GetName())
		}
	}
}

// What was never equal, or never verified, since the start is as old as the process: an alert on age fires for it, too.
func TestDebtWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReplica(t)
		f.repairs = &RepairView{NeverEqual: 3}
		sealer := vclock.NewSealer(f.layout.Cluster())
		s, err := New(Config{Coordinator: f, Buckets: settings{f}, Node: f, Sealer: func() *vclock.Sealer { return sealer }})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Second)
		families, err := s.Metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, family := range families {
			got[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
		}
		for _, name := range []string{"rondo_repair_debt_seconds", "rondo_verify_age_seconds"} {
			if got[name] != 90 {
				t.Errorf("%s is %v, want 90", name, got[name])
			}
		}
	})
}

// Many nodes, at once, have figures of their own up to a bound.
func TestPeersAreBounded(t *testing.T) {
	m := NewMetrics()
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range maxPeers {
				m.PeerCall(ring.NodeID(fmt.Sprint(g%2, "-", i)), "write", "ok", time.Millisecond)
			}
		})
	}
	group.Wait()
	if n := len(*m.peers.Load()); n > maxPeers+1 {
		t.Errorf("%d peers have figures", n)
	}
}
