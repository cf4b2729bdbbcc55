package faults

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
)

// atOnce is how long a strict request may take that cannot succeed, where its node knows that.
const atOnce = 100 * time.Millisecond

// halves is five nodes of which two are about to be away, and keys that these two own together with one of the others.
type halves struct {
	*cluster
	away, rest []*proc.Process
	keys       []string
}

func newHalves(c *cluster) *halves {
	c.repairing("hints") // what heals is what stand-ins and owners have kept
	c.start()
	h := &halves{cluster: c, away: c.nodes[3:], rest: c.nodes[:3]}
	h.keys = h.owned("key", 30, h.away...)
	return h
}

// noticed waits until the others have declared the two dead that are away: until then they may only be slow.
func (h *halves) noticed() {
	h.t.Helper()
	h.dead(h.away, h.rest)
}

// strictRefused fails the test unless every strict write and read of a key is refused, for certain and at once.
func (h *halves) strictRefused() {
	h.t.Helper()
	var took []time.Duration
	for i, key := range h.keys {
		one := h.through(h.rest[i%len(h.rest)])
		began := time.Now()
		_, err := one.Put(h.t.Context(), loadBucket, key, []byte("strict"), client.Options{W: "quorum", Sloppy: "false"})
		took = append(took, time.Since(began))
		if p := h.problemOf(err); p.Status != http.StatusServiceUnavailable || p.Code != client.CodeQuorumUnavailable || p.Outcome != "not_applied" {
			h.t.Errorf("strict write of %s: %v, want 503, not applied", key, err)
		}
		_, err = one.Get(h.t.Context(), loadBucket, key, client.Options{R: "quorum", Sloppy: "false"})
		if p := h.problemOf(err); p.Status != http.StatusServiceUnavailable {
			h.t.Errorf("strict read of %s: %v, want 503", key, err)
		}
	}
	slices.Sort(took)
	h.t.Logf("strict writes refused in %v (median), %v (slowest)", took[len(took)/2].Round(time.Microsecond), took[len(took)-1].Round(time.Microsecond))
	if got := took[len(took)/2]; got > atOnce {
		h.t.Errorf("a strict write that cannot succeed is refused after %v, want at most %v", got, atOnce)
	}
}

// sloppyTaken fails the test unless every sloppy write is taken with the help of stand-ins, its receipt says so, and a sloppy read
// through another node shows it.
func (h *halves) sloppyTaken(value string) {
	h.t.Helper()
	for i, key := range h.keys {
		written := h.put(h.through(h.rest[i%len(h.rest)]), key, value, client.Options{W: "quorum", Sloppy: "true", FullReceipt: true})
		roles := map[string]int{}
		for _, r := range written.Receipt.Replicas {
			if r.OK {
				roles[r.Role]++
			}
		}
		if r := written.Receipt; r.Standins < 1 || r.Acked < 2 || roles["standin"] < 1 || roles["owner"] < 1 {
			h.t.Errorf("sloppy write of %s: %+v, want an owner and a stand-in at least", key, r)
		}
		object, err := h.through(h.rest[(i+1)%len(h.rest)]).Get(h.t.Context(), loadBucket, key, client.Options{R: "quorum", Sloppy: "true"})
		if err != nil || len(object.Values) != 1 || string(object.Values[0].Data) != value || object.Receipt.Standins < 1 {
			h.t.Errorf("sloppy read of %s: %+v, %v; want %q with the help of a stand-in", key, object, err, value)
		}
	}
}

// F18: two of three owners are killed. Strict requests are refused, sloppy ones taken. Back again, the owners get it from those who kept
// it, without any read, and every strict read shows it.
func TestSloppyWhileTwoOwnersAreDown(t *testing.T) {
	long(t)
	h := newHalves(loopback(t, 5))
	gone := h.owned("gone", 10, h.away...)
	for _, key := range gone {
		h.put(h.through(h.rest[0]), key, key, client.Options{W: "all"})
	}
	h.kill(h.away...)
	h.noticed()
	h.strictRefused()
	h.sloppyTaken("sloppy")
	for _, key := range gone {
		h.remove(h.through(h.rest[1]), key, client.Options{Sloppy: "true"})
	}
	h.restart(h.away...)
	h.whole(readyTime)
	t.Logf("delivered %v after the two are back", h.delivered(repairTime).Round(time.Millisecond))
	h.everywhere(h.keys, 1)
	h.equal(repairTime)
	h.holds(h.keys, "sloppy")
	h.absent(gone)
}

// F9, F18: the two are cut off together, so that they are a majority of the owners of these keys, on the smaller side of the split. Strict
// writes succeed there and are refused on the larger side, which takes sloppy ones. After the split both versions are there, as siblings.
func TestSloppyWhileTwoOwnersAreCutOff(t *testing.T) {
	long(t)
	n, c := namespaces(t, 5)
	h := newHalves(c)
	n.cut(h.away, h.rest)
	h.noticed()
	h.dead(h.rest, h.away) // hints are left for those that are known to be down, not for those that may be slow
	h.strictRefused()
	h.sloppyTaken("sloppy")
	one := h.through(h.away[0])
	for _, key := range h.keys {
		h.put(one, key, "strict", client.Options{W: "quorum", Sloppy: "false"})
	}
	n.heal()
	h.whole(time.Minute)
	t.Logf("delivered %v after the split", h.delivered(repairTime).Round(time.Millisecond))
	h.everywhere(h.keys, 2)
	h.equal(repairTime)
	for i, key := range h.keys {
		object, err := h.through(h.nodes[i%len(h.nodes)]).Get(t.Context(), loadBucket, key, client.Options{R: "quorum", Sloppy: "false"})
		if err != nil || len(object.Values) != 2 {
			t.Errorf("%s: %+v, %v; want both versions", key, object, err)
		}
	}
}
