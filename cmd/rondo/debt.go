package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/internal/client"
)

// statuses asks nodes about themselves; with their partitions where merkle is set.
func (s *session) statuses(ctx context.Context, nodes []askedNode, merkle bool) []told[*client.NodeStatus] {
	answers, _ := askEach(ctx, s, nodes, func(ctx context.Context, c *client.Client) (*client.NodeStatus, error) { return c.Status(ctx, merkle) })
	return answers // failures are part of the answers
}

// debtTable is what each node still has to mend, and the space it has.
func debtTable(answers []told[*client.NodeStatus]) string {
	var rows [][]string
	for _, t := range answers {
		if t.err != nil {
			rows = append(rows, []string{t.name, "-", "-", "-", "-", "-", "-"})
			continue
		}
		a := t.answer
		equal := "-"
		if a.Repair.OldestEqualS > 0 {
			equal = ageText(a.Repair.OldestEqualS, true) + " ago"
		}
		hints := 0
		for _, h := range a.Hints {
			hints += h.Count
		}
		disk := "-"
		if a.Disk.TotalBytes > 0 {
			disk = fmt.Sprintf("%s of %s", bytesText(a.Disk.FreeBytes), bytesText(a.Disk.TotalBytes))
		}
		rows = append(rows, []string{
			t.name, equal, countText(a.Repair.NeverEqual), countText(a.Repair.Unsynced), countText(hints), countText(a.Tombstones.Waiting), disk,
		})
	}
	return table([]string{"NODE", "ALL EQUAL", "NOT YET EQUAL", "NO VOTES", "HINTS", "TOMBSTONES", "DISK FREE"}, rows)
}

// debtNotes is a line for each thing that somebody should know or do something about.
func debtNotes(answers []told[*client.NodeStatus]) string {
	var text strings.Builder
	for _, t := range answers {
		if t.err != nil {
			continue // failuresText says it
		}
		a, name := t.answer, shown(t.name)
		if !a.Ready && a.Reason != "" {
			fmt.Fprintf(&text, "%s is not ready: %s\n", name, a.Reason)
		}
		if a.Disk.Full {
			fmt.Fprintf(&text, "%s refuses writes: its disk is full but for a reserve of %s. Free space on it.\n", name, bytesText(a.Disk.ReserveBytes))
		}
		if a.Repair.Unsynced > 0 {
			fmt.Fprintf(&text, "%s lost data, or has an old copy of them: it casts no read votes for %s until it has synced with all other owners.\n", name, plural(a.Repair.Unsynced, "partition"))
		}
		if a.Repair.DamagedObjects > 0 {
			fmt.Fprintf(&text, "%s has found %s since its start: look at its disk.\n", name, plural(int(a.Repair.DamagedObjects), "damaged object"))
		}
		for _, h := range a.Hints {
			if h.Count > 0 && h.Error != "" {
				fmt.Fprintf(&text, "%s keeps %s for %s: %s.\n", name, plural(h.Count, "hint"), shown(h.Target), h.Error)
			}
		}
		if a.Tombstones.Blocker != "" {
			fmt.Fprintf(&text, "%s cannot collect %s: %s.\n", name, plural(int(a.Tombstones.Waiting), "tombstone"), a.Tombstones.Blocker)
		}
	}
	return text.String() + failuresText(answers)
}

// partitionDebts lists the partitions of nodes, with how long ago each was equal with which other owner.
func partitionDebts(answers []told[*client.NodeStatus]) string {
	var rows [][]string
	for _, t := range answers {
		if t.err != nil {
			continue
		}
		for _, p := range t.answer.Merkle {
			var peers []string
			for _, o := range p.Peers {
				peer := shown(o.Node) + " " + sinceText(o.EqualS)
				if o.Error != "" {
					peer += " (" + o.Error + ")"
				}
				peers = append(peers, peer)
			}
			votes := "yes"
			if !p.Synced {
				votes = "no"
			}
			rows = append(rows, []string{
				t.name, strconv.Itoa(p.Partition), strconv.Itoa(p.N), dash(p.Root), sinceText(p.EqualS), votes, dash(strings.Join(peers, ", ")),
			})
		}
	}
	if len(rows) == 0 {
		return "No partition holds anything.\n"
	}
	return table([]string{"NODE", "PARTITION", "N", "ROOT", "ALL EQUAL", "VOTES", "EQUAL WITH"}, rows)
}

// sinceText is how long ago two were equal.
func sinceText(seconds *float64) string {
	if seconds == nil {
		return "not yet"
	}
	return ageText(*seconds, true) + " ago"
}
