package antientropy

import (
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// debts is which classes were equal with whom, and when.
type debts struct {
	mu    sync.Mutex
	known map[ring.Class]map[ring.NodeID]debt
	void  map[int]uint64 // by partition: what exchanges have found that began before this does not hold
}

// debt is what is known of one class and one other owner.
type debt struct {
	equal time.Time // when the last exchange began after which they were equal
	seq   uint64    // of that exchange; 0 = none
	err   string    // of the last one
}

// note keeps what an exchange has found, and takes it back where trees have turned out to be wrong since it began.
func (d *debts) note(peer ring.NodeID, seq uint64, result *exchangeResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[ring.Class]map[ring.NodeID]debt)
	}
	for i := range result.Classes {
		c := &result.Classes[i]
		if c.Equal && seq < d.void[c.Class.Partition] {
			c.Equal, c.Error = false, "its tree was wrong when it was compared"
		}
		of := d.known[c.Class]
		if of == nil {
			of = make(map[ring.NodeID]debt)
			d.known[c.Class] = of
		}
		now := of[peer]
		if c.Equal {
			now = debt{equal: result.Began, seq: seq}
		} else {
			now.err = c.Error
		}
		of[peer] = now
	}
}

// of is what is known of one class and one other owner.
func (d *debts) of(c ring.Class, peer ring.NodeID) debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[c][peer]
}

// forget takes back that the classes of a partition were equal, as of the sequence number.
func (d *debts) forget(partition int, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.void == nil {
		d.void = make(map[int]uint64)
	}
	d.void[partition] = seq
	for n := 1; n <= maxReplicas; n++ {
		delete(d.known, ring.Class{Partition: partition, N: n})
	}
}
