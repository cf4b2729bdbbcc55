package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// importFlags are the flags of import.
type importFlags struct {
	keyField, resume   string
	w, dw, consistency string
	parallel           int
	retryFor           time.Duration
}

func newImportCommand(s *session) *cobra.Command {
	f := importFlags{}
	cmd := &cobra.Command{
		Use:   "import BUCKET [FILE|-]",
		Short: "Store the lines of a file (NDJSON), in parallel, resumable",
		Long: `Store the lines of a file or of standard input, one JSON document a line, in parallel.

With --key-field, each line as a whole is the value, byte for byte, and the field names its key. Without, the lines are what
"rondo export" writes: {"key":"k","value":…,"content_type":"application/json"}; "base64" instead of "value" for any bytes; {"base64":"…"} as
the key for a key that is not UTF-8; "values":[…] for several versions (newest first); "expires" for a value that ends, which is left out where
it has. A line of more than 64 MiB fails.

A write that the cluster cannot take now is tried again, on every node in turn, for --retry-for; then the import stops with exit code 4. A
repeated write sends the same bytes without a context, so it replaces what the first one left, and what others wrote to the same key meanwhile:
import into keys that nobody else is writing. Only where a node failed with a write that no other node had seen, that write comes back
with the node, as a second version with the same bytes. Lines with the same key are stored in the order of the input.

With --resume, a checkpoint file says up to where everything is stored. It is synced every second and at the end, so that after a kill -9 or a
power cut the same command goes on from there; at most the last second is stored again. Lines that can never be stored (bad JSON, a key that
is too long) are listed, with their numbers, and make the exit code 1.`,
		Example: `  rondo import packages packages.ndjson --key-field Package
  rondo import packages dump.ndjson --resume dump.checkpoint --node http://n1:7070,http://n2:7070
  zcat dump.ndjson.gz | rondo import packages -`,
		Args: cobra.RangeArgs(1, 2),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.keyField, "key-field", "", "`FIELD` of each line that is its key; the line is the value")
	cmd.Flags().IntVar(&f.parallel, "parallel", 32, "`N` writes at the same time")
	cmd.Flags().StringVar(&f.resume, "resume", "", "keep a checkpoint in `FILE`, and go on from it")
	cmd.Flags().DurationVar(&f.retryFor, "retry-for", 2*time.Minute, "keep trying one line for this long")
	cmd.Flags().StringVar(&f.w, "w", "", "`COUNT` of replicas that must acknowledge: 1 to n, one, quorum or all")
	cmd.Flags().StringVar(&f.dw, "dw", "", "`COUNT` of replicas that must have it synced to disk: 0 to w, one, quorum or all")
	cmd.Flags().StringVar(&f.consistency, "consistency", "", "`LEVEL` for w: one, quorum or all (default: the bucket's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := "-"
		if len(args) > 1 {
			path = args[1]
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		return s.importFile(ctx, args[0], path, f)
	}
	return cmd
}

// importFile runs an import and says how it went.
func (s *session) importFile(ctx context.Context, bucket, path string, f importFlags) (err error) {
	if f.parallel < 1 || f.parallel > 4096 {
		return usageError{fmt.Errorf("--parallel %d: use 1 to 4096", f.parallel)}
	}
	c, err := s.dial(f.parallel)
	if err != nil {
		return err
	}
	defer c.Close()
	im := &importer{
		client: c, bucket: bucket, keyField: f.keyField, parallel: f.parallel, retryFor: f.retryFor,
		options: client.Options{W: f.w, DW: f.dw, Consistency: f.consistency},
		rand:    rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
	in, point, err := s.openInput(path, bucket, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	im.tracker.offset, im.tracker.line, im.tracker.failed = point.Offset, point.Line, point.Failed
	im.failed, im.failures = point.Failed, point.Failures
	if point.Offset > 0 {
		s.note("import: going on after line %s (%s)", countText(point.Line), bytesText(point.Offset))
	}
	total := in.size()
	im.began = time.Now()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var saver sync.WaitGroup
	saved := make(chan struct{})
	if f.resume != "" {
		saver.Go(func() { im.saveEverySecond(cancel, f.resume, in, point, saved) })
	}
	lines := newLineReader(in, point.Offset, point.Line)
	shown := startProgress(s.stderr, func() string { return im.progressText(point.Offset, total) })
	// Reading may block for ever on a pipe: closing it ends that.
	defer context.AfterFunc(ctx, in.interrupt)()
	err = im.run(ctx, lines)
	shown.finish()
	close(saved)
	saver.Wait()
	if f.resume != "" {
		err = errors.Join(err, im.save(f.resume, in, point))
	}
	return s.importDone(im, f, err)
}

// errCheckpoint marks a checkpoint that could not be written.
var errCheckpoint = errors.New("write checkpoint")

// saveEverySecond keeps the checkpoint up to date until done. If it cannot, the import ends.
func (im *importer) saveEverySecond(cancel context.CancelCauseFunc, path string, in io.ReaderAt, point checkpoint, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if err := im.save(path, in, point); err != nil {
				cancel(fmt.Errorf("%w: %w", errCheckpoint, err))
				return
			}
		}
	}
}

// save writes how far the import got.
func (im *importer) save(path string, in io.ReaderAt, point checkpoint) error {
	point.Offset, point.Line, point.Failed = im.tracker.position()
	_, failures := im.failedLines()
	point.Failures = nil
	for _, l := range failures {
		if l.Line <= point.Line { // later ones come again
			point.Failures = append(point.Failures, l)
		}
	}
	return point.save(path, in)
}

// progressText is the line that shows how far it is.
func (im *importer) progressText(from, total int64) string {
	offset, _, _ := im.tracker.position()
	failed, _ := im.failedLines()
	stored := im.stored.Load()
	text := fmt.Sprintf("import: %s records, %s/s, %s", countText(stored), countText(int64(pace(stored, im.began))), bytesText(offset))
	if total > 0 {
		text += fmt.Sprintf(" of %s (%d %%)", bytesText(total), 100*offset/total)
	}
	text += fmt.Sprintf(", %d failed, %d retries", failed, im.retries.Load())
	if left := leftText(offset-from, total-from, im.began); left != "" {
		text += ", " + left
	}
	return text
}

// importDone prints the failed lines and the summary, and turns the end into an exit code.
func (s *session) importDone(im *importer, f importFlags, err error) error {
	failed, failures := im.failedLines()
	const most = 20
	for _, l := range failures[:min(len(failures), most)] {
		if l.Key != "" {
			l.Key = " (key " + l.Key + ")"
		}
		s.note("line %d%s: %s", l.Line, l.Key, l.Error)
	}
	if failed > int64(most) {
		s.note("… and %s more failed lines", countText(failed-int64(most)))
	}
	again := "run it again with --resume FILE to be able to go on where it stopped"
	if f.resume != "" {
		_, line, _ := im.tracker.position()
		again = fmt.Sprintf("run the same command to go on after line %s", countText(line))
	}
	took := time.Since(im.began)
	stored := im.stored.Load()
	s.note("imported %s records (%s) in %s, %s/s; %s failed, %s blank, %s retries", countText(stored), bytesText(im.bytes.Load()), durationText(took),
		countText(int64(pace(stored, im.began))), countText(failed), countText(im.blank.Load()), countText(im.retries.Load()))
	if n := im.expired.Load(); n > 0 {
		s.note("left out %s: they have expired", plural(int(n), "record"))
	}
	var gaveUp errGaveUp
	switch {
	case errors.As(err, &gaveUp):
		return statusError{exitUnavailable, err, "rondo status shows what is down; then " + again}
	case errors.Is(err, errInterrupted):
		return statusError{exitFailure, err, again}
	case err != nil:
		return err
	case failed > 0:
		return statusError{code: exitFailure}
	}
	return nil
}

// input is what import reads: a file or standard input.
type input struct {
	io.Reader
	file *os.File       // nil: standard input
	pipe *io.PipeReader // of standard input, else nil
}

// openInput opens the input at the place where the checkpoint says.
func (s *session) openInput(path, bucket string, f importFlags) (*input, checkpoint, error) {
	if path == "-" {
		if f.resume != "" {
			return nil, checkpoint{}, usageError{errors.New("--resume needs a FILE: standard input cannot be read again from the middle")}
		}
		out, in := io.Pipe()
		go func() { // a read of a terminal or pipe cannot be ended: after an interrupt this goes with the process
			_, err := io.Copy(in, s.stdin)
			in.CloseWithError(err)
		}()
		return &input{Reader: out, pipe: out}, checkpoint{}, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, checkpoint{}, usageError{fmt.Errorf("open input: %w", err)}
	}
	in := &input{Reader: file, file: file}
	if f.resume == "" {
		return in, checkpoint{}, nil
	}
	point, err := loadCheckpoint(f.resume, bucket, f.keyField)
	if err == nil {
		err = point.verify(file)
	}
	if err == nil {
		_, err = file.Seek(point.Offset, io.SeekStart)
	}
	if err != nil {
		return nil, point, errors.Join(err, file.Close())
	}
	return in, point, nil
}

// ReadAt reads the file, for checkpoints.
func (in *input) ReadAt(b []byte, offset int64) (int, error) { return in.file.ReadAt(b, offset) }

// size is the length of the input in bytes, 0 where it is not known.
func (in *input) size() int64 {
	f := in.file
	if f == nil {
		return 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// interrupt makes a blocked read of standard input end.
func (in *input) interrupt() {
	if in.pipe != nil {
		in.pipe.CloseWithError(errInterrupted)
	}
}

// Close closes the file.
func (in *input) Close() error {
	if in.file == nil {
		return in.pipe.Close()
	}
	return in.file.Close()
}
