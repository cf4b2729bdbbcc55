package httpapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// attach adds the figures of a server and its node. A registry takes one server.
func (m *Metrics) attach(s *Server) error {
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"rondo_http_in_flight", "Client requests being served now.", func() float64 { return float64(s.requests.Load()) }},
		{"rondo_http_connections", "Client connections open now.", func() float64 { return float64(s.conns.Load()) }},
		{"rondo_http_body_bytes", "Memory that request bodies take now.", func() float64 { return float64(s.bodies.used.Load()) }},
	} {
		if err := m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value)); err != nil {
			return err
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rondo_build_info", Help: "1, with the version of the build.", ConstLabels: prometheus.Labels{"version": s.Version},
	})
	build.Set(1)
	if err := m.registry.Register(build); err != nil {
		return err
	}
	return m.registry.Register(&nodeCollector{node: s.Node, began: time.Now(), descs: map[string]*prometheus.Desc{}})
}

// nodeCollector asks the node for a snapshot at each scrape.
type nodeCollector struct {
	node  Node
	began time.Time
	descs map[string]*prometheus.Desc // filled by Describe, then read only
}

// metric is a figure that the collector gives.
type metric struct {
	name, help string
	labels     []string
}

// nodeMetrics are the names and help texts of what the collector gives, with their labels; repairMetrics are the rest.
var nodeMetrics = []metric{
	{"rondo_ready", "1 where the node is in the ring and serves, else 0.", nil},
	{"rondo_ring_version", "Version of the ring that this node knows, 0 where there is none.", nil},
	{"rondo_members", "Nodes that this node knows, by health (alive, suspect, dead) and state (member, joining, leaving, none).", []string{"health", "state"}},
	{"rondo_member_info", "1 for each node that this node knows, with its id, name and zone.", []string{"id", "name", "zone"}},
	{"rondo_gossip_health_score", "0 where this node keeps up with its own probes; higher where it is slow itself.", nil},
	{"rondo_gossip_rejoin_attempts_total", "Attempts to reach nodes that are not there.", nil},
	{"rondo_gossip_refused_nodes_total", "Nodes that were refused: of another cluster, or with settings that do not fit.", nil},
	{"rondo_peer_connections", "Connections to another node that are open now.", []string{"peer"}},
	{"rondo_peer_in_flight", "Calls to another node that wait for an answer now.", []string{"peer"}},
	{"rondo_peer_dials_total", "Connections to another node that were opened or tried.", []string{"peer"}},
	{"rondo_peer_sent_bytes_total", "Bytes sent to another node.", []string{"peer"}},
	{"rondo_peer_received_bytes_total", "Bytes received from another node.", []string{"peer"}},
	{"rondo_store_gets_total", "Reads of the local store.", nil},
	{"rondo_store_cache_hits_total", "Reads of the local store that the object cache answered.", nil},
	{"rondo_store_merges_total", "Objects of other nodes merged into the local store.", nil},
	{"rondo_store_updates_total", "Writes minted in the local store.", nil},
	{"rondo_store_unchanged_total", "Merges and updates that changed nothing and wrote nothing.", nil},
	{"rondo_store_syncs_total", "Waits for writes to be on disk.", nil},
	{"rondo_store_sync_waiting", "Writes that wait to be on disk now.", nil},
	{"rondo_store_fsync_seconds", "Time of fsync calls, by file (journal, other).", []string{"file"}},
	{"rondo_store_corrupt_objects_total", "Reads that met a damaged object. It is never served.", nil},
	{"rondo_store_damaged", "1 where the store has lost something and the other owners have not brought it back yet, else 0.", nil},
	{"rondo_store_reopens_total", "Times that the store was closed and opened again to heal it, by cause (damage, disk_failed, disk_full), since the process began.", []string{"cause"}},
	{"rondo_store_unclean_start", "1 where no clean stop came before this start, else 0.", nil},
	{"rondo_store_lenient_start", "1 where damaged records were dropped at this start, else 0.", nil},
	{"rondo_store_keys", "Keys with at least one value in the local store.", nil},
	{"rondo_store_disk_bytes", "Bytes on disk: tables and journals.", nil},
	{"rondo_store_cache_bytes", "Memory that the object cache has taken.", nil},
	{"rondo_store_cache_entries", "Objects in the object cache.", nil},
	{"rondo_leveldb_block_cache_bytes", "Memory that the block cache has taken.", nil},
	{"rondo_leveldb_open_tables", "Table files that are open.", nil},
	{"rondo_leveldb_level_tables", "Tables, by level.", []string{"level"}},
	{"rondo_leveldb_level_bytes", "Bytes of tables, by level.", []string{"level"}},
	{"rondo_leveldb_write_delays_total", "Writes that were slowed down because compactions were behind.", nil},
	{"rondo_leveldb_write_delay_seconds_total", "Time that writes were slowed down for.", nil},
	{"rondo_leveldb_write_paused", "1 while writes wait for compactions, else 0.", nil},
	{"rondo_leveldb_compactions_total", "Compactions, by kind (memory, table).", []string{"kind"}},
	{"rondo_leveldb_compaction_seconds_total", "Time that compactions took.", nil},
}

// Describe names all that Collect gives.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range append(nodeMetrics[:len(nodeMetrics):len(nodeMetrics)], repairMetrics...) {
		d := prometheus.NewDesc(m.name, m.help, m.labels, nil)
		c.descs[m.name] = d
		ch <- d
	}
}

// sink sends figures by name.
type sink struct {
	c  *nodeCollector
	ch chan<- prometheus.Metric
}

func (s sink) gauge(name string, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.c.descs[name], prometheus.GaugeValue, value, labels...)
}

func (s sink) count(name string, value float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.c.descs[name], prometheus.CounterValue, value, labels...)
}

func (s sink) flag(name string, b bool) {
	if b {
		s.gauge(name, 1)
	} else {
		s.gauge(name, 0)
	}
}

func (s sink) durations(name string, d Durations, labels ...string) {
	buckets, sum := make(map[float64]uint64, len(d.Bounds)), uint64(0)
	for i, bound := range d.Bounds {
		if i < len(d.Counts) {
			sum += d.Counts[i]
		}
		buckets[bound.Seconds()] = sum
	}
	s.ch <- prometheus.MustNewConstHistogram(s.c.descs[name], d.Count, d.Sum.Seconds(), buckets, labels...)
}

// Collect takes the snapshot.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	s := sink{c, ch}
	c.members(s)
	stats := c.node.Stats()
	s.gauge("rondo_gossip_health_score", float64(stats.Gossip.HealthScore))
	s.count("rondo_gossip_rejoin_attempts_total", float64(stats.Gossip.RejoinAttempts))
	s.count("rondo_gossip_refused_nodes_total", float64(stats.Gossip.RefusedNodes))
	for _, p := range stats.Peers {
		s.gauge("rondo_peer_connections", float64(p.Connections), p.ID)
		s.gauge("rondo_peer_in_flight", float64(p.InFlight), p.ID)
		s.count("rondo_peer_dials_total", float64(p.Dials), p.ID)
		s.count("rondo_peer_sent_bytes_total", float64(p.Sent), p.ID)
		s.count("rondo_peer_received_bytes_total", float64(p.Received), p.ID)
	}
	collectStore(s, &stats.Store)
	collectLevelDB(s, &stats.Store)
	collectRepair(s, &stats, time.Since(c.began))
}

func (c *nodeCollector) members(s sink) {
	ready, _ := c.node.Ready()
	s.flag("rondo_ready", ready)
	view := c.node.Cluster()
	s.gauge("rondo_ring_version", float64(view.Ring))
	type kind struct{ health, state string }
	counts, seen := map[kind]int{}, map[string]bool{}
	for _, m := range view.Members {
		counts[kind{m.Health, m.State}]++
		if !seen[m.ID] { // two figures with the same labels would fail the whole scrape
			seen[m.ID] = true
			s.gauge("rondo_member_info", 1, m.ID, m.Name, m.Zone)
		}
	}
	for k, n := range counts {
		s.gauge("rondo_members", float64(n), k.health, k.state)
	}
}

func collectStore(s sink, st *StoreStats) {
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"gets", st.Gets},
		{"cache_hits", st.CacheHits},
		{"merges", st.Merges},
		{"updates", st.Updates},
		{"unchanged", st.Unchanged},
		{"syncs", st.Syncs},
		{"corrupt_objects", st.CorruptObjects},
	} {
		s.count("rondo_store_"+f.name+"_total", float64(f.value))
	}
	s.gauge("rondo_store_sync_waiting", float64(st.SyncWaiting))
	s.durations("rondo_store_fsync_seconds", st.JournalSyncs, "journal")
	s.durations("rondo_store_fsync_seconds", st.OtherSyncs, "other")
	s.flag("rondo_store_damaged", st.Damaged)
	for cause, n := range st.Reopens {
		s.count("rondo_store_reopens_total", float64(n), cause)
	}
	s.flag("rondo_store_unclean_start", st.UncleanStart)
	s.flag("rondo_store_lenient_start", st.LenientStart)
	if st.LiveKeysKnown {
		s.gauge("rondo_store_keys", float64(st.LiveKeys))
	}
	s.gauge("rondo_store_disk_bytes", float64(st.DiskBytes))
	s.gauge("rondo_store_cache_bytes", float64(st.CacheBytes))
	s.gauge("rondo_store_cache_entries", float64(st.CacheEntries))
}

func collectLevelDB(s sink, st *StoreStats) {
	s.gauge("rondo_leveldb_block_cache_bytes", float64(st.BlockCacheBytes))
	s.gauge("rondo_leveldb_open_tables", float64(st.OpenTables))
	for i, l := range st.Levels {
		level := string(appendInt(nil, "", i))
		s.gauge("rondo_leveldb_level_tables", float64(l.Tables), level)
		s.gauge("rondo_leveldb_level_bytes", float64(l.Bytes), level)
	}
	s.count("rondo_leveldb_write_delays_total", float64(st.WriteDelays))
	s.count("rondo_leveldb_write_delay_seconds_total", st.WriteDelay.Seconds())
	s.flag("rondo_leveldb_write_paused", st.WritePaused)
	s.count("rondo_leveldb_compactions_total", float64(st.MemoryCompactions), "memory")
	s.count("rondo_leveldb_compactions_total", float64(st.TableCompactions), "table")
	s.count("rondo_leveldb_compaction_seconds_total", st.CompactionTime.Round(time.Microsecond).Seconds())
}
