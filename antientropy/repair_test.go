package antientropy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/ring"
)

func TestRepairTellsHowItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, func(c *Config) { c.NoExchange = true })
		a := ships[0]
		everywhere(t, ships, 500)
		for i := range 50 {
			a.write(testKey(i), "changed")
		}
		ships[2].write(testKey(499), "changed on n3")
		a.sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			return 1500 * time.Millisecond, false, nil
		}
		var lines []Progress
		if err := a.Repair(t.Context(), -1, func(p Progress) { lines = append(lines, p) }); err != nil {
			t.Fatal(err)
		}
		last := lines[len(lines)-1]
		if !last.Done || !last.OK || last.Error != "" || last.Partitions != 192 || last.Total != 192 || last.Different == 0 || last.Sent != 101 || last.Received != 102 || last.Bytes == 0 || last.Read < 100 {
			t.Errorf("last: %+v", last)
		}
		before := Progress{}
		for i, p := range lines {
			if p.Seconds-before.Seconds > 1.01 {
				t.Errorf("nothing was told between second %.1f and %.1f", before.Seconds, p.Seconds)
			}
			if p.Partitions < before.Partitions || p.Sent < before.Sent || p.Total < before.Total || p.Done != (i == len(lines)-1) || p.Peer == "" && !p.Done {
				t.Errorf("line %d: %+v after %+v", i, p, before)
			}
			before = p
		}
		a.sea.fault = nil
		lines = nil
		if err := a.Repair(t.Context(), -1, func(p Progress) { lines = append(lines, p) }); err != nil {
			t.Fatal(err)
		}
		if last := lines[len(lines)-1]; len(lines) != 3 || !last.OK || last.Different != 0 || last.Sent+last.Received != 0 {
			t.Errorf("once more: %+v", lines)
		}
		sameEverywhere(t, ships...) // also what only the last node had
	})
}

// One partition, whatever else differs; also where only the other side holds anything.
func TestRepairOfOnePartition(t *testing.T) {
	ships := fleet(t, 16, 3, nil)
	a, b := ships[0], ships[1]
	for i := range 300 {
		b.write(testKey(i), "only on b")
	}
	if err := a.Repair(t.Context(), 5, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	for k, o := range b.store.dump() {
		if got, want := a.store.dump()[k] == o, a.store.class(k).Partition == 5; got != want {
			t.Fatalf("partition %d repaired: %v, want %v", a.store.class(k).Partition, got, want)
		}
	}
}

func TestRepairGoesOnWithoutADeadNode(t *testing.T) {
	ships := fleet(t, 16, 3, nil)
	a := ships[0]
	a.write(testKey(1), "x")
	ships[1].dead.Store(true)
	var lines []Progress
	if err := a.Repair(t.Context(), -1, func(p Progress) { lines = append(lines, p) }); err != nil {
		t.Fatal(err)
	}
	if last := lines[len(lines)-1]; !last.Done || last.OK || last.Sent != 1 {
		t.Errorf("last: %+v", last)
	}
	if first := lines[0]; first.Peer != "n2" || !strings.Contains(first.Error, "alive") {
		t.Errorf("first: %+v", first)
	}
}

func TestRepairTellsOfDamage(t *testing.T) {
	ships := fleet(t, 16, 3, nil)
	a := ships[0]
	a.write(testKey(1), "x")
	ships[1].store.damaged[testKey(1)] = true
	var lines []Progress
	if err := a.Repair(t.Context(), -1, func(p Progress) { lines = append(lines, p) }); err != nil {
		t.Fatal(err)
	}
	if last := lines[len(lines)-1]; last.OK || !strings.Contains(lines[0].Error, errDamaged.Error()) {
		t.Errorf("got %+v", lines)
	}
}

func TestRepairThatCannotBegin(t *testing.T) {
	ships := fleet(t, 16, 3, nil)
	a := ships[0]
	never := func(p Progress) { t.Errorf("told %+v", p) }
	if err := a.Repair(t.Context(), 16, never); err == nil {
		t.Error("there is no such partition")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Repair(ctx, -1, func(Progress) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	a.layout.Store(nil)
	if err := a.Repair(t.Context(), -1, never); err == nil {
		t.Error("there is no ring")
	}
}

// Several at once, and the loop beside them: all of them end, and are right.
func TestRepairsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, nil)
		for i := range 600 {
			ships[i%3].write(testKey(i), "x")
		}
		ships[0].sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) {
			return 50 * time.Millisecond, false, nil
		}
		stop := run(t, ships...)
		defer stop()
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				ok := false
				if err := ships[i%3].Repair(t.Context(), -1, func(p Progress) { ok = p.OK }); err != nil || !ok {
					t.Errorf("%v, ok %v", err, ok)
				}
			})
		}
		all.Wait()
		sameEverywhere(t, ships...)
	})
}

// Who stops to listen stops the repair, and nothing is left behind.
func TestRepairEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ships := fleet(t, 64, 3, nil)
		ships[0].write(testKey(1), "x")
		ships[0].sea.fault = func(ring.NodeID, ring.NodeID, []byte) (time.Duration, bool, error) { return time.Second, false, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := ships[0].Repair(ctx, -1, func(Progress) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 2500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
