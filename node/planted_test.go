//go:build planted

package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/rondodb/rondo/internal/plant"
)

// plantedSeeds is how many seeds may pass before a planted bug must have been found.
const plantedSeeds = 200

// plantedElsewhere are the bugs that the simulation's clients cannot meet, with the test that finds each.
var plantedElsewhere = map[plant.Bug]string{
	plant.CorruptIsMissing: "storage: the store notices rot in many places, and opens itself again before clients meet it",
	plant.ForeignPeer:      "peer: there is one cluster",
	plant.VoteNotKept:      "gossip: the ring is there before the faults begin",
	plant.ListingSkips:     "quorum: the clients list nothing",
	plant.WallClockOnly:    "quorum: no bucket of the last writer",
	plant.BadContextIsNone: "httpapi: the clients send back the contexts that they got",
	plant.LateReply:        "peer: an answer that late for a slot that is taken again is rare, and seeds find it only now and then",
	plant.FsyncRetried:     "storage: needs a power cut right after the failed fsync",

	plant.HintForFormerOwner:    "antientropy: the ring does not change",
	plant.ExchangeStopsAtDamage: "antientropy: a damaged store opens itself again, so that few exchanges meet damage",
	plant.CounterFloorLost:      "storage: needs an old tombstone that turns up after the key was collected and written anew",
}

// plantedScripts are scenarios of testdata that show a bug at once, where seeds would not.
var plantedScripts = map[plant.Bug]string{
	plant.RejoinOff:     "split-ten-minutes",
	plant.ReusedDot:     "lost-counter",
	plant.AmnesiacVotes: "lost-disk",
	plant.UnsyncedVotes: "lost-disk",
	plant.RepairOff:     "read-then-lost",

	plant.HintDropEarly:         "hints-cut-off",
	plant.StandinsCountAsOwners: "sloppy-two-of-three-cut",
	plant.TreeNotUpdated:        "merkle-only",
	plant.CollectTooEarly:       "away-longer-than-everything",
	plant.WatermarkIgnored:      "restore-old-disk",
	plant.ExpiryIgnoredByReads:  "ttl-expires-everywhere",
	plant.FullDiskAccepts:       "full-disk-recovers",
}

// TestPlantedBugs: the tests are tested. Each bug is found within 200 seeds, or by its script.
func TestPlantedBugs(t *testing.T) {
	for _, bug := range plant.All() {
		t.Run(bug.String(), func(t *testing.T) {
			if where, elsewhere := plantedElsewhere[bug]; elsewhere {
				t.Skip("found in " + where)
			}
			plant.Set(bug)
			defer plant.Clear()
			began := time.Now()
			if name := plantedScripts[bug]; name != "" {
				if got, want, r := playFile(t, "testdata/"+name+".txt"); got == want && r.failure() == "" {
					t.Fatalf("%s does not show it", name)
				}
				t.Logf("found by %s in %v", name, time.Since(began).Round(time.Millisecond))
				return
			}
			var reached int64
			for seed := range uint64(plantedSeeds) {
				r := play(t, seed+1, simPlan(seed+1))
				reached = plant.Reached()
				if r.failure() != "" { // also where no checker says it: the same seeds end well without the bug
					t.Logf("found by seed %d in %v: %s", seed+1, time.Since(began).Round(time.Millisecond), firstViolation(r))
					return
				}
			}
			t.Errorf("not found in %d seeds, though its place was come by %d times", plantedSeeds, reached)
		})
	}
}

// TestPlantedNone: with the tag and no bug the simulation finds nothing, so that what it finds above is the bug.
func TestPlantedNone(t *testing.T) {
	for seed := range uint64(10) {
		if r := play(t, seed+1, simPlan(seed+1)); r.failure() != "" {
			t.Fatalf("seed %d: %s", seed+1, firstViolation(r))
		}
	}
}

func firstViolation(r *simRun) string {
	if r.result != nil && len(r.result.Report.Violations) > 0 {
		v := r.result.Report.Violations[0]
		return fmt.Sprintf("%s: %s", v.Rule, v.Detail)
	}
	return r.failure()
}
