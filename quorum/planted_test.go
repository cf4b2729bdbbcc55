//go:build planted

package quorum

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Random histories with crashes and a bad network find the bugs of the coordinator, and what those of vclock do to it, each by
// the promise that it breaks.
func TestPlantedHistories(t *testing.T) {
	for b, broken := range map[plant.Bug]string{
		plant.ShortQuorumWrite:   "missed: ",
		plant.ShortQuorumRead:    "missed: ",
		plant.StaleDigest:        "missed: ",
		plant.RepairOff:          "back in time: ",
		plant.SessionIgnored:     "session read of ",
		plant.FailureDishonest:   "dishonest: ",
		plant.WideToken:          "lost: ",
		plant.FlattenedContext:   "lost: ",
		plant.LWWTieBreak:        "lost: ",
		plant.MergeNotIdempotent: "beside writes that replaced them",
	} {
		planttest.Catches(t, b, func(t *testing.T) error {
			for seed := range uint64(100) {
				_, _, err := storm{nodes: 3 + int(seed%3), clients: 4, keys: 1, ops: 25}.run(t, seed)
				if err != nil && (plant.Reached() == 0 || strings.Contains(err.Error(), broken)) {
					return fmt.Errorf("seed %d: %w", seed, err)
				}
			}
			return nil
		})
	}
}

// Three nodes whose clocks differ write one key of a bucket where the last writer wins. The second write replaced the first,
// which is later than the third: so the second must win over the third, in whatever order replicas hear of them.
func TestPlantedWallClock(t *testing.T) {
	planttest.Catches(t, plant.WallClockOnly, func(t *testing.T) error {
		write := func(actor vclock.Actor, ahead time.Duration, value string, old vclock.Object, o WriteOptions) vclock.Object {
			now := func() time.Time { return time.Unix(1e9, 0).Add(ahead) }
			m := &mint{actor: actor, clock: &hybridClock{}, now: now, value: text(value), options: o, lww: true}
			out, err := m.apply(old, 0)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		join := func(a, b vclock.Object) vclock.Object { return vclock.Merge(a, b).LastWriter() }
		first := write(1, 30*time.Second, "first", vclock.Object{}, WriteOptions{})
		seen := first.Context()
		second := write(2, 0, "second", first, WriteOptions{Context: &seen})
		third := write(3, 10*time.Second, "third", vclock.Object{}, WriteOptions{Fresh: true})
		for _, got := range []vclock.Object{join(second, third), join(join(first, third), second), join(join(first, third), join(second, third))} {
			if !slices.Equal(values(got), []string{"second"}) {
				return fmt.Errorf("the last writer is %q, want %q", values(got), "second")
			}
		}
		return nil
	})
}

// Stand-ins that count for strict writes are found by strict reads that miss what was acknowledged.
func TestPlantedStandins(t *testing.T) {
	planttest.Catches(t, plant.StandinsCountAsOwners, func(t *testing.T) error {
		for seed := range uint64(300) {
			_, _, err := storm{nodes: 4 + int(seed%3), clients: 4, keys: 1, ops: 25, sloppy: true}.run(t, seed)
			if err != nil && (plant.Reached() == 0 || strings.Contains(err.Error(), "missed: ")) {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
		}
		return nil
	})
}

// A value is not shown once its time has come.
func TestPlantedExpiry(t *testing.T) {
	planttest.Catches(t, plant.ExpiryIgnoredByReads, func(t *testing.T) error {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		o, _ := vclock.Object{}.Put(1, vclock.Clock{}, vclock.Sibling{Time: 1, Expiry: 2, Value: []byte("v")})
		for _, n := range c.owners(key) {
			mustMerge(t, n, key, o)
		}
		got, err := c.owners(key)[0].coordinator.Get(t.Context(), key, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v := values(got.Object); len(v) > 0 {
			return fmt.Errorf("shows %q, which has expired", v)
		}
		return nil
	})
}

// Replicas that have lost data and not resynced do not make up a quorum that has not seen an acknowledged write.
func TestPlantedUnsyncedVotes(t *testing.T) {
	planttest.Catches(t, plant.UnsyncedVotes, func(t *testing.T) error {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		held(t, key, nodes, "a", "a", "")
		c.hush(true, nodes[2])
		c.away(true, nodes[0])
		got, err := nodes[2].coordinator.Get(t.Context(), key, ReadOptions{R: 1})
		if err != nil {
			t.Fatal(err)
		}
		if v := values(got.Object); !slices.Equal(v, values(sample("a"))) {
			return fmt.Errorf("read %q, want %q", v, values(sample("a")))
		}
		return nil
	})
}

// A replica whose disk is full takes no client's write, whoever coordinates it.
func TestPlantedFullDisk(t *testing.T) {
	planttest.Catches(t, plant.FullDiskAccepts, func(t *testing.T) error {
		c := newCluster(t, 3)
		defer c.close()
		key := ring.NewKey("b", "k")
		nodes := c.owners(key)
		nodes[2].store.fullErr = errors.New("full")
		for _, by := range nodes {
			if _, err := by.coordinator.Put(t.Context(), key, text("v"), WriteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if !nodes[2].store.object(key).Empty() {
			return errors.New("the full disk took a write")
		}
		return nil
	})
}

// A walk names every key that was there all the time, whatever the size of its pages.
func TestPlantedListing(t *testing.T) {
	planttest.Catches(t, plant.ListingSkips, func(t *testing.T) error {
		c := newCluster(t, 4)
		defer c.close()
		var want []string
		for i := range 100 {
			key := ring.NewKey("b", fmt.Sprint(i))
			held(t, key, c.owners(key)[:3], "a", "a", "a")
			want = append(want, key.Name)
		}
		slices.Sort(want)
		var bad []error
		for _, limit := range []int{1, 7, 1000} {
			got, _ := walkAll(t, func() *memNode { return c.nodes[c.ids[0]] }, "b", ListOptions{Limit: limit}, func() {})
			slices.Sort(got)
			if !slices.Equal(got, want) {
				bad = append(bad, fmt.Errorf("pages of %d keys: %d keys, want %d", limit, len(got), len(want)))
			}
		}
		return errors.Join(bad...)
	})
}
