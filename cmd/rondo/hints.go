package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newHintsCommand(s *session) *cobra.Command {
	f := &nodeFlags{}
	list := func(cmd *cobra.Command, _ []string) error {
		return s.showHints(cmd.Context(), f, func(ctx context.Context, c *client.Client) (*client.Hints, error) { return c.Hints(ctx) })
	}
	pause := func(paused bool) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			return s.showHints(cmd.Context(), f, func(ctx context.Context, c *client.Client) (*client.Hints, error) { return c.PauseHints(ctx, paused) })
		}
	}
	cmd := &cobra.Command{
		Use:   "hints",
		Short: "Show what nodes keep for others that were down, and pause its delivery",
		Long: `Show what a node keeps for others that were down: each hint is a key that the other lacks. It is delivered when the other is back, and then
forgotten. Beyond a limit hints are dropped, and the partition is compared as a whole instead ("divergent").

Only the asked node is shown, or with --all every node.`,
		Example: `  rondo hints
  rondo hints --all
  rondo hints pause --all     # while a network is being repaired
  rondo hints resume --all`,
		Args: cobra.NoArgs,
		RunE: list,
	}
	f.addTo(cmd)
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "Show what waits for other nodes", Example: "  rondo hints list --all -o json", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{
			Use: "pause", Short: "Stop the delivery of hints",
			Long:    "Stop the delivery of hints from the asked node, or with --all from every node. They are kept all the same. A restart of the node lets it go on.",
			Example: "  rondo hints pause --all", Args: cobra.NoArgs, RunE: pause(true),
		},
		&cobra.Command{Use: "resume", Short: "Let the delivery of hints go on", Example: "  rondo hints resume --all", Args: cobra.NoArgs, RunE: pause(false)},
	)
	return cmd
}

// showHints asks the nodes and prints what they say.
func (s *session) showHints(ctx context.Context, f *nodeFlags, question func(context.Context, *client.Client) (*client.Hints, error)) error {
	if err := checkTableOrJSON(f.output); err != nil {
		return err
	}
	nodes, err := s.asked(ctx, f.all)
	if err != nil {
		return err
	}
	answers, err := askEach(ctx, s, nodes, question)
	if err != nil {
		return err
	}
	text := hintsText(answers)
	switch {
	case f.output == "json" && f.all:
		if text, err = toldJSON(answers, "hints", func(h *client.Hints) []byte { return h.Raw }); err != nil {
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

// missing makes the exit code say that not all nodes answered.
func missing[T any](answers []told[T]) error {
	for _, t := range answers {
		if t.err != nil {
			return statusError{code: exitUnavailable}
		}
	}
	return nil
}

// hintsText is a sentence about each node, and what waits on them.
func hintsText(answers []told[*client.Hints]) string {
	var rows [][]string
	text := ""
	for _, t := range answers {
		if t.err != nil {
			continue
		}
		h, count := t.answer, 0
		for _, w := range h.Targets {
			count += w.Count
			rows = append(rows, []string{
				t.name, w.Target, countText(w.Count), bytesText(w.Bytes), ageText(w.OldestS, w.Count > 0), countText(w.Delivered), rateText(w.Rate), strconv.Itoa(w.DivergentPartitions), dash(w.Error),
			})
		}
		text += shown(t.name) + " keeps " + plural(count, "hint")
		if !h.Known {
			text += " or more: it still counts what an earlier run left"
		}
		text += ".\n"
		if h.Paused {
			text += "Their delivery is paused: \"rondo hints resume\" lets it go on.\n"
		}
	}
	text += failuresText(answers)
	if len(rows) == 0 {
		return text
	}
	return text + "\n" + table([]string{"NODE", "FOR", "HINTS", "ON DISK", "OLDEST", "DELIVERED", "RATE", "DIVERGENT", "WAITS BECAUSE"}, rows)
}

// ageText is an age in seconds for people; "-" where there is none.
func ageText(seconds float64, there bool) string {
	if !there {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1fd", d.Hours()/24)
	case d >= time.Minute:
		return shortDuration(d.Round(time.Second))
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// shortDuration is a duration without the zeros that Go ends it with.
func shortDuration(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if len(s) > len(zero) && s[len(s)-len(zero):] == zero {
			s = s[:len(s)-len(zero)+1]
		}
	}
	return s
}

// rateText is how many a second.
func rateText(perSecond float64) string {
	if perSecond <= 0 {
		return "-"
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64) + "/s"
}
