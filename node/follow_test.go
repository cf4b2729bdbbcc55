package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Nodes are connected to each other before anybody asks for anything; and whoever connects under an id that gossip has never heard of
// leaves nothing behind, however many ids it makes up.
func TestGreetings(t *testing.T) {
	c := three(t)
	for name, n := range c.nodes {
		c.await(10*time.Second, name+" is connected to both others", func() bool {
			connected := 0
			for _, s := range n.current().client.Stats() {
				if s.Connected {
					connected++
				}
			}
			return connected == 2
		})
		for i := range 1000 {
			n.current().met(ring.NodeID(fmt.Sprintf("%032x", i+1)))
		}
		if got := len(n.current().client.Stats()); got != 2 {
			t.Errorf("%s keeps %d peers after 1000 strangers, want 2", name, got)
		}
	}
}
