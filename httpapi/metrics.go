package httpapi

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
)

// statuses are all that the API answers with.
var statuses = [...]int{200, 300, 304, 400, 404, 405, 409, 413, 500, 503, 504, 507, 0}

// Names of statuses as labels, in the same order; the last stands for any other.
var statusNames = [len(statuses)]string{"200", "300", "304", "400", "404", "405", "409", "413", "500", "503", "504", "507", "other"}

func statusIndex(status int) int {
	for i, s := range statuses {
		if s == status {
			return i
		}
	}
	return len(statuses) - 1
}

// counter is a child of a counter vector that is made when it is first counted, so that nothing is looked up by label after.
type counter struct {
	p atomic.Pointer[prometheus.Counter]
}

func (c *counter) of(vector *prometheus.CounterVec, labels ...string) prometheus.Counter {
	if p := c.p.Load(); p != nil {
		return *p
	}
	child := vector.WithLabelValues(labels...)
	c.p.Store(&child)
	return child
}

// Metrics counts what this node does, in a registry of its own. It is the coordinator's observer. Safe for concurrent use;
// nothing blocks.
type Metrics struct {
	registry *prometheus.Registry
	exporter http.Handler
	panics   prometheus.Counter

	requests *prometheus.CounterVec
	codes    [opCount][len(statuses)]counter
	seconds  [opCount]prometheus.Observer

	peerCalls   *prometheus.CounterVec
	peerSeconds *prometheus.HistogramVec
	skew        *prometheus.GaugeVec
	peersMu     sync.Mutex // held to add a peer
	peers       atomic.Pointer[map[ring.NodeID]*peerMetrics]

	quorums *prometheus.CounterVec
	met     [len(quorumOps)]counter // of them, the common outcome
	events  map[string]prometheus.Counter
	size    prometheus.Histogram // siblings of a conflict
}

// NewMetrics makes the registry, with Go runtime and process figures in it.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counterOf := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rondo_http_requests_total", Help: "HTTP requests answered, by operation and status code.",
	}, []string{"op", "code"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rondo_http_request_seconds", Help: "Time from a request's first byte to the end of its answer, by operation.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	}, []string{"op"})
	m.peerCalls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rondo_peer_calls_total", Help: "Calls to other nodes, by node id, class (read, write, coordinate, list, standin) and outcome.",
	}, []string{"peer", "class", "outcome"})
	m.peerSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rondo_peer_call_seconds", Help: "Time that calls to other nodes took, by node id and class.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"peer", "class"})
	m.skew = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "rondo_clock_skew_seconds", Help: "How far a node's timestamps were ahead of this node's clock when it was last noticed.",
	}, []string{"peer"})
	m.quorums = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rondo_quorum_operations_total", Help: "Reads, writes and listings coordinated here, by outcome: met, or the error code.",
	}, []string{"op", "outcome"})
	m.size = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "rondo_conflict_siblings", Help: "Concurrent versions of the keys that were read with more than one.",
		Buckets: []float64{2, 3, 5, 10, 25, 50, 100},
	})
	m.registry.MustRegister(m.requests, seconds, m.peerCalls, m.peerSeconds, m.skew, m.quorums, m.size,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for o := range opCount {
		m.seconds[o] = seconds.WithLabelValues(o.String())
	}
	m.panics = counterOf("rondo_http_panics_total", "Requests that made a handler panic. Anything but 0 is a defect.")
	m.events = map[string]prometheus.Counter{
		"read_repair":      counterOf("rondo_read_repairs_total", "Replicas that a read brought up to date."),
		"hedge":            counterOf("rondo_hedges_total", "Reads that asked one more replica because another was late."),
		"conflict":         counterOf("rondo_conflicts_total", "Reads that met more than one concurrent version."),
		"siblings_warning": counterOf("rondo_siblings_warnings_total", "Writes that left a key with 25 concurrent versions or more."),
		"digest_mismatch":  counterOf("rondo_digest_mismatches_total", "Reads whose replicas did not all hold the same."),
		"stale_layout":     counterOf("rondo_stale_layouts_total", "Operations that met two versions of the ring and were tried again."),
		"hint":             counterOf("rondo_hints_left_total", "Hints that writes coordinated here left for owners that were down."),
		"hint_failed":      counterOf("rondo_hints_failed_total", "Hints that could not be kept. Anti-entropy mends what they stood for."),
		"standin_write":    counterOf("rondo_standin_writes_total", "Stand-ins that acknowledged a sloppy write in the place of an owner."),
		"standin_read":     counterOf("rondo_standin_reads_total", "Stand-ins that answered a sloppy read in the place of an owner."),
		"breaker_open":     counterOf("rondo_breaker_opens_total", "Times that another node was left alone because its calls kept failing."),
	}
	m.peers.Store(&map[ring.NodeID]*peerMetrics{})
	m.exporter = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 8, ErrorHandling: promhttp.HTTPErrorOnError,
	})
	return m
}

// http counts one answer.
func (m *Metrics) http(o op, status int, took time.Duration) {
	i := statusIndex(status)
	m.codes[o][i].of(m.requests, o.String(), statusNames[i]).Inc()
	m.seconds[o].Observe(took.Seconds())
}

// metrics answers with the text format of Prometheus.
func (x *exchange) metrics() {
	x.status, x.wrote = http.StatusOK, true
	x.Metrics.exporter.ServeHTTP(x.w, x.r)
}

var _ quorum.Observer = (*Metrics)(nil)

// quorumOps are what the coordinator reports.
var quorumOps = [...]string{"read", "write", "list"}

// Quorum counts an operation that this node coordinated.
func (m *Metrics) Quorum(op string, code quorum.Code) {
	if code == "" {
		for i, name := range quorumOps {
			if name == op {
				m.met[i].of(m.quorums, op, "met").Inc()
				return
			}
		}
		code = "met"
	}
	m.quorums.WithLabelValues(op, string(code)).Inc()
}

// Event counts what happened n times, or to n things.
func (m *Metrics) Event(name string, n int) {
	c, ok := m.events[name]
	switch {
	case !ok:
	case name == "conflict":
		c.Inc()
		m.size.Observe(float64(n))
	case name == "siblings_warning":
		c.Inc()
	default:
		c.Add(float64(max(n, 0)))
	}
}

// ClockSkew notes how far a node's clock is ahead.
func (m *Metrics) ClockSkew(peer ring.NodeID, ahead time.Duration) {
	m.skew.WithLabelValues(m.peer(peer).name).Set(ahead.Seconds())
}
