package quorum

import (
	"context"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// echoPeers answers at once, in the caller's goroutine: what is measured is the coordinator alone.
type echoPeers struct {
	object []byte
	digest uint64
}

func (p *echoPeers) Read(_ context.Context, _ ring.NodeID, _ uint64, _ ring.Key, digestOnly bool, done func([]byte, uint64, uint64, error)) {
	if digestOnly {
		done(nil, p.digest, 0, nil)
		return
	}
	done(p.object, p.digest, 0, nil)
}

func (p *echoPeers) Write(_ context.Context, _ ring.NodeID, _ uint64, _ ring.Key, _ []byte, _, _ bool, done func(error)) {
	done(nil)
}

func (p *echoPeers) Coordinate(context.Context, ring.NodeID, uint64, []byte) ([]byte, error) {
	return nil, errWire
}

func (p *echoPeers) List(context.Context, ring.NodeID, uint64, []byte) ([]byte, error) {
	return nil, errWire
}

func (p *echoPeers) Standin(context.Context, ring.NodeID, uint64, []byte) ([]byte, error) {
	return nil, errWire
}

func benchmark(b *testing.B, run func(c *Coordinator, ctx context.Context, key ring.Key) error) {
	c := newCluster(b, 3)
	key := ring.NewKey("bench", "key")
	node := c.owners(key)[0]
	peers := &echoPeers{}
	node.start(Config{})
	node.coordinator.config.Peers = peers
	node.coordinator.config.Observer = deaf{}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	if _, err := node.coordinator.Put(ctx, key, Value{ContentType: vclock.TypeBytes, Bytes: make([]byte, 1024)}, WriteOptions{}); err != nil {
		b.Fatal(err)
	}
	peers.object, peers.digest, _ = node.store.Get(key)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if err := run(node.coordinator, ctx, key); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	c.close()
}

func BenchmarkGet(b *testing.B) {
	benchmark(b, func(c *Coordinator, ctx context.Context, key ring.Key) error {
		_, err := c.Get(ctx, key, ReadOptions{})
		return err
	})
}

func BenchmarkGetOne(b *testing.B) {
	benchmark(b, func(c *Coordinator, ctx context.Context, key ring.Key) error {
		_, err := c.Get(ctx, key, ReadOptions{R: 1})
		return err
	})
}

func BenchmarkPut(b *testing.B) {
	v := Value{ContentType: vclock.TypeBytes, Bytes: make([]byte, 1024)}
	benchmark(b, func(c *Coordinator, ctx context.Context, key ring.Key) error {
		_, err := c.Put(ctx, key, v, WriteOptions{})
		return err
	})
}
