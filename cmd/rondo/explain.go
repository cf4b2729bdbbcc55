package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newExplainCommand(s *session) *cobra.Command {
	var (
		output string
		base64 bool
	)
	cmd := &cobra.Command{
		Use:   "explain BUCKET KEY",
		Short: "Show what each replica of a key holds right now",
		Long: `Ask every replica of a key directly and show the answers side by side. Equal digests mean that the stored objects are equal, byte for
byte. Looking repairs nothing; reading the key with "rondo get" does. What has expired is shown until it is collected, and so is what stand-ins
keep for owners that were down.`,
		Example: `  rondo explain carts alice
  rondo explain carts alice -o json | jq '.replicas[].digest'`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().BoolVar(&base64, "key-base64", false, "KEY is base64, for keys that hold any bytes")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table or json (the node's answer)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkTableOrJSON(output); err != nil {
			return err
		}
		key, err := (&keyFlags{base64: base64}).key(args[1])
		if err != nil {
			return err
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		e, err := c.Explain(cmd.Context(), args[0], key)
		if err != nil {
			return err
		}
		if output == "json" {
			return s.print(line(e.Raw))
		}
		return s.print(explainText(args[0], key, e))
	}
	return cmd
}

// explainText is the verdict, where the key lives, and the replicas.
func explainText(bucket, key string, e *client.Explanation) string {
	text := agreement(e) + "\n\n"
	text += fmt.Sprintf("%s/%s: partition %d, token %s, preference %s\n\n", bucket, shown(key), e.Partition, dash(e.Token), strings.Join(e.Preference, " "))
	var rows [][]string
	now := time.Now()
	for _, r := range e.Replicas {
		holds := "nothing"
		switch {
		case r.Error != "":
			holds = "-"
		case len(r.Values) > 0 && r.Tombstones > 0:
			holds = plural(len(r.Values), "value") + ", " + plural(r.Tombstones, "tombstone")
		case len(r.Values) > 0:
			holds = plural(len(r.Values), "value")
		case r.Tombstones > 0:
			holds = plural(r.Tombstones, "tombstone")
		}
		newest, shownValue := "-", "-"
		if len(r.Values) > 0 {
			newest, shownValue = dash(r.Values[0].Version), preview(r.Values[0])
		}
		if r.Hint {
			holds += ", kept for an owner"
		}
		for _, v := range r.Values {
			if !v.Expires.IsZero() {
				holds += ", " + endsText(v.Expires, now)
			}
		}
		rows = append(rows, []string{r.Node, dash(r.Role), holds, dash(r.Digest), newest, strconv.FormatFloat(r.MS, 'f', 2, 64), dash(r.Error), shownValue})
	}
	return text + table([]string{"NODE", "ROLE", "HOLDS", "DIGEST", "NEWEST VERSION", "MS", "ERROR", "VALUE"}, rows)
}

// endsText says when a version ends, or that it has.
func endsText(at, now time.Time) string {
	if at.After(now) {
		return "expires " + at.UTC().Format(time.RFC3339)
	}
	return "expired " + at.UTC().Format(time.RFC3339)
}

// agreement says whether the replicas that answered hold the same, and if not, who differs from most.
func agreement(e *client.Explanation) string {
	byDigest := map[string][]string{}
	var silent, keepers []string
	owners := 0
	most := ""
	answered := 0
	found := false
	for _, r := range e.Replicas {
		if r.Role == "standin" {
			if r.Hint {
				keepers = append(keepers, r.Node)
			}
			continue // what it keeps, and what it has not, says nothing about the owners
		}
		owners++
		if r.Error != "" {
			silent = append(silent, r.Node)
			continue
		}
		answered++
		found = found || r.Found
		digest := r.Digest
		if !r.Found {
			digest = "" // nothing is nothing, whatever stands in the field
		}
		byDigest[digest] = append(byDigest[digest], r.Node)
		if len(byDigest[digest]) > len(byDigest[most]) {
			most = digest
		}
	}
	text := ""
	switch {
	case answered == 0:
		return fmt.Sprintf("None of the %s answered.", plural(owners, "replica"))
	case len(byDigest) == 1 && !found:
		text = fmt.Sprintf("No replica has ever seen this key (%d of %d answered).", answered, owners)
	case len(byDigest) == 1 && len(silent) == 0 && answered == 1:
		text = "The only replica answered."
	case len(byDigest) == 1 && len(silent) == 0:
		text = fmt.Sprintf("All %d replicas agree.", answered)
	case len(byDigest) == 1:
		text = fmt.Sprintf("The %s that answered agree.", plural(answered, "replica"))
	default:
		var others []string
		for _, r := range e.Replicas {
			digest := r.Digest
			if !r.Found {
				digest = ""
			}
			if r.Role != "standin" && r.Error == "" && digest != most {
				others = append(others, r.Node)
			}
		}
		verb := "differs"
		if len(others) > 1 {
			verb = "differ"
		}
		text = fmt.Sprintf("The replicas differ: %s %s from %s. A read with \"rondo get --consistency all\" mends them.", andList(others), verb, andList(byDigest[most]))
	}
	if len(keepers) > 0 {
		verb := "keeps"
		if len(keepers) > 1 {
			verb = "keep"
		}
		text += fmt.Sprintf(" %s %s it for owners that were down.", andList(keepers), verb)
	}
	if len(silent) > 0 {
		text += fmt.Sprintf(" No answer from %s.", andList(silent))
	}
	return text
}
