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

	"github.com/rondodb/rondo/antientropy"
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
	_ quorum.Hints      = (*storage.Store)(nil)
	_ quorum.Voter      = (*storage.Store)(nil)
	_ quorum.Spacious   = (*storage.Store)(nil)
	_ quorum.Collector  = (*storage.Store)(nil)
	_ quorum.Peers      = (*peer.Client)(nil)
	_ quorum.Membership = (*members)(nil)
	_ peer.Handler      = (*handler)(nil)
)

// life is a node from the opening of its store to its closing: open, close; safe for concurrent use in between.
type life struct {
	config Config
	log    *slog.Logger
	began  time.Time

	store       *storage.Store
	members     *members
	client      *peer.Client
	server      *peer.Server
	buckets     *quorum.Buckets
	repairer    *antientropy.Repairer
	coordinator *quorum.Coordinator
	api         *httpapi.Server
	httpAddr    string // advertised
	peerAddr    string // advertised
	httpBound   string
	peerBound   string
	sealer      sealers

	reopened map[storage.Cause]int // how often the store had to be opened again before, since the process began; never changed

	draining atomic.Bool
	cancel   context.CancelFunc // ends the background loops
	loops    sync.WaitGroup
	failed   chan error // takes the first failure of a listener
}

func newLife(config Config, logger *slog.Logger, reopened map[storage.Cause]int) *life {
	return &life{config: config, log: logger, reopened: reopened, failed: make(chan error, 1)}
}

// open starts all parts. On an error everything it had opened is closed again.
func (l *life) open() (err error) {
	l.began = time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			err = errors.Join(err, l.close(stop))
		}
	}()

	var bucketSettings late[quorum.Buckets] // the store asks for them; they live in the store
	l.store, err = storage.Open(l.config.machine.storage(storage.Config{
		Dir: l.config.Data, Logger: l.log, CacheBytes: l.config.Cache,
		LastWriteWins: func(bucket string) bool { b := bucketSettings.get(); return b != nil && b.Get(bucket).LWW },
		Replicas: func(bucket string) int {
			if b := bucketSettings.get(); b != nil {
				return b.Get(bucket).N
			}
			return 0 // not known yet
		},
		Now: l.config.machine.now, Reserve: l.config.Reserve, HintLimit: l.config.HintLimit,
	}))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}

	if err := l.acceptLoss(); err != nil {
		return err
	}

	httpListener, err := l.config.machine.bind(l.config.HTTP, "http")
	if err != nil {
		return err
	}
	l.httpBound = httpListener.Addr().String()
	peerListener, err := l.config.machine.bind(l.config.Peer, "peer")
	if err != nil {
		return errors.Join(err, httpListener.Close())
	}
	l.peerBound = peerListener.Addr().String()
	if err := l.connect(httpListener.Addr(), peerListener, &bucketSettings); err != nil {
		return errors.Join(err, httpListener.Close(), peerListener.Close())
	}

	if err := l.server.Open(); err != nil {
		return errors.Join(fmt.Errorf("open replica protocol: %w", err), httpListener.Close())
	}
	l.loops.Go(func() { l.serveHTTP(httpListener) })
	if err := l.members.Open(); err != nil {
		return fmt.Errorf("open membership: %w", err)
	}
	l.loops.Go(func() { l.follow(ctx) })
	l.loops.Go(func() {
		if err := l.repairer.Run(ctx); err != nil {
			l.fail(fmt.Errorf("anti-entropy: %w", err))
		}
	})
	l.log.Info("node is up", "name", l.config.Name, "id", l.store.NodeID(), "http", l.httpBound, "peer", l.peerAddr, "gossip", l.members.GossipAddr(),
		"data", l.config.Data, "took", time.Since(l.began).Round(time.Millisecond))
	return nil
}

// acceptLoss gives the votes back that the store has lost, where the operator says so.
func (l *life) acceptLoss() error {
	if !l.config.AcceptLoss {
		return nil
	}
	l.log.Warn("if the store has lost data, they are given up: it answers for what is left (--accept-loss)")
	if err := l.store.ClearDamage(); err != nil {
		return fmt.Errorf("accept the loss of data: %w", err)
	}
	return nil
}

// connect builds the parts and hands them to each other. It starts nothing.
func (l *life) connect(httpAddr net.Addr, peerListener net.Listener, bucketSettings *late[quorum.Buckets]) error {
	var err error
	if l.httpAddr, err = l.advertised(l.config.HTTP, httpAddr); err != nil {
		return err
	}
	if l.peerAddr, err = l.advertised(l.config.Peer, peerListener.Addr()); err != nil {
		return err
	}
	gossipHost, _, err := net.SplitHostPort(l.config.Gossip)
	if err != nil {
		return err
	}
	gossipAdvertise, err := l.config.advertiseHost(gossipHost)
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
	peerConfig := l.config.machine.peer(peer.Config{
		Cluster: l.config.Cluster, Self: l.store.NodeID(), Listener: peerListener, Handler: handler, Logger: l.log, Rand: newRand(),
		Addr: func(id ring.NodeID) (string, bool) { return membership.get().Addr(id) },
		ClusterID: func() string {
			if l := layout(); l != nil {
				return l.Cluster()
			}
			return ""
		},
		Met: l.met,
	})
	if l.client, err = peer.NewClient(peerConfig); err != nil {
		return fmt.Errorf("set up replica protocol: %w", err)
	}
	if l.server, err = peer.NewServer(peerConfig); err != nil {
		return fmt.Errorf("set up replica protocol: %w", err)
	}
	calls := &calls{client: l.client, layout: layout}
	joined, err := gossip.New(l.config.machine.gossip(gossip.Config{
		Self: l.store.NodeID(), Name: l.config.Name, Zone: l.config.Zone, Cluster: l.config.Cluster, Version: Version(),
		HTTPAddr: l.httpAddr, PeerAddr: l.peerAddr, Bind: l.config.Gossip, Advertise: gossipAdvertise, Join: l.config.Join,
		Expect: l.config.Expect, Partitions: l.config.Partitions, Weight: l.config.Weight, Meta: l.store, Peers: calls, Logger: l.log, Rand: newRand(),
	}))
	if err != nil {
		return fmt.Errorf("set up membership: %w", err)
	}
	membership.set(joined)
	l.members = &members{Membership: joined, store: l.store, log: l.log}

	metrics := httpapi.NewMetrics()
	if l.buckets, err = quorum.NewBuckets(quorum.BucketsConfig{
		Meta: l.store, Membership: l.members, Peers: calls, Local: l.store, Logger: l.log, Now: l.config.machine.now,
	}); err != nil {
		return fmt.Errorf("load bucket settings: %w", err)
	}
	bucketSettings.set(l.buckets)
	l.coordinator, err = quorum.New(quorum.Config{
		Local: l.store, Peers: l.client, Membership: l.members, Buckets: l.buckets, Observer: metrics, Logger: l.log, Rand: newRand(),
		Incarnation: l.store.Incarnation(), Name: l.config.Name, Now: l.config.machine.now,
	})
	if err != nil {
		return fmt.Errorf("set up coordinator: %w", err)
	}
	on, err := repairs(l.config.Repair)
	if err != nil {
		return err
	}
	if l.repairer, err = antientropy.New(l.config.machine.repair(antientropy.Config{
		Store: repairStore{l.store}, Peers: exchanges{l.client}, Membership: l.members, Name: l.nodeName, Logger: l.log, Rand: newRand(),
		Now: l.config.machine.now, Pressure: l.coordinator.Pressure, Replicas: func(bucket string) int { return l.buckets.Get(bucket).N }, Sound: l.store.Sound,
		NoExchange: !on[repairExchange], NoHints: !on[repairHints], NoPurge: !on[repairCollect], NoVerify: !on[repairVerify],
	})); err != nil {
		return fmt.Errorf("set up anti-entropy: %w", err)
	}
	handler.Replica, handler.coordinator, handler.buckets, handler.membership = l.coordinator.Replica(), l.coordinator, l.buckets, joined
	handler.repairer = l.repairer
	l.api, err = httpapi.New(httpapi.Config{
		Coordinator: l.coordinator, Buckets: l.buckets, Node: (*view)(l), Metrics: metrics, Sealer: l.sealer.of(l.members.Layout),
		MaxValue: l.config.MaxValue, Version: Version(), Logger: l.log,
	})
	if err != nil {
		return fmt.Errorf("set up API: %w", err)
	}
	return nil
}

// fail reports that a part died; the first report is kept.
func (l *life) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

func (l *life) serveHTTP(listener net.Listener) {
	if err := l.api.Serve(listener); err != nil {
		l.fail(fmt.Errorf("serve HTTP on %s: %w", listener.Addr(), err))
	}
}

// close is Node.Close for this life.
func (l *life) close(ctx context.Context) error {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	l.draining.Store(true)
	if l.members != nil {
		l.members.SetDraining()
	}
	if l.api != nil {
		drain, cancel := context.WithTimeout(ctx, requestTime)
		if err := l.api.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
			l.log.Warn("requests that did not end in time were cut off", "limit", requestTime, "error", err)
		} else {
			note("close API", err)
		}
		cancel()
	}
	l.cancel()
	l.loops.Wait()
	l.closeCoordinator()
	if l.members != nil {
		note("leave cluster", l.members.Leave(leaveTime))
		note("close membership", l.members.Close())
	}
	if l.client != nil {
		note("close replica client", l.client.Close())
	}
	if l.server != nil {
		note("close replica server", l.server.Close())
	}
	if l.store != nil {
		note("close store", l.store.Close())
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
func (l *life) closeCoordinator() {
	if l.coordinator == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		l.coordinator.Close()
		close(done)
	}()
	late := time.NewTimer(lateTime)
	defer late.Stop()
	select {
	case <-done:
		return
	case <-late.C:
	}
	if err := l.client.Close(); err != nil {
		l.log.Warn("replica client did not close cleanly", "error", err)
	}
	<-done
}

// advertised is what others dial to reach a listener.
func (l *life) advertised(configured string, bound net.Addr) (string, error) {
	host, _, err := net.SplitHostPort(configured)
	if err != nil {
		return "", err
	}
	if host, err = l.config.advertiseHost(host); err != nil {
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
