package antientropy

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Config is what a Repairer is made of. Zero times and limits take their defaults.
type Config struct {
	Store      Store
	Peers      Peers
	Membership Membership
	// Sound tells, fast, whether the Merkle tree of a class is known to tell what the class holds: not while the store computes it anew. nil =
	// found out by reading a leaf of the class each time.
	Sound    func(c ring.Class) bool
	Replicas func(bucket string) int  // replica count of a bucket, as it is set; called for each hint; nil = always 3
	Name     func(ring.NodeID) string // for people; nil = the id
	Logger   *slog.Logger             // nil = discarded
	Rand     *rand.Rand               // owned by the Repairer from then on; nil = seeded by the runtime
	Now      func() time.Time         // the wall clock, for hybrid times; nil = time.Now
	// Pressure is how much slower client requests are than usual, 1 = as usual: background work waits as it grows. nil = always 1.
	Pressure func() float64

	Interval    time.Duration // between two exchanges with the same node; 10 s
	VerifyCycle time.Duration // in which everything on disk is verified once, at least; 24 h
	PurgeEvery  time.Duration // between two rounds of collection of the same partition; 30 s

	NoExchange bool // no exchange unless Repair asks for it
	NoHints    bool // hints are kept and not delivered
	NoPurge    bool // tombstones are kept for ever
	NoVerify   bool // no verification, but of partitions in which an exchange has met a wrong leaf
}

func (c *Config) validate() error {
	if c.Store == nil || c.Peers == nil || c.Membership == nil {
		return errors.New("anti-entropy needs a store, peers and a membership")
	}
	if c.Name == nil {
		c.Name = func(id ring.NodeID) string { return string(id) }
	}
	if c.Replicas == nil {
		c.Replicas = func(string) int { return 3 }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Pressure == nil {
		c.Pressure = func() float64 { return 1 }
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{{&c.Interval, 10 * time.Second}, {&c.VerifyCycle, 24 * time.Hour}, {&c.PurgeEvery, 30 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return nil
}
