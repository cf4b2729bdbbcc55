package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rondodb/rondo/internal/client"
)

// Verdicts on a cluster.
const (
	healthy     = "healthy"     // every member is up
	degraded    = "degraded"    // some are not, and quorums go on
	unavailable = "unavailable" // quorums fail for some keys
	unformed    = "unformed"    // there is no ring yet
)

// defaultReplicas is n of a bucket without settings: what verdicts are computed for.
const defaultReplicas = 3

// verdict is what the state of the members means for the keys.
type verdict struct {
	State     string
	Sentence  string
	Up, Count int      // members that are alive, and all
	Down      []string // names of those that are not
	Replicas  int      // of a key, in a bucket with the default n
	Failures  int      // members that may fail, whichever they are, before a quorum fails; -1 = one fails already
	Lost      float64  // share of the partitions whose quorum fails now
	NextLost  float64  // the same after the worst failure of one more member
	NextNode  string   // that member
}

// judge computes a verdict from the members and the owners of the partitions, for buckets with the default n and quorums.
func judge(cluster *client.Cluster, ring *client.Ring) verdict {
	var v verdict
	alive := map[string]bool{}
	suspects := 0
	for _, m := range cluster.Members {
		if m.State != "member" && m.State != "leaving" {
			continue
		}
		v.Count++
		if m.Health == "dead" || m.Health == "suspect" {
			v.Down = append(v.Down, m.Name)
			if m.Health == "suspect" {
				suspects++
			}
			continue
		}
		v.Up++
		alive[m.Name], alive[m.ID] = true, true
	}
	if ring == nil || cluster.Ring == 0 || len(ring.Partitions) == 0 || v.Count == 0 {
		v.State = unformed
		v.Sentence = "Not ready: no ring has formed yet; a fresh cluster needs as many nodes as --expect says, and they must reach each other."
		return v
	}
	v.count(ring, alive)
	v.say(suspects)
	return v
}

// count works out which quorums hold, and which the next failure would end.
func (v *verdict) count(ring *client.Ring, alive map[string]bool) {
	v.Replicas = min(defaultReplicas, v.Count)
	quorum := v.Replicas/2 + 1
	v.Failures = math.MaxInt
	lost := 0
	next := map[string]int{}
	for _, p := range ring.Partitions {
		var up []string
		for _, o := range p.Owners[:min(v.Replicas, len(p.Owners))] {
			if alive[o] {
				up = append(up, o)
			}
		}
		spare := len(up) - quorum
		v.Failures = min(v.Failures, max(spare, -1))
		switch {
		case spare < 0:
			lost++
		case spare == 0:
			for _, o := range up {
				next[o]++
			}
		}
	}
	total := float64(len(ring.Partitions))
	v.Lost = float64(lost) / total
	v.NextLost = v.Lost
	names := make([]string, 0, len(next))
	for name := range next {
		names = append(names, name)
	}
	slices.Sort(names)
	worst := 0
	for _, name := range names {
		if next[name] > worst {
			worst, v.NextNode = next[name], name
		}
	}
	v.NextLost = float64(lost+worst) / total
}

// say puts the verdict into a sentence.
func (v *verdict) say(suspects int) {
	what := "quorum reads and writes"
	switch {
	case v.Lost > 0:
		v.State = unavailable
		v.Sentence = fmt.Sprintf("Unavailable: %s fail for %s: %s; bring %s back.", what, share(v.Lost), downText(v.Down, suspects), map[bool]string{true: "it", false: "one of them"}[len(v.Down) == 1])
	case len(v.Down) == 0:
		v.State = healthy
		v.Sentence = fmt.Sprintf("Healthy: %d of %d nodes up, every key has %s; %s.", v.Up, v.Count, plural(v.Replicas, "replica"), v.mayFail())
	default:
		v.State = degraded
		v.Sentence = fmt.Sprintf("Degraded: %s; %s go on; %s.", downText(v.Down, suspects), what, v.oneMore(what))
	}
}

// mayFail says how much the cluster can lose.
func (v *verdict) mayFail() string {
	switch v.Failures {
	case 0:
		if v.Count == 1 {
			return "losing it stops everything, for it is the only one"
		}
		return fmt.Sprintf("none may fail: losing one stops quorum reads and writes for %s", share(v.NextLost))
	case 1:
		return "any one node can fail"
	}
	return fmt.Sprintf("any %d nodes can fail", v.Failures)
}

// oneMore says what the next failure does.
func (v *verdict) oneMore(what string) string {
	if v.NextLost == 0 {
		return "any one more node can fail"
	}
	return fmt.Sprintf("one more failure stops %s for %s%s", what, upTo(v.NextLost), share(v.NextLost))
}

func upTo(share float64) string {
	if share < 1 {
		return "up to "
	}
	return ""
}

// downText names the members that are not up.
func downText(names []string, suspects int) string {
	be := "is"
	if len(names) != 1 {
		be = "are"
	}
	state := "down"
	switch suspects {
	case 0:
	case len(names):
		state = "not answering"
	default:
		state = "down or not answering"
	}
	return fmt.Sprintf("%s %s %s", andList(names), be, state)
}

// share is a part of the keys in words.
func share(f float64) string {
	switch {
	case f > 0.995:
		return "all keys"
	case f < 0.005:
		return "under 1 % of the keys"
	}
	for _, d := range []float64{2, 3, 4, 5} {
		n := math.Round(f * d)
		if n > 0 && n < d && math.Abs(f-n/d) < 0.02 {
			return strings.Replace(fmt.Sprintf("about %.0f/%.0f of the keys", n, d), "1/2", "half", 1)
		}
	}
	return fmt.Sprintf("about %.0f %% of the keys", 100*f)
}
