package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/rondodb/rondo/node"
	"github.com/spf13/cobra"
)

// newConfigCommand shows what "rondo serve" would run with.
func newConfigCommand(s *session) *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "Look at the configuration of a node"}
	show := &cobra.Command{
		Use:   "print",
		Short: "Print every setting with its value and where it comes from",
		Long: `Print every setting with its value and where it comes from: flag, env, file or default. Takes the flags of
"rondo serve", so that put in its place it shows what serve would use. Starts nothing.`,
		Example: `  rondo config print --config rondo.toml
  RONDO_ZONE=b rondo config print -o json`,
		Args: cobra.NoArgs,
	}
	output := show.Flags().StringP("output", "o", "table", "form of the answer: table or json")
	addSettings(show)
	show.RunE = func(cmd *cobra.Command, _ []string) error {
		c, sources, err := s.loadConfig(cmd)
		if err != nil {
			return usageError{err}
		}
		rows := node.Describe(c, sources)
		switch *output {
		case "json":
			type row struct {
				Name   string `json:"name"`
				Value  string `json:"value"`
				Source string `json:"source"`
			}
			out := make([]row, len(rows))
			for i, r := range rows {
				out[i] = row{r[0], r[1], r[2]}
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(out)
		case "table":
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SETTING\tVALUE\tSOURCE")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\n", r[0], r[1], r[2])
			}
			return w.Flush()
		}
		return usageError{fmt.Errorf("-o %q: use table or json", *output)}
	}
	config.AddCommand(show)
	return config
}
