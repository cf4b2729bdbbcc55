package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newRingCommand(s *session) *cobra.Command {
	var (
		output     string
		partitions bool
	)
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Show which node owns how many partitions, or who owns each",
		Long: `Show how many partitions each node owns, by preference: "1st" is how many name it first, and so on. With --partitions, the owners of
every partition in order of preference.`,
		Example: `  rondo ring
  rondo ring --partitions | grep -w n2`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&partitions, "partitions", false, "list every partition with its owners")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table or json (the node's answer)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(output); err != nil {
			return err
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		ring, err := c.Ring(cmd.Context())
		if err != nil {
			return err
		}
		switch {
		case output == "json":
			return s.print(line(ring.Raw))
		case partitions:
			return s.print(partitionTable(ring))
		}
		return s.print(fmt.Sprintf("Ring %d, %s, hash %s\n\n", ring.Ring, plural(len(ring.Partitions), "partition"), dash(string(ring.Hash))) + rankTable(ring))
	}
	return cmd
}

// rankTable counts for each node how many partitions prefer it first, second, and so on.
func rankTable(ring *client.Ring) string {
	ranks := 0
	counts := map[string][]int{}
	for _, p := range ring.Partitions {
		ranks = max(ranks, len(p.Owners))
		for i, o := range p.Owners {
			for len(counts[o]) <= i {
				counts[o] = append(counts[o], 0)
			}
			counts[o][i]++
		}
	}
	ranks = min(ranks, 7)
	header := []string{"NODE"}
	for i := range ranks {
		header = append(header, ordinal(i+1))
	}
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	var rows [][]string
	for _, name := range names {
		row, total := []string{shown(name)}, 0
		for i := range ranks {
			n := 0
			if i < len(counts[name]) {
				n = counts[name][i]
			}
			total += n
			row = append(row, strconv.Itoa(n))
		}
		share := 0.0
		if len(ring.Partitions) > 0 {
			share = 100 * float64(total) / float64(len(ring.Partitions))
		}
		rows = append(rows, append(row, strconv.Itoa(total), fmt.Sprintf("%.1f%%", share)))
	}
	return table(append(header, "TOTAL", "OF PARTITIONS"), rows)
}

func ordinal(n int) string {
	switch n {
	case 1:
		return "1ST"
	case 2:
		return "2ND"
	case 3:
		return "3RD"
	}
	return strconv.Itoa(n) + "TH"
}

func partitionTable(ring *client.Ring) string {
	var rows [][]string
	for _, p := range ring.Partitions {
		rows = append(rows, []string{strconv.Itoa(p.ID), strings.Join(p.Owners, " ")})
	}
	return table([]string{"PARTITION", "OWNERS"}, rows)
}
