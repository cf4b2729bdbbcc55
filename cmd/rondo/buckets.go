package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newBucketsCommand(s *session) *cobra.Command {
	var output string
	list := func(cmd *cobra.Command, _ []string) error { return s.listBuckets(cmd, output) }
	buckets := &cobra.Command{
		Use:   "buckets",
		Short: "Look at and change the settings of buckets",
		Long: `Look at and change the settings of buckets: how many replicas (n), what a read and a write must reach by default (r, w, dw), and what
becomes of concurrent writes (resolve: "siblings" keeps them, "lww" lets the last writer win), how long values live (ttl), and whether
stand-ins may count for owners that are down (sloppy). A bucket needs no creating; without settings of its own it has the defaults.`,
		Example: `  rondo buckets
  rondo buckets set sessions --resolve lww --w one --ttl 24h
  rondo buckets get sessions`,
		Args: cobra.NoArgs,
		RunE: list,
	}
	buckets.PersistentFlags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table or json")
	buckets.AddCommand(
		&cobra.Command{Use: "list", Short: "List the buckets that have settings", Example: "  rondo buckets list -o json", Args: cobra.NoArgs, RunE: list},
		s.bucketGet(&output), s.bucketSet(&output), s.bucketDelete(),
	)
	return buckets
}

func checkTableOrJSON(output string) error {
	if output != "table" && output != "json" {
		return usageError{fmt.Errorf("-o %s: use table or json", output)}
	}
	return nil
}

func (s *session) listBuckets(cmd *cobra.Command, output string) error {
	if err := checkTableOrJSON(output); err != nil {
		return err
	}
	c, err := s.dial(1)
	if err != nil {
		return err
	}
	defer c.Close()
	list, raw, err := c.Buckets(cmd.Context())
	if err != nil {
		return err
	}
	if output == "json" {
		return s.print(line(raw))
	}
	if len(list) == 0 {
		return s.print("No bucket has settings of its own: all have n=3, r, w and dw quorum, resolve siblings, values that never expire.\n")
	}
	slices.SortFunc(list, func(a, b client.NamedBucket) int { return strings.Compare(a.Name, b.Name) })
	return s.print(bucketTable(list...))
}

func bucketTable(list ...client.NamedBucket) string {
	var rows [][]string
	for _, b := range list {
		rows = append(rows, []string{b.Name, strconv.Itoa(b.N), string(b.R), string(b.W), string(b.DW), strconv.FormatBool(b.Sloppy), b.Resolve, ttlText(b.TTL)})
	}
	return table([]string{"BUCKET", "N", "R", "W", "DW", "SLOPPY", "RESOLVE", "TTL"}, rows)
}

// ttlText is how long values live.
func ttlText(ttl string) string {
	switch ttl {
	case "", "0", "0s":
		return "-"
	}
	return ttl
}

func (s *session) bucketGet(output *string) *cobra.Command {
	return &cobra.Command{
		Use: "get BUCKET", Short: "Show the settings of a bucket", Example: "  rondo buckets get carts", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTableOrJSON(*output); err != nil {
				return err
			}
			c, err := s.dial(1)
			if err != nil {
				return err
			}
			defer c.Close()
			settings, raw, err := c.Bucket(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if *output == "json" {
				return s.print(line(raw))
			}
			return s.print(bucketTable(client.NamedBucket{Name: args[0], BucketSettings: settings}))
		},
	}
}

func (s *session) bucketSet(output *string) *cobra.Command {
	var (
		n         int
		r, w, dw  string
		rule, ttl string
		sloppy    bool
	)
	cmd := &cobra.Command{
		Use: "set BUCKET", Short: "Change the settings of a bucket",
		Long: `Change the settings of a bucket. What no flag names stays as it is. A change is on every live node within two seconds. n cannot be
changed once the bucket holds a key.`,
		Example: `  rondo buckets set sessions --resolve lww --w one --dw 0
  rondo buckets set sessions --ttl 24h
  rondo buckets set carts --sloppy`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().IntVar(&n, "n", 3, "replicas of each key, 1 to 7")
	cmd.Flags().StringVar(&r, "r", "quorum", "`COUNT` of replicas that must answer a read: 1 to n, one, quorum or all")
	cmd.Flags().StringVar(&w, "w", "quorum", "`COUNT` of replicas that must acknowledge a write")
	cmd.Flags().StringVar(&dw, "dw", "quorum", "`COUNT` of replicas that must have a write synced to disk: 0 to w")
	cmd.Flags().StringVar(&rule, "resolve", "siblings", "`RULE` for concurrent writes: siblings or lww")
	cmd.Flags().BoolVar(&sloppy, "sloppy", false, "let stand-ins count for owners that are down")
	cmd.Flags().StringVar(&ttl, "ttl", "0", "`TIME` that values live which do not say so themselves, such as 24h, at least 1s; 0: for ever. Values keep what they got when they were written")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkTableOrJSON(*output); err != nil {
			return err
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		settings, _, err := c.Bucket(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		changed := false
		change := func(name string, set func()) {
			if cmd.Flags().Changed(name) {
				set()
				changed = true
			}
		}
		change("n", func() { settings.N = n })
		change("r", func() { settings.R = client.Text(r) })
		change("w", func() { settings.W = client.Text(w) })
		change("dw", func() { settings.DW = client.Text(dw) })
		change("resolve", func() { settings.Resolve = rule })
		change("sloppy", func() { settings.Sloppy = sloppy })
		change("ttl", func() { settings.TTL = ttl })
		if !changed {
			return usageError{fmt.Errorf("nothing to change: give at least one of --n, --r, --w, --dw, --resolve, --sloppy, --ttl")}
		}
		if !cmd.Flags().Changed("dw") && countOf(settings.DW, settings.N) > countOf(settings.W, settings.N) {
			settings.DW = "" // the node lowers it to w
		}
		settings, raw, err := c.SetBucket(cmd.Context(), args[0], settings)
		if err != nil {
			return err
		}
		if *output == "json" {
			return s.print(line(raw))
		}
		return s.print(bucketTable(client.NamedBucket{Name: args[0], BucketSettings: settings}))
	}
	return cmd
}

// countOf is the number of replicas that a level means with n replicas.
func countOf(level client.Text, n int) int {
	switch level {
	case "one":
		return 1
	case "quorum":
		return n/2 + 1
	case "all":
		return n
	}
	count, err := strconv.Atoi(string(level))
	if err != nil {
		return 0 // the node says what is wrong with it
	}
	return count
}

func (s *session) bucketDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete BUCKET", Short: "Drop the settings of a bucket: it has the defaults again", Long: "Drop the settings of a bucket: it has the defaults again. Its keys stay.",
		Example: "  rondo buckets delete sessions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.dial(1)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.DeleteBucket(cmd.Context(), args[0]); err != nil {
				return err
			}
			return s.print(args[0] + " has the default settings again.\n")
		},
	}
}
