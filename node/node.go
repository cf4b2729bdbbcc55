// Package node builds one node from a Config: it opens the parts in order, connects them, and closes them in reverse. It
// holds no logic of its own.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/storage"
)

// Node is one running node. New, Open, Close; safe for concurrent use between Open and Close.
//
// It keeps itself alive: where its store says that it must be opened again (data are damaged, an fsync has failed, the disk was full), the
// node is closed and opened anew in the same process, at the same addresses.
type Node struct {
	config Config
	log    *slog.Logger
	failed chan error

	cancel context.CancelFunc // ends keep
	kept   chan struct{}      // closed when keep has ended

	mu   sync.Mutex
	life *life  // nil while there is none
	why  string // there is none
	id   ring.NodeID
	at   addresses
}

// addresses are where a node is bound; they stay the same in all its lives.
type addresses struct{ http, peer, gossip string }

// New checks the configuration and starts nothing.
func New(config Config, logger *slog.Logger) (*Node, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Node{config: config, log: logger, failed: make(chan error, 1), kept: make(chan struct{})}, nil
}

// Open starts the node: store, listeners, membership, API. When it returns without an error the node serves, though it may
// still be waiting for its ring (Ready tells). On an error everything it had opened is closed again.
func (n *Node) Open() error {
	l := newLife(n.config, n.log, map[storage.Cause]int{})
	err := l.open()
	if err != nil && l.store != nil {
		select {
		case why := <-l.store.Broken(): // damage that a part has met while it started: the next opening salvages
			n.log.Error("the store must be opened again", "why", why, "error", err)
			reopened := map[storage.Cause]int{}
			var broken *storage.BrokenError
			if errors.As(why, &broken) {
				reopened[broken.Cause]++
			}
			l = newLife(n.config, n.log, reopened)
			err = l.open()
		default:
		}
	}
	if err != nil {
		close(n.kept)
		return err
	}
	n.live(l)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go n.keep(ctx, l)
	return nil
}

// live makes l the node's life. Ports that were free to choose are chosen from now on.
func (n *Node) live(l *life) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life, n.why, n.id = l, "", l.store.NodeID()
	n.at = addresses{http: l.httpBound, peer: l.peerBound, gossip: l.members.GossipAddr()}
	n.config.HTTP, n.config.Peer, n.config.Gossip = n.at.http, n.at.peer, n.at.gossip
}

// keep gives the node another life where the store has to be opened again.
func (n *Node) keep(ctx context.Context, l *life) {
	defer close(n.kept)
	for l != nil {
		select {
		case <-ctx.Done():
			return
		case err := <-l.failed:
			n.failed <- err
			return
		case why := <-l.store.Broken():
			l = n.again(ctx, l, why)
		}
	}
}

// again ends one life and begins the next; nil where ctx ended before.
func (n *Node) again(ctx context.Context, l *life, why error) *life {
	n.log.Error("the store must be opened again", "why", why)
	reopened := maps.Clone(l.reopened)
	var broken *storage.BrokenError
	if errors.As(why, &broken) {
		reopened[broken.Cause]++
		if broken.Cause == storage.DiskFull && !n.awaitRoom(ctx, l) { // reads go on meanwhile; opening needs room for what is in the journal
			return nil
		}
	}
	n.mu.Lock()
	n.life, n.why = nil, "the store is being opened again: "+why.Error()
	n.mu.Unlock()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), reopenDrain)
	if err := l.close(stop); err != nil {
		n.log.Info("the node did not close cleanly, as was to be expected", "error", err)
	}
	cancel()
	for pause := reopenFirst; ; pause = min(2*pause, reopenLast) {
		next := newLife(n.config, n.log, reopened)
		err := next.open()
		if err == nil {
			n.live(next)
			return next
		}
		n.log.Error("the node cannot be opened again, will try once more", "in", pause, "error", err)
		n.mu.Lock()
		n.why = "the store cannot be opened again: " + err.Error()
		n.mu.Unlock()
		if !pauseFor(ctx, pause) {
			return nil
		}
	}
}

// Times of a node that is opened again.
const (
	reopenDrain = 5 * time.Second        // for requests in flight
	reopenFirst = 200 * time.Millisecond // pause after the first failure; doubled each time
	reopenLast  = 30 * time.Second
	roomTick    = 2 * time.Second
)

// awaitRoom waits until there is room again to open the store; false where ctx ended before.
func (n *Node) awaitRoom(ctx context.Context, l *life) bool {
	n.log.Error("the disk is full: writes are refused until there is room", "data", n.config.Data)
	for pauseFor(ctx, roomTick) { // the store has looked at the volume by then
		if l.store.Full() == nil {
			return true
		}
	}
	return false
}

// pauseFor waits; false where ctx ended before.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// current is the node's life, nil while there is none.
func (n *Node) current() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// Failed yields an error when a listener dies under the node, which must then be closed.
func (n *Node) Failed() <-chan error { return n.failed }

// Close drains and stops the node: it tells the others that it goes, stops accepting, finishes what is in flight until ctx
// ends, and flushes. It returns when every goroutine that Open started is gone.
func (n *Node) Close(ctx context.Context) error {
	if n.cancel != nil {
		n.cancel()
	}
	select {
	case <-n.kept:
	case <-ctx.Done():
		return fmt.Errorf("stop node: its store is still being opened: %w", ctx.Err())
	}
	n.mu.Lock()
	l := n.life
	n.life, n.why = nil, "the node is stopping"
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.close(ctx)
}

// Name is the node's name for people.
func (n *Node) Name() string { return n.config.Name }

// ID is the node's identity.
func (n *Node) ID() ring.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// HTTPAddr is the address that the API is bound to.
func (n *Node) HTTPAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at.http
}

// GossipAddr is the address that membership is bound to: what others pass to --join.
func (n *Node) GossipAddr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at.gossip
}

// Ready tells whether the node is in the ring and can serve; if not, why.
func (n *Node) Ready() (bool, string) {
	n.mu.Lock()
	l, why := n.life, n.why
	n.mu.Unlock()
	if l == nil {
		return false, why
	}
	return (*view)(l).Ready()
}
