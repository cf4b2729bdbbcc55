// Package node builds one node from a Config: it opens the parts in order, connects them, and closes them in reverse. It
// holds no logic of its own.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rondodb/rondo/gossip"
	"github.com/rondodb/rondo/httpapi"
	"github.com/rondodb/rondo/peer"
	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
	"github.com/rondodb/rondo/vclock"
)

// The parts fit the interfaces of the packages that call them.
var (
	_ quorum.Local      = (*storage.Store)(nil)
	_ quorum.Peers      = (*peer.Client)(nil)
	_ quorum.Membership = (*members)(nil)
	_ peer.Handler      = (*handler)(nil)
)

// Node is one running node. New, Open, Close; safe for concurrent use between Open and Close.
type Node struct {
	config Config
	log    *slog.Logger
	began  time.Time

	store       *storage.Store
	members     *members
	client      *peer.Client
	server      *peer.Server
	buckets     *quorum.Buckets
	coordinator *quorum.Coordinator
	api         *httpapi.Server
	httpAddr    string // advertised
	peerAddr    string // advertised
	httpBound   string
	sealer      sealers

	draining atomic.Bool
	cancel   context.CancelFunc // ends the background loops
	loops    sync.WaitGroup
	failed   chan error
}

// New checks the configuration and starts nothing.
func New(config Config, logger *slog.Logger) (*Node, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Node{config: config, log: logger, failed: make(chan error, 1)}, nil
}

// Open starts the node: store, listeners, membership, API. When it returns without an error the node serves, though it may
// still be waiting for its ring (Ready tells). On an error everything it had opened is closed again.
func (n *Node) Open() (err error) {
	n.began = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			err = errors.Join(err, n.Close(stop))
		}
	}()

	var bucketSettings late[quorum.Buckets] // the store asks for them; they live in the store
	n.store, err = storage.Open(n.config.machine.storage(storage.Config{
		Dir: n.config.Data, Logger: n.log, CacheBytes: n.config.Cache,
		LastWriteWins: func(bucket string) bool { b := bucketSettings.get(); return b != nil && b.Get(bucket).LWW },
	}))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}

	if err := n.acceptLoss(); err != nil {
		return err
	}

	httpListener, err := n.config.machine.bind(n.config.HTTP, "http")
	if err != nil {
		return err
	}
	n.httpBound = httpListener.Addr().String()
	peerListener, err := n.config.machine.bind(n.config.Peer, "peer")
	if err != nil {
		return errors.Join(err, httpListener.Close())
	}
	if err := n.connect(httpListener.Addr(), peerListener, &bucketSettings); err != nil {
		return errors.Join(err, httpListener.Close(), peerListener.Close())
	}

	if err := n.server.Open(); err != nil {
		return errors.Join(fmt.Errorf("open replica protocol: %w", err), httpListener.Close())
	}
	n.loops.Go(func() { n.serveHTTP(httpListener) })
	if err := n.members.Open(); err != nil {
		return fmt.Errorf("open membership: %w", err)
	}
	n.loops.Go(func() { n.follow(ctx) })
	n.log.Info("node is up", "name", n.config.Name, "id", n.store.NodeID(), "http", n.httpBound, "peer", n.peerAddr, "gossip", n.members.GossipAddr(),
		"data", n.config.Data, "took", time.Since(n.began).Round(time.Millisecond))
	return nil
}

// acceptLoss says what to do about a store that opened with less than it held, or lets it serve again if the operator says so.
func (n *Node) acceptLoss() error {
	err := n.store.Healthy()
	switch {
	case !errors.Is(err, storage.ErrDamaged):
		return nil
	case !n.config.AcceptLoss:
		n.log.Error("the store has lost data: this node takes writes, but casts no read votes and is not ready. Start it once with --accept-loss, "+
			"then read every key with r=all (rondo export --r all BUCKET), which brings back what the other replicas hold", "error", err)
		return nil
	}
	n.log.Warn("the store has lost data, which the operator accepts: read every key with r=all to bring back what the other replicas hold", "error", err)
	if err := n.store.ClearDamage(); err != nil {
		return fmt.Errorf("accept the loss of data: %w", err)
	}
	return nil
}

// connect builds the parts and hands them to each other. It starts nothing.
func (n *Node) connect(httpAddr net.Addr, peerListener net.Listener, bucketSettings *late[quorum.Buckets]) error {
	var err error
	if n.httpAddr, err = n.advertised(n.config.HTTP, httpAddr); err != nil {
		return err
	}
	if n.peerAddr, err = n.advertised(n.config.Peer, peerListener.Addr()); err != nil {
		return err
	}
	gossipHost, _, err := net.SplitHostPort(n.config.Gossip)
	if err != nil {
		return err
	}
	gossipAdvertise, err := n.config.advertiseHost(gossipHost)
	if err != nil {
		return err
	}
	var membership late[gossip.Membership]
	layout := func() *ring.Layout {
		if m := membership.get(); m != nil {
			return m.Layout()
		}
		return nil
	}
	handler := &handler{}
	peerConfig := n.config.machine.peer(peer.Config{
		Cluster: n.config.Cluster, Self: n.store.NodeID(), Listener: peerListener, Handler: handler, Logger: n.log, Rand: newRand(),
		Addr: func(id ring.NodeID) (string, bool) { return membership.get().Addr(id) },
		ClusterID: func() string {
			if l := layout(); l != nil {
				return l.Cluster()
			}
			return ""
		},
		Met: n.met,
	})
	if n.client, err = peer.NewClient(peerConfig); err != nil {
		return fmt.Errorf("set up replica protocol: %w", err)
	}
	if n.server, err = peer.NewServer(peerConfig); err != nil {
		return fmt.Errorf("set up replica protocol: %w", err)
	}
	calls := &calls{client: n.client, layout: layout}
	joined, err := gossip.New(n.config.machine.gossip(gossip.Config{
		Self: n.store.NodeID(), Name: n.config.Name, Zone: n.config.Zone, Cluster: n.config.Cluster, Version: Version(),
		HTTPAddr: n.httpAddr, PeerAddr: n.peerAddr, Bind: n.config.Gossip, Advertise: gossipAdvertise, Join: n.config.Join,
		Expect: n.config.Expect, Partitions: n.config.Partitions, Weight: n.config.Weight, Meta: n.store, Peers: calls, Logger: n.log, Rand: newRand(),
	}))
	if err != nil {
		return fmt.Errorf("set up membership: %w", err)
	}
	membership.set(joined)
	n.members = &members{Membership: joined, store: n.store, log: n.log}

	metrics := httpapi.NewMetrics()
	if n.buckets, err = quorum.NewBuckets(quorum.BucketsConfig{
		Meta: n.store, Membership: n.members, Peers: calls, Local: n.store, Logger: n.log, Now: n.config.machine.now,
	}); err != nil {
		return fmt.Errorf("load bucket settings: %w", err)
	}
	bucketSettings.set(n.buckets)
	n.coordinator, err = quorum.New(quorum.Config{
		Local: n.store, Peers: n.client, Membership: n.members, Buckets: n.buckets, Observer: metrics, Logger: n.log, Rand: newRand(),
		Incarnation: n.store.Incarnation(), Name: n.config.Name, Now: n.config.machine.now,
	})
	if err != nil {
		return fmt.Errorf("set up coordinator: %w", err)
	}
	handler.Replica, handler.coordinator, handler.buckets, handler.membership = n.coordinator.Replica(), n.coordinator, n.buckets, joined
	n.api, err = httpapi.New(httpapi.Config{
		Coordinator: n.coordinator, Buckets: n.buckets, Node: (*view)(n), Metrics: metrics, Sealer: n.sealer.of(n.members.Layout),
		MaxValue: n.config.MaxValue, Version: Version(), Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("set up API: %w", err)
	}
	return nil
}

// fail reports that a part died; the first report is kept.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

func (n *Node) serveHTTP(l net.Listener) {
	if err := n.api.Serve(l); err != nil {
		n.fail(fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err))
	}
}

// Failed yields an error when a listener dies under the node, which must then be closed.
func (n *Node) Failed() <-chan error { return n.failed }

// Close drains and stops the node: it tells the others that it goes, stops accepting, finishes what is in flight until ctx
// ends, and flushes. It returns when every goroutine that Open started is gone.
func (n *Node) Close(ctx context.Context) error {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	n.draining.Store(true)
	if n.members != nil {
		n.members.SetDraining()
	}
	if n.api != nil {
		drain, cancel := context.WithTimeout(ctx, requestTime)
		if err := n.api.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
			n.log.Warn("requests that did not end in time were cut off", "limit", requestTime, "error", err)
		} else {
			note("close API", err)
		}
		cancel()
	}
	n.cancel()
	n.loops.Wait()
	n.closeCoordinator()
	if n.members != nil {
		note("leave cluster", n.members.Leave(leaveTime))
		note("close membership", n.members.Close())
	}
	if n.client != nil {
		note("close replica client", n.client.Close())
	}
	if n.server != nil {
		note("close replica server", n.server.Close())
	}
	if n.store != nil {
		note("close store", n.store.Close())
	}
	return errors.Join(errs...)
}

// What the steps of Close may take, so that all of it stays below ten seconds.
const (
	requestTime = 5 * time.Second // requests in flight
	lateTime    = 2 * time.Second // acknowledgements and repairs that outlive their request
	leaveTime   = time.Second     // the goodbye to the other nodes
)

// closeCoordinator lets late acknowledgements and repairs finish for a while; then those of peers that do not answer fail.
func (n *Node) closeCoordinator() {
	if n.coordinator == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		n.coordinator.Close()
		close(done)
	}()
	late := time.NewTimer(lateTime)
	defer late.Stop()
	select {
	case <-done:
		return
	case <-late.C:
	}
	if err := n.client.Close(); err != nil {
		n.log.Warn("replica client did not close cleanly", "error", err)
	}
	<-done
}

// Name is the node's name for people.
func (n *Node) Name() string { return n.config.Name }

// ID is the node's identity.
func (n *Node) ID() ring.NodeID { return n.store.NodeID() }

// HTTPAddr is the address that the API is bound to.
func (n *Node) HTTPAddr() string { return n.httpBound }

// GossipAddr is the address that membership is bound to: what others pass to --join.
func (n *Node) GossipAddr() string { return n.members.GossipAddr() }

// Ready tells whether the node is in the ring and can serve; if not, why.
func (n *Node) Ready() (bool, string) { return (*view)(n).Ready() }

// advertised is what others dial to reach a listener.
func (n *Node) advertised(configured string, bound net.Addr) (string, error) {
	host, _, err := net.SplitHostPort(configured)
	if err != nil {
		return "", err
	}
	if host, err = n.config.advertiseHost(host); err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// sealers keeps the sealer of the cluster once its identity is known.
type sealers struct {
	mu      sync.RWMutex
	cluster string
	sealer  *vclock.Sealer
}

// of returns a function that gives the cluster's sealer, nil until there is a ring.
func (s *sealers) of(layout func() *ring.Layout) func() *vclock.Sealer {
	return func() *vclock.Sealer {
		l := layout()
		if l == nil {
			return nil
		}
		s.mu.RLock()
		sealer, cluster := s.sealer, s.cluster
		s.mu.RUnlock()
		if cluster == l.Cluster() {
			return sealer
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cluster, s.sealer = l.Cluster(), vclock.NewSealer(l.Cluster())
		return s.sealer
	}
}
