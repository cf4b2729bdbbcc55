package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// maxPage is the largest page that a node gives.
const maxPage = 1000

func newListCommand(s *session) *cobra.Command {
	var (
		prefix, cursor, r, output string
		limit                     int
		all, values, base64       bool
	)
	cmd := &cobra.Command{
		Use:     "list BUCKET",
		Aliases: []string{"ls"},
		Short:   "List the keys of a bucket",
		Long: `List the keys of a bucket, in ring order (not in alphabetical order). A key that is there for the whole walk comes exactly once.

One key a line; a key that is not printable comes as a quoted Go string, or base64 with -o json. -o raw prints the bytes of each key and a
line break.`,
		Example: `  rondo list carts
  rondo list carts --prefix al --values
  rondo list carts --all -o raw > keys.txt`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with `PREFIX`")
	cmd.Flags().BoolVar(&base64, "key-base64", false, "PREFIX is base64, for any bytes")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most `N` keys")
	cmd.Flags().BoolVar(&all, "all", false, "every key, however many")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on where a list ended")
	cmd.Flags().BoolVar(&values, "values", false, "read each key too, and show its newest version")
	cmd.Flags().StringVar(&r, "r", "", "`COUNT` of replicas that must answer: 1 to n, one, quorum or all")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the answer: table, json or raw")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case output != "table" && output != "json" && output != "raw":
			return usageError{fmt.Errorf("-o %s: use table, json or raw", output)}
		case limit < 1:
			return usageError{fmt.Errorf("--limit %d: must be at least 1", limit)}
		case values && output == "raw":
			return usageError{errors.New("--values goes with -o table or json; for bytes use \"rondo get -o raw\" or \"rondo export\"")}
		}
		if base64 {
			b, err := client.DecodeBase64(prefix)
			if err != nil {
				return usageError{fmt.Errorf("--prefix: %w", err)}
			}
			prefix = string(b)
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		p := &listPrinter{session: s, output: output, values: values}
		options := client.ListOptions{Prefix: prefix, Cursor: cursor, R: r, Values: values}
		for left := limit; ; {
			options.Limit = min(left, maxPage)
			if all {
				options.Limit = maxPage
			}
			if values {
				options.Limit = min(options.Limit, 100)
			}
			page, err := c.List(cmd.Context(), args[0], options)
			if err != nil {
				return errors.Join(err, p.end(options.Cursor))
			}
			if err := p.page(page); err != nil {
				return err
			}
			options.Cursor = page.Cursor
			if left -= len(page.Keys); page.Cursor == "" || !all && left <= 0 {
				break
			}
		}
		if err := p.end(options.Cursor); err != nil {
			return err
		}
		if options.Cursor != "" && output != "json" {
			s.note("there may be more: --all, or --cursor %s", options.Cursor)
		}
		return nil
	}
	return cmd
}

// listPrinter prints pages of keys as they come.
type listPrinter struct {
	session *session
	output  string
	values  bool
	keys    int
}

func (p *listPrinter) page(page *client.Page) error {
	var out strings.Builder
	var rows [][]string
	for i, key := range page.Keys {
		switch {
		case p.output == "raw":
			out.WriteString(key + "\n")
		case p.output == "json":
			out.WriteString(map[bool]string{true: `{"keys":[`, false: ","}[p.keys == 0])
			if p.values {
				out.WriteString("\n")
				out.Write(page.Objects[i].Raw)
			} else {
				out.Write(client.AppendKey(nil, key))
			}
		case p.values:
			rows = append(rows, valueRow(page.Objects[i]))
		default:
			out.WriteString(shown(key) + "\n")
		}
		p.keys++
	}
	if rows != nil {
		out.WriteString(table([]string{"KEY", "VERSIONS", "TYPE", "BYTES", "VALUE"}, rows))
	}
	return p.session.print(out.String())
}

// valueRow shows the newest version of a key.
func valueRow(object client.Object) []string {
	if len(object.Values) == 0 {
		return []string{shown(object.Key), "0", "-", "-", "-"}
	}
	v := object.Values[0]
	return []string{shown(object.Key), fmt.Sprint(len(object.Values)), dash(v.ContentType), fmt.Sprint(len(v.Data)), preview(v)}
}

// end closes the JSON document.
func (p *listPrinter) end(cursor string) error {
	if p.output != "json" {
		return nil
	}
	text := "]"
	if p.keys == 0 {
		text = `{"keys":[]`
	}
	if cursor != "" {
		text += `,"cursor":"` + cursor + `"`
	}
	return p.session.print(text + "}\n")
}
