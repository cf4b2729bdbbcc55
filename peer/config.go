package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Handler is the replica side of a node, called by Server. All methods are safe for concurrent use. An error that implements
// NotApplied() bool, StaleLayout() uint64 or Outcome() string keeps them across the wire.
type Handler interface {
	// TryRead answers from memory. It is called on the connection's reader and must never block; ok false means that Read
	// must be asked. The object is only read, before the connection's next message is taken.
	TryRead(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest, watermark uint64, ok bool, err error)
	// Read answers on a worker and may block on the disk. An object never written is nil with digest 0.
	// watermark is up to which time what the replica does not hold was deleted everywhere and collected, 0 where it cannot tell.
	Read(from ring.NodeID, layout uint64, key ring.Key, digestOnly bool) (object []byte, digest, watermark uint64, err error)
	// Write merges the object on a worker. done is called exactly once, then or later, from any goroutine. The object is valid
	// until done is called and belongs to the server.
	Write(from ring.NodeID, layout uint64, key ring.Key, object []byte, sync, repair bool, done func(error))
	// Call answers everything else. It may block until ctx ends. The payload is the handler's to keep.
	Call(ctx context.Context, from ring.NodeID, layout uint64, op Op, payload []byte) ([]byte, error)
}

// Limits that are part of the protocol.
const (
	// MaxFrame is the largest frame in bytes, either way.
	MaxFrame = 256 << 20
	// LargePayload is the size in bytes above which a payload travels on the second connection.
	LargePayload = 64 << 10
)

// Config describes one end. The same value may serve NewServer and NewClient. Zero limits and times take their defaults.
type Config struct {
	Cluster   string                                                   // the cluster's name; both ends must have the same
	Self      ring.NodeID                                              // this node
	ClusterID func() string                                            // the cluster's random identity; "" until a ring is known, then never another. nil = always ""
	Logger    *slog.Logger                                             // nil = no log
	Rand      *rand.Rand                                               // spreads redials and mints session numbers; used by the client only; nil = seeded at random
	Listen    string                                                   // server: host:port to bind; port 0 takes a free one
	Listener  net.Listener                                             // server: used instead of Listen where set; the server closes it
	Handler   Handler                                                  // server
	Met       func(ring.NodeID)                                        // server: told when a node has connected, so that it is back if it was away; must not block. nil = nobody
	Addr      func(ring.NodeID) (string, bool)                         // client: where a node listens, as known now; cheap, never blocks
	Dial      func(ctx context.Context, addr string) (net.Conn, error) // client: nil = TCP

	CallTimeout  time.Duration // of calls whose context has no deadline; 5 s
	DialTimeout  time.Duration // to connect, hello included; 1 s
	BackoffMin   time.Duration // first pause after a failed dial, about; 50 ms
	BackoffMax   time.Duration // longest pause; 2 s
	PingAfter    time.Duration // silence with calls pending after which a ping asks; 1 s
	PingTimeout  time.Duration // silence after a ping that ends the connection; 2 s
	IdlePing     time.Duration // time between pings on an idle connection; 5 s
	SendBuffer   int           // bytes that may wait in one connection's buffer; 32 MiB
	MaxPending   int           // calls in flight on one connection; 65536
	HelloTimeout time.Duration // server: a connection that has not said hello by then is closed; 5 s
	IdleTimeout  time.Duration // server: a connection that sends nothing, not even a ping, is closed; 20 s
	DrainTime    time.Duration // server: how long Close waits for requests that it has begun; 1 s
	Workers      int           // server: goroutines for reads that miss and for writes; 32
	Queue        int           // server: requests that may wait for a worker; 4096
	CallWorkers  int           // server: goroutines for the other calls, as many may wait; 256
	MaxInFlight  int64         // server: payload bytes of requests not yet answered, all connections; 512 MiB
	MaxConns     int           // server: connections; 256

	versions versions // protocol range; the zero value is what this build speaks
}

func fallback[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// validate fills in the defaults and rejects what cannot work.
func (c *Config) validate() error {
	if c.Cluster == "" || len(c.Cluster) > maxHelloText {
		return fmt.Errorf("cluster name must have 1 to %d bytes", maxHelloText)
	}
	if c.Self == "" || len(c.Self) > maxHelloText {
		return errors.New("node id is missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if c.ClusterID == nil {
		c.ClusterID = func() string { return "" }
	}
	if c.versions == (versions{}) {
		c.versions = versions{min: ProtocolMin, max: ProtocolMax}
	}
	fallback(&c.CallTimeout, 5*time.Second)
	fallback(&c.DialTimeout, time.Second)
	fallback(&c.BackoffMin, 50*time.Millisecond)
	fallback(&c.BackoffMax, 2*time.Second)
	fallback(&c.PingAfter, time.Second)
	fallback(&c.PingTimeout, 2*time.Second)
	fallback(&c.IdlePing, 5*time.Second)
	fallback(&c.SendBuffer, 32<<20)
	fallback(&c.MaxPending, 1<<16)
	fallback(&c.HelloTimeout, 5*time.Second)
	fallback(&c.IdleTimeout, 20*time.Second)
	fallback(&c.DrainTime, time.Second)
	fallback(&c.Workers, 32)
	fallback(&c.Queue, 4096)
	fallback(&c.CallWorkers, 256)
	fallback(&c.MaxInFlight, 512<<20)
	fallback(&c.MaxConns, 256)
	if c.MaxPending > 1<<24 {
		return fmt.Errorf("%d pending calls are too many: at most %d", c.MaxPending, 1<<24)
	}
	return nil
}
