package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// Sizes of an export.
const (
	firstPage  = 100
	largePage  = 8 << 20 // bytes of an answer beyond which pages get smaller
	smallPage  = 1 << 20 // and below which they get larger
	exportSize = 1 << 20 // bytes of the output buffer
)

// exportFlags are the flags of export.
type exportFlags struct {
	prefix, siblings, r string
	valuesOnly          bool
}

func newExportCommand(s *session) *cobra.Command {
	f := exportFlags{}
	cmd := &cobra.Command{
		Use:   "export BUCKET [FILE|-]",
		Short: "Write the keys of a bucket as lines (NDJSON)",
		Long: `Write every key of a bucket as one JSON document a line, in ring order, to a file or to standard output. "rondo import" reads them back.

The bytes of JSON values stand in the line as they are stored: {"key":"k","content_type":"application/json","value":…}. Text stands as a string;
other bytes, and JSON with line breaks in it, as "base64". A key that is not UTF-8 stands as {"base64":"…"}. A key with siblings has "values":[…],
newest first. A value that expires says when ("expires"); import keeps that. Deleted keys are not in it. With --values-only each line is the bytes of one value, which must be JSON without line breaks.

The file gets its name only when it is complete. Writes that happen meanwhile may or may not be in it.`,
		Example: `  rondo export packages packages.ndjson
  rondo export carts --prefix al --values-only | jq .items`,
		Args: cobra.RangeArgs(1, 2),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "only keys that begin with `PREFIX`")
	cmd.Flags().BoolVar(&f.valuesOnly, "values-only", false, "write the bytes of each value and nothing else")
	cmd.Flags().StringVar(&f.siblings, "siblings", "all", "`WHAT` to write of a key with siblings: all, newest, or fail")
	cmd.Flags().StringVar(&f.r, "r", "", "`COUNT` of replicas that must answer: 1 to n, one, quorum or all")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.siblings != "all" && f.siblings != "newest" && f.siblings != "fail" {
			return usageError{fmt.Errorf("--siblings %s: use all, newest or fail", f.siblings)}
		}
		path := "-"
		if len(args) > 1 {
			path = args[1]
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return s.exportFile(ctx, args[0], path, f)
	}
	return cmd
}

// exporter writes keys as lines.
type exporter struct {
	exportFlags
	out            *bufio.Writer
	line           []byte // reused
	keys, size     atomic.Int64
	skipped        int64
	skippedExample string
}

// exportFile runs an export and says how it went.
func (s *session) exportFile(ctx context.Context, bucket, path string, f exportFlags) (err error) {
	c, err := s.dial(2)
	if err != nil {
		return err
	}
	defer c.Close()
	var w io.Writer = s.stdout
	var file *os.File
	if path != "-" {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return usageError{fmt.Errorf("%s is not a file that can be replaced: write to - and redirect that", path)}
		}
		if file, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*"); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		w = file
		defer func() {
			if err != nil && file != nil {
				err = errors.Join(err, file.Close(), os.Remove(file.Name()))
			}
		}()
	}
	x := &exporter{exportFlags: f, out: bufio.NewWriterSize(w, exportSize)}
	began := time.Now()
	shown := startProgress(s.stderr, func() string {
		return fmt.Sprintf("export: %s keys, %s/s, %s", countText(x.keys.Load()), countText(int64(pace(x.keys.Load(), began))), bytesText(x.size.Load()))
	})
	err = x.run(ctx, c, bucket)
	shown.finish()
	if err == nil {
		err = x.out.Flush()
	}
	switch {
	case ctx.Err() != nil:
		return statusError{exitFailure, errInterrupted, ""}
	case err != nil:
		return fmt.Errorf("export: %w", err)
	}
	if file != nil {
		if err := commitFile(file, path); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		file = nil
	}
	took := time.Since(began)
	s.note("exported %s keys (%s) in %s, %s/s", countText(x.keys.Load()), bytesText(x.size.Load()), durationText(took), countText(int64(pace(x.keys.Load(), began))))
	if x.skipped > 0 {
		return statusError{exitFailure, fmt.Errorf("%s not JSON in one line, and left out; key %s, for instance", plural(int(x.skipped), "value"), x.skippedExample), "export without --values-only"}
	}
	return nil
}

// fetched is a page, or why there is none.
type fetched struct {
	page *client.Page
	err  error
}

// run walks the bucket. The next page is read while one is written.
func (x *exporter) run(ctx context.Context, c *client.Client, bucket string) error {
	ctx, cancel := context.WithCancel(ctx)
	pages := make(chan fetched)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { x.fetch(ctx, c, bucket, pages) })
	for p := range pages {
		if p.err != nil {
			return p.err
		}
		for i := range p.page.Objects {
			if err := x.write(&p.page.Objects[i]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// fetch reads all pages. Their length follows the size of the values, so that an answer stays some megabytes.
func (x *exporter) fetch(ctx context.Context, c *client.Client, bucket string, pages chan<- fetched) {
	defer close(pages)
	o := client.ListOptions{Prefix: x.prefix, R: x.r, Values: true, Limit: firstPage}
	for attempt := 0; ; {
		page, err := c.List(ctx, bucket, o)
		if err != nil && client.IsTemporary(err) && attempt < 5 && ctx.Err() == nil {
			attempt++
			select {
			case <-ctx.Done():
			case <-time.After(firstBackoff << attempt):
			}
			continue
		}
		attempt = 0
		select {
		case pages <- fetched{page, err}:
		case <-ctx.Done():
			return
		}
		if err != nil || page.Cursor == "" {
			return
		}
		o.Cursor = page.Cursor
		switch {
		case page.Size > largePage:
			o.Limit = max(1, o.Limit/2)
		case page.Size < smallPage:
			o.Limit = min(maxPage, o.Limit*2)
		}
	}
}

// write writes one key.
func (x *exporter) write(object *client.Object) error {
	values := object.Values
	switch {
	case len(values) == 0:
		return nil // deleted since the page began
	case len(values) > 1 && x.siblings == "fail":
		return statusError{
			exitFailure, fmt.Errorf("%s has %d concurrent versions", shown(object.Key), len(values)),
			"resolve it (rondo get -o table), or use --siblings all or newest",
		}
	case x.siblings == "newest":
		values = values[:1]
	}
	x.line = x.line[:0]
	if x.valuesOnly {
		for _, v := range values {
			if !client.IsJSON(v.ContentType) || bytes.ContainsAny(v.Data, "\r\n") {
				if x.skipped++; x.skipped == 1 {
					x.skippedExample = shown(object.Key)
				}
				continue
			}
			x.line = append(append(x.line, v.Data...), '\n')
		}
	} else {
		x.line = appendLine(x.line, object.Key, values)
	}
	n, err := x.out.Write(x.line)
	x.size.Add(int64(n))
	if len(x.line) > 0 {
		x.keys.Add(1)
	}
	if cap(x.line) > largePage {
		x.line = nil
	}
	return err
}

// appendLine appends the line of a key: what parseRecord reads.
func appendLine(b []byte, key string, values []client.Value) []byte {
	b = append(b, `{"key":`...)
	b = client.AppendKey(b, key)
	b = append(b, ',')
	if len(values) == 1 {
		b = appendVersion(b, values[0])
	} else {
		b = append(b, `"values":[`...)
		for i, v := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendVersion(append(b, '{'), v), '}')
		}
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

// appendVersion appends the members of a version.
func appendVersion(b []byte, v client.Value) []byte {
	b = append(b, `"content_type":`...)
	b = client.AppendString(b, v.ContentType)
	if !v.Expires.IsZero() {
		b = append(b, `,"expires":"`...)
		b = append(v.Expires.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	}
	switch {
	case client.IsJSON(v.ContentType) && !bytes.ContainsAny(v.Data, "\r\n") && json.Valid(v.Data):
		return append(append(b, `,"value":`...), v.Data...)
	case !client.IsJSON(v.ContentType) && utf8.Valid(v.Data):
		return client.AppendString(append(b, `,"value":`...), string(v.Data))
	}
	b = append(b, `,"base64":"`...)
	return append(base64.StdEncoding.AppendEncode(b, v.Data), '"')
}
