package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newGetCommand(s *session) *cobra.Command {
	f := &keyFlags{}
	cmd := &cobra.Command{
		Use:   "get BUCKET KEY",
		Short: "Read a key",
		Long: `Read a key.

A key with one version prints its bytes as they are. Concurrent writes leave several versions ("siblings"): a terminal shows
them as a table, newest first; anything else (a file, a pipe, -o raw) fails with exit code 1 and prints nothing, so that a script never takes
one version for all. Merge them and put the result with the same --context-file: it replaces exactly what you have seen.

With --context-file the answer is at least as new as the context in the file (read your own writes, even with --r 1), and the file then
holds the new one.`,
		Example: `  rondo get carts alice
  rondo get carts alice --context-file alice.ctx > alice.json
  rondo get carts alice -o json --receipt
  rondo get carts alice --r 1 --node http://n3:7070
  rondo get carts alice --sloppy                      # also what stand-ins keep for owners that are down`,
		Args: cobra.ExactArgs(2),
	}
	f.addTo(cmd, "raw (the bytes), json (the node's answer) or table (the versions)")
	f.addRead(cmd)
	cmd.Flags().BoolVar(&f.fresh, "fresh", false, "send no context, even if the context file holds one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.checkOutput("raw", "json", "table"); err != nil {
			return err
		}
		key, err := f.key(args[1])
		if err != nil {
			return err
		}
		o, err := f.options()
		if err != nil {
			return err
		}
		if f.fresh {
			o.Context = ""
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		object, err := c.Get(cmd.Context(), args[0], key, o)
		if err != nil {
			var problem *client.Error
			if errors.As(err, &problem) && problem.Code == client.CodeKeyNotFound {
				return errors.Join(err, f.keep(problem.Context)) // so that re-creating it is causal
			}
			return err
		}
		if err := f.keep(object.Context); err != nil {
			return err
		}
		if f.receipt {
			s.printReceipt(object.Receipt)
		}
		return s.printObject(object, f)
	}
	return cmd
}

// printObject prints a key that was read.
func (s *session) printObject(object *client.Object, f *keyFlags) error {
	terminal := interactive(s.stdout)
	switch {
	case f.output == "json":
		return s.print(line(object.Raw))
	case f.output == "table" || f.output == "" && terminal && len(object.Values) != 1:
		return s.print(versionsTable(object) + resolveText(object))
	case len(object.Values) != 1:
		return statusError{
			exitFailure, fmt.Errorf("%s has %d concurrent versions, so there is no one value to print", shown(object.Key), len(object.Values)),
			fmt.Sprintf("rondo get %s %s -o table --context-file FILE shows them and how to resolve them", object.Bucket, keyText(object.Key)),
		}
	}
	data := object.Values[0].Data
	if f.output == "" && terminal {
		if !utf8.Valid(data) {
			return statusError{exitFailure, fmt.Errorf("the value is %d bytes of %s, which a terminal cannot show", len(data), object.Values[0].ContentType), "write it to a file (> FILE), or force it with -o raw"}
		}
		return s.print(line(data))
	}
	return s.print(string(data))
}

// line ends a document with a line break.
func line(b []byte) string {
	if len(b) > 0 && b[len(b)-1] == '\n' {
		return string(b)
	}
	return string(b) + "\n"
}

// versionsTable lists the versions of a key, newest first.
func versionsTable(object *client.Object) string {
	var rows [][]string
	expires := slices.ContainsFunc(object.Values, func(v client.Value) bool { return !v.Expires.IsZero() })
	for i, v := range object.Values {
		row := []string{fmt.Sprint(i + 1), v.Modified.UTC().Format(time.RFC3339Nano)}
		if expires {
			row = append(row, expiryText(v.Expires))
		}
		rows = append(rows, append(row, dash(v.ContentType), fmt.Sprint(len(v.Data)), dash(v.Version), preview(v)))
	}
	header := []string{"#", "MODIFIED", "TYPE", "BYTES", "VERSION", "VALUE"}
	if expires {
		header = slices.Insert(header, 2, "EXPIRES")
	}
	return table(header, rows)
}

// expiryText is when a version ends.
func expiryText(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

// resolveText says what to do about siblings.
func resolveText(object *client.Object) string {
	if len(object.Values) < 2 {
		return ""
	}
	return fmt.Sprintf(`
%d versions were written without knowing of each other. To resolve them:
  rondo get %[2]s %[3]s --context-file FILE -o json     # all versions in full
  rondo put %[2]s %[3]s MERGED --context-file FILE      # replaces exactly those
`, len(object.Values), object.Bucket, keyText(object.Key))
}
