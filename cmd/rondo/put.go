package main

import (
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newPutCommand(s *session) *cobra.Command {
	f := &keyFlags{}
	var contentType string
	cmd := &cobra.Command{
		Use:   "put BUCKET KEY [VALUE|-|@FILE]",
		Short: "Write a key",
		Long: `Write a key. The value is the argument, the bytes of a file (@FILE), or standard input (-, or no argument). It is stored byte for byte.

Without a context the write replaces what the coordinating replica holds. With --context-file it replaces exactly the versions that the
context covers: what was read with "rondo get --context-file"; a concurrent write of somebody else stays beside it. With --fresh it
replaces nothing and always becomes a sibling.

With --ttl the value expires: from then on the key reads as deleted. With --sloppy the write also succeeds where owners of the key are down,
as long as one is up: the next nodes keep it for them, and hand it over when they are back. Until then a read without --sloppy may miss it.`,
		Example: `  rondo put carts alice '{"items":["tea"]}'
  rondo put photos cat.jpg @cat.jpg --content-type image/jpeg
  rondo get carts alice --context-file alice.ctx | jq '.items += ["milk"]' | rondo put carts alice - --context-file alice.ctx
  rondo put carts alice '{}' --w all --dw all --receipt
  rondo put sessions 7f3a @session.json --ttl 30m
  rondo put carts alice '{}' --sloppy --receipt`,
		Args: cobra.RangeArgs(2, 3),
	}
	f.addTo(cmd, "table (a sentence), json (the node's answer) or raw (the new context)")
	f.addWrite(cmd)
	f.addTTL(cmd)
	cmd.Flags().BoolVar(&f.fresh, "fresh", false, "replace nothing: always a new sibling")
	cmd.Flags().StringVar(&contentType, "content-type", "", "media `TYPE` of the value (default: the node tells JSON, text and bytes apart)")
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
		o.ContentType = contentType
		if f.fresh {
			o.Context = client.NoContext
		}
		value, err := s.readValue(args[2:])
		if err != nil {
			return err
		}
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		written, err := c.Put(cmd.Context(), args[0], key, value, o)
		if err != nil {
			return err
		}
		return s.printWritten("written", args[0], key, written, f)
	}
	return cmd
}

func newDeleteCommand(s *session) *cobra.Command {
	f := &keyFlags{}
	cmd := &cobra.Command{
		Use:     "delete BUCKET KEY",
		Aliases: []string{"del", "rm"},
		Short:   "Delete a key",
		Long: `Delete a key. One that is not there is no error. With --context-file exactly the versions that the context covers are deleted; a
concurrent write of somebody else survives.`,
		Example: `  rondo delete carts alice
  rondo delete carts alice --context-file alice.ctx`,
		Args: cobra.ExactArgs(2),
	}
	f.addTo(cmd, "table (a sentence), json (the node's answer) or raw (the new context)")
	f.addWrite(cmd)
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
		c, err := s.dial(1)
		if err != nil {
			return err
		}
		defer c.Close()
		written, err := c.Delete(cmd.Context(), args[0], key, o)
		if err != nil {
			return err
		}
		return s.printWritten("deleted", args[0], key, written, f)
	}
	return cmd
}

// printWritten keeps the context and says what the write rests on.
func (s *session) printWritten(verb, bucket, key string, w *client.Written, f *keyFlags) error {
	if err := f.keep(w.Context); err != nil {
		return fmt.Errorf("%s, but the context is lost: %w", verb, err)
	}
	if f.receipt {
		s.printReceipt(w.Receipt)
	}
	switch f.output {
	case "json":
		return s.print(line(w.Raw))
	case "raw":
		return s.print(w.Context + "\n")
	}
	text := fmt.Sprintf("%s/%s %s: %d of %d replicas have it, %d synced to disk", bucket, shown(key), verb, w.Receipt.Acked, w.Receipt.N, w.Receipt.Durable)
	switch n := w.Receipt.Standins; n {
	case 0:
	case 1:
		text += "; 1 of them only stands in for an owner that is down"
	default:
		text += fmt.Sprintf("; %d of them only stand in for owners that are down", n)
	}
	text += fmt.Sprintf("; ring %d, coordinator %s", w.Receipt.Ring, w.Receipt.Coordinator)
	if !w.Expires.IsZero() {
		text += "; expires " + w.Expires.UTC().Format(time.RFC3339)
	}
	return s.print(text + "\n")
}
