//go:build planted

package peer

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
)

// The answer to a call that was taken back comes when the next call waits. It must not be taken for that one's.
func TestPlantedLateReply(t *testing.T) {
	planttest.Catches(t, plant.LateReply, func(t *testing.T) error {
		first := make(chan uint64, 1)
		dial, _ := raw(t, func(nc net.Conn, frames *frameReader) {
			for old := uint64(0); ; {
				f, err := frames.next()
				if err != nil {
					return
				}
				if old == 0 {
					old = f.id
					first <- old
					continue
				}
				if _, err := nc.Write(append(reply(f.op, old, "to the first"), reply(f.op, f.id, "to the second")...)); err != nil {
					return
				}
			}
		})
		client := openClient(t, "b", func(c *Config) { c.Dial = dial })
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-first; cancel() }()
		if _, err := client.Call(ctx, idB, 1, OpForm, nil); err == nil {
			t.Fatal("the first call was answered")
		}
		got, err := client.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "to the second" {
			return fmt.Errorf("the second call was given the answer %q", got)
		}
		return nil
	})
}

// Two clusters of one name do not talk to each other.
func TestPlantedForeignPeer(t *testing.T) {
	planttest.Catches(t, plant.ForeignPeer, func(t *testing.T) error {
		server := openServer(t, &handler{}, func(c *Config) { c.ClusterID = func() string { return "two" } })
		client := openClient(t, server.Addr().String(), func(c *Config) { c.ClusterID = func() string { return "one" } })
		_, err := client.Call(within(t, 10*time.Second), idB, 1, OpForm, nil)
		if err == nil {
			return fmt.Errorf("a node of cluster %q has answered one of cluster %q", "two", "one")
		}
		failed(t, err, OutcomeUnreachable, true)
		return nil
	})
}
