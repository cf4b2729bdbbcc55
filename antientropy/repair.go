package antientropy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rondodb/rondo/ring"
)

// Progress is one step of Repair, for people and as JSON.
type Progress struct {
	Peer       string  `json:"peer,omitempty"`   // node name
	Partitions int     `json:"partitions"`       // compared so far
	Total      int     `json:"total"`            // to be compared
	Different  int     `json:"different"`        // of the compared ones
	Sent       int64   `json:"objects_sent"`     // objects
	Received   int64   `json:"objects_received"` // objects
	Read       int64   `json:"objects_read"`     // listed from the local store on the way
	Bytes      int64   `json:"bytes"`            // both ways, messages of this exchange
	Seconds    float64 `json:"seconds"`          // since the start
	Error      string  `json:"error,omitempty"`  // what could not be done; the rest goes on
	Done       bool    `json:"done,omitempty"`   // last line
	OK         bool    `json:"ok,omitempty"`     // last line: everything is equal now, or was already
}

// Repair exchanges one partition, or all that this node owns where partition is negative, with every other owner now, and tells how it
// goes: each second, and at the end of each exchange; the figures are sums over all of them. What came from one node goes on to those
// before it in a second exchange. It fails only where nothing could be begun, or ctx ends; what goes wrong on the way is told by
// progress, which is called from one goroutine, this one. Several at once wait for each other, node by node.
func (r *Repairer) Repair(ctx context.Context, partition int, progress func(Progress)) error {
	l := r.config.Membership.Layout()
	if l == nil {
		return errors.New("repair: no ring is known yet")
	}
	first, end := 0, l.Partitions()
	if partition >= 0 {
		if partition >= end {
			return fmt.Errorf("repair: there is no partition %d, the ring has %d", partition, end)
		}
		first, end = partition, partition+1
	}
	w := &repair{Repairer: r, began: time.Now(), ok: true}
	self := r.config.Membership.Self()
	for _, id := range peersOf(l, self, first, end) {
		c := course{peer: id}
		if partition >= 0 {
			for n := 1; n <= maxReplicas; n++ {
				if class := (ring.Class{Partition: partition, N: n}); shared(l, class, self, id) {
					c.classes = append(c.classes, class)
				}
			}
			c.Total = len(c.classes)
		} else {
			c.Total = len(r.listed(l, id, 0, end))
		}
		w.courses = append(w.courses, c)
	}
	ended := make(chan Progress)
	go func() {
		defer close(ended)
		peers, late := len(w.courses), 0 // nodes before this one have not got what was received later
		for i := 0; i < peers+late; i++ {
			if i >= peers { // once more
				w.again(i - peers)
			}
			line := w.run(ctx, i)
			if i < peers && w.courses[i].Received > 0 {
				late = i
			}
			select {
			case ended <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case line, more := <-ended:
			if more {
				progress(line)
				continue
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("repair: %w", err)
			}
			last := w.now("")
			last.Done, last.OK = true, w.ok
			progress(last)
			return nil
		case <-tick.C:
			progress(w.now(""))
		}
	}
}

// repair is one Repair under way.
type repair struct {
	*Repairer
	began time.Time

	mu      sync.Mutex
	courses []course
	at      int // the course under way
	ok      bool
}

// course is the exchange with one other node; before it begins, Total is what is to be expected.
type course struct {
	peer    ring.NodeID
	classes []ring.Class // nil = all
	exchangeStep
}

var errNotAlive = errors.New("it is not alive as this node sees it")

// again plans one more exchange like one before.
func (w *repair) again(at int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.courses[at]
	c.exchangeStep = exchangeStep{Total: c.Total}
	w.courses = append(w.courses, c)
}

// run exchanges with one node, and tells what came of it.
func (w *repair) run(ctx context.Context, at int) Progress {
	w.mu.Lock()
	w.at = at
	c := w.courses[at]
	w.mu.Unlock()
	follow := func(s exchangeStep) {
		w.mu.Lock()
		w.courses[at].exchangeStep = s
		w.mu.Unlock()
	}
	var result exchangeResult
	err := errNotAlive
	if w.config.Membership.Alive(c.peer) {
		result, err = w.exchangeWith(ctx, c.peer, c.classes, follow)
		follow(result.exchangeStep)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	for _, class := range result.Classes {
		if !class.Equal && text == "" {
			text = fmt.Sprintf("partition %d (n=%d): %s", class.Class.Partition, class.Class.N, class.Error)
		}
	}
	if text != "" {
		w.mu.Lock()
		w.ok = false
		w.mu.Unlock()
	}
	return w.now(text)
}

// now is how far it has come.
func (w *repair) now(err string) Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Progress{Seconds: time.Since(w.began).Seconds(), Error: err}
	for _, c := range w.courses {
		p.Partitions += c.Compared
		p.Total += c.Total
		p.Different += c.Different
		p.Sent += c.Sent
		p.Received += c.Received
		p.Read += c.Read
		p.Bytes += c.Bytes
	}
	if w.at < len(w.courses) {
		p.Peer = w.config.Name(w.courses[w.at].peer)
	}
	return p
}
