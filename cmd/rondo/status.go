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
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say in one sentence how the cluster is, then show its nodes",
		Long: `Say in one sentence how the cluster is and what may fail next, then show its nodes, as the asked node sees them. The sentence is
computed from the owners of every partition, for buckets with the default of three replicas and quorum reads and writes.

Exit code 0 while quorums hold for every key (healthy or degraded), 4 where they do not or no ring has formed.`,
		Example: `  rondo status
  rondo status --node http://n1:7070,http://n2:7070
  rondo status -o json | jq .verdict`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(output); err != nil {
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
		if output == "json" {
			err = s.printStatusJSON(v, cluster)
		} else {
			err = s.print(statusText(v, cluster, ring))
		}
		if err == nil && (v.State == unavailable || v.State == unformed) {
			return statusError{code: exitUnavailable}
		}
		return err
	}
	return cmd
}

// statusText is the sentence and the table.
func statusText(v verdict, cluster *client.Cluster, ring *client.Ring) string {
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
	return text + table([]string{"NODE", "STATE", "HEALTH", "ZONE", "WEIGHT", "PARTITIONS", "HTTP", "VERSION"}, rows)
}

func (s *session) printStatusJSON(v verdict, cluster *client.Cluster) error {
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
	}{
		v.State, v.Sentence, v.Up, v.Count, append([]string{}, v.Down...), v.Failures, v.Lost, v.NextLost, v.NextNode, cluster.Raw,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	return s.print(string(b) + "\n")
}
