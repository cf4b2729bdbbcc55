package main

import (
	"context"
	"strconv"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newTombstonesCommand(s *session) *cobra.Command {
	f := &nodeFlags{}
	var partitions bool
	cmd := &cobra.Command{
		Use:   "tombstones",
		Short: "Show which deletes and expired values wait to be collected, and why",
		Long: `Show which deletes and expired values wait to be collected on the asked node, or with --all on every node. A delete leaves a tombstone,
an expired value its bytes, until all owners of the key are known to hold the same; only then can they go without anything coming back. All
owners, and all members of the ring, must take part: a node that is down stops collection, and is named here.`,
		Example: `  rondo tombstones
  rondo tombstones --all
  rondo tombstones --partitions | sort -k4 -n | tail`,
		Args: cobra.NoArgs,
	}
	f.addTo(cmd)
	cmd.Flags().BoolVar(&partitions, "partitions", false, "list every partition that holds any")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(f.output); err != nil {
			return err
		}
		nodes, err := s.asked(cmd.Context(), f.all)
		if err != nil {
			return err
		}
		answers, err := askEach(cmd.Context(), s, nodes, func(ctx context.Context, c *client.Client) (*client.Tombstones, error) { return c.Tombstones(ctx) })
		if err != nil {
			return err
		}
		text := tombstonesText(answers, partitions)
		switch {
		case f.output == "json" && f.all:
			if text, err = toldJSON(answers, "tombstones", func(t *client.Tombstones) []byte { return t.Raw }); err != nil {
				return err
			}
		case f.output == "json":
			text = line(answers[0].answer.Raw)
		}
		if err := s.print(text); err != nil {
			return err
		}
		return missing(answers)
	}
	return cmd
}

// tombstonesText is a line for each node, and the partitions where they are wanted.
func tombstonesText(answers []told[*client.Tombstones], partitions bool) string {
	var nodes, rows [][]string
	for _, t := range answers {
		if t.err != nil {
			continue
		}
		a := t.answer
		nodes = append(nodes, []string{t.name, countText(a.Waiting), ageText(a.OldestS, a.Waiting > 0), countText(a.Collected), countText(a.Refused), dash(a.Blocker)})
		for _, p := range a.Partitions {
			watermark := "never"
			if p.WatermarkS != nil {
				watermark = ageText(*p.WatermarkS, true) + " ago"
			}
			rows = append(rows, []string{
				t.name, strconv.Itoa(p.Partition), strconv.Itoa(p.N), countText(p.Waiting), ageText(p.OldestS, p.Waiting > 0), watermark, dash(p.Blocker),
			})
		}
	}
	text := table([]string{"NODE", "WAITING", "OLDEST", "COLLECTED", "REFUSED", "BLOCKED BY"}, nodes)
	if failures := failuresText(answers); failures != "" {
		text += "\n" + failures
	}
	switch {
	case !partitions:
		return text
	case len(rows) == 0:
		return text + "\nNo partition holds any.\n"
	}
	return text + "\n" + table([]string{"NODE", "PARTITION", "N", "WAITING", "OLDEST", "COLLECTED UP TO", "BLOCKED BY"}, rows)
}
