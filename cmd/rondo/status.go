package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newStatusCommand(s *session) *cobra.Command {
	f := &nodeFlags{}
	partitions := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say in one sentence how the cluster is, then show its nodes",
		Long: `Say in one sentence how the cluster is and what may fail next, then show its nodes, as the asked node sees them. The sentence is
computed from the owners of every partition, for buckets with the default of three replicas and quorum reads and writes.

Then what the asked node, or with --all every node, still has to mend: how long ago all its partitions were known to be equal on all owners, how
many were not yet since its start, for how many it casts no votes because it lost data, what it keeps for others, and what waits to be
collected. With --partitions, the same for each partition.

Exit code 0 while quorums hold for every key (healthy or degraded), 4 where they do not or no ring has formed.`,
		Example: `  rondo status
  rondo status --node http://n1:7070,http://n2:7070
  rondo status --all
  rondo status --partitions | grep 'not yet'
  rondo status -o json | jq .verdict`,
		Args: cobra.NoArgs,
	}
	f.addTo(cmd)
	cmd.Flags().BoolVar(&partitions, "partitions", false, "list how long ago each partition was equal with each other owner")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(f.output); err != nil {
			return err
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		cluster, err := c.Cluster(cmd.Context())
		if err != nil {
			return err
		}
		ring, err := c.Ring(cmd.Context())
		var problem *client.Error
		if errors.As(err, &problem) && cluster.Ring == 0 {
			ring = nil // no ring yet
		} else if err != nil {
			return err
		}
		v := judge(cluster, ring)
		if v.State == unformed {
			var why *client.Error
			if errors.As(c.Ready(cmd.Context()), &why) && why.Detail != "" {
				v.Sentence = "Not ready: " + why.Detail
			}
		}
		nodes, err := s.asked(cmd.Context(), f.all)
		if err != nil { // the sentence and the members are worth as much without
			nodes = []askedNode{{name: cluster.Node, err: err}}
		}
		answers := s.statuses(cmd.Context(), nodes, partitions)
		switch {
		case f.output == "json":
			err = s.printStatusJSON(v, cluster, answers)
		case partitions:
			err = s.print(v.Sentence + "\n\n" + partitionDebts(answers) + failuresText(answers))
		default:
			err = s.print(statusText(v, cluster, ring, answers))
		}
		if err == nil && (v.State == unavailable || v.State == unformed) {
			return statusError{code: exitUnavailable}
		}
		return err
	}
	return cmd
}

// statusText is the sentence and the tables.
func statusText(v verdict, cluster *client.Cluster, ring *client.Ring, answers []told[*client.NodeStatus]) string {
	total := 0
	if ring != nil {
		total = len(ring.Partitions)
	}
	var rows [][]string
	for _, m := range cluster.Members {
		partitions := strconv.Itoa(m.Partitions)
		if total > 0 {
			partitions += fmt.Sprintf(" (%.0f%%)", 100*float64(m.Partitions)/float64(total))
		}
		rows = append(rows, []string{m.Name, m.State, m.Health, dash(m.Zone), strconv.FormatFloat(m.Weight, 'g', -1, 64), partitions, dash(m.HTTP), dash(m.Version)})
	}
	text := v.Sentence + "\n"
	if cluster.HintsPending > 0 || cluster.DivergentPartitions > 0 {
		text += fmt.Sprintf("Repair debt: %s pending, %s divergent.\n", plural(cluster.HintsPending, "hint"), plural(cluster.DivergentPartitions, "partition"))
	}
	text += fmt.Sprintf("\nCluster %s, ring %d, %s, as seen by %s\n\n", shown(cluster.Cluster), cluster.Ring, plural(total, "partition"), cluster.Node)
	text += table([]string{"NODE", "STATE", "HEALTH", "ZONE", "WEIGHT", "PARTITIONS", "HTTP", "VERSION"}, rows)
	text += "\n" + debtTable(answers)
	if notes := debtNotes(answers); notes != "" {
		text += "\n" + notes
	}
	return text
}

func (s *session) printStatusJSON(v verdict, cluster *client.Cluster, answers []told[*client.NodeStatus]) error {
	type node struct {
		Node   string          `json:"node"`
		Error  string          `json:"error,omitempty"`
		Status json.RawMessage `json:"status,omitempty"`
	}
	nodes := []node{}
	for _, t := range answers {
		n := node{Node: t.name}
		if t.err != nil {
			n.Error = t.err.Error()
		} else {
			n.Status = t.answer.Raw
		}
		nodes = append(nodes, n)
	}
	b, err := json.MarshalIndent(struct {
		Verdict          string          `json:"verdict"`
		Sentence         string          `json:"sentence"`
		Up               int             `json:"up"`
		Members          int             `json:"members"`
		Down             []string        `json:"down"`
		FailuresLeft     int             `json:"failures_left"`
		UnavailableShare float64         `json:"unavailable_share"`
		NextFailureShare float64         `json:"next_failure_share"`
		NextFailureNode  string          `json:"next_failure_node,omitempty"`
		Cluster          json.RawMessage `json:"cluster"`
		Nodes            []node          `json:"nodes"`
	}{
		v.State, v.Sentence, v.Up, v.Count, append([]string{}, v.Down...), v.Failures, v.Lost, v.NextLost, v.NextNode, cluster.Raw, nodes,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return s.print(string(b) + "\n")
}
