package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/verify"
	"github.com/spf13/cobra"
)

// verifyOps is how many operations a run aims at, at most: where the default pace would make more, clients pause longer.
const verifyOps = 1_500_000

// verifyFlags are the flags of "rondo verify".
type verifyFlags struct {
	config         verify.Config
	duration       time.Duration
	workloads      []string
	history, check string
	output         string
}

func newVerifyCommand(s *session) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Load a cluster, break it meanwhile, and prove that it kept its promises",
		Long: `Write and read through all nodes for a while, note every answer, and judge at the end whether the cluster kept what it promises: no acknowledged
write is lost, no concurrent version is dropped, nothing deleted comes back, every quorum read sees every quorum write acknowledged before it, and a
client with a context never reads anything older. Break something meanwhile: the verdict rests on answers, not on how well things went.

When the load is over the cluster must be whole again: every key is then read from all its replicas. Where only one node is named, the others are asked for.
It writes new keys into the bucket "verify" and leaves them there. Ctrl-C ends the load early and goes on to the verdict; a second one stops at once.

Exit codes: 0 no promise was broken; 1 one was; 4 the history does not show enough; 2 the command line cannot be meant so.`,
		Example: `  rondo dev --chaos                       # a cluster that breaks by itself, in another terminal
  rondo verify
  rondo verify --node http://10.0.0.1:7070,http://10.0.0.2:7070 --duration 10m --history run.jsonl
  docker kill -s KILL rondo-2             # break it meanwhile, and start it again before the end
  kill -STOP 4711; sleep 5; kill -CONT 4711
  rondo verify --check run.jsonl          # judge a history again, or one made by another program`,
		Args: cobra.NoArgs,
	}
	c, flags := &f.config, cmd.Flags()
	flags.SortFlags = false
	flags.DurationVar(&f.duration, "duration", time.Minute, "of the load")
	flags.IntVar(&c.Clients, "clients", 12, "`N` clients, each with one request at a time")
	flags.IntVar(&c.Keys, "keys", 20, "`N` keys in use at one time, per workload")
	flags.DurationVar(&c.Pace, "pace", 0, "mean pause of a client between two operations (default: 10ms, more for loads of very many operations)")
	flags.StringSliceVar(&f.workloads, "workload", nil, "`KIND`s of load: set, registers, deletes, sessions, expiring (default: all but the last)")
	flags.StringVar(&c.Options.R, "r", "", "`COUNT` of replicas that must answer a read: 1 to n, one, quorum or all (default: the bucket's)")
	flags.StringVar(&c.Options.W, "w", "", "`COUNT` of replicas that must acknowledge a write")
	flags.StringVar(&c.Options.DW, "dw", "", "`COUNT` of replicas that must have a write synced to disk")
	flags.StringVar(&c.Options.Consistency, "consistency", "", "`LEVEL` for r and w: one, quorum or all")
	flags.StringVar(&c.Bucket, "bucket", "verify", "`BUCKET` to use; one that keeps siblings")
	flags.BoolVar(&c.Stick, "stick", false, "each client stays at one node and moves on only when that fails (default: any node, at random)")
	flags.StringVar(&c.Options.Sloppy, "sloppy", "", "true: nodes that are no owners may stand in for owners that are down (default: the bucket's)")
	flags.IntVar(&c.SloppyPercent, "sloppy-percent", 0, "`PERCENT` of the operations that allow stand-ins, where --sloppy is not given")
	flags.DurationVar(&c.TTL, "ttl", 0, "also write values that expire after about so long (the workload \"expiring\")")
	flags.DurationVar(&c.Skew, "skew", time.Second, "how far the clocks of two nodes may be apart, for values that expire")
	flags.BoolVar(&c.Quiet, "quiet", false, "read nothing after the load until the replicas agree: hints and exchange must make them equal, not reads")
	flags.DurationVar(&c.Settle, "settle", time.Minute, "how long the replicas may take to agree after the load")
	flags.Uint64Var(&c.Seed, "seed", 1, "of all random choices")
	flags.StringVar(&f.history, "history", "", "keep every operation in `FILE`, as JSON lines")
	flags.StringVar(&f.check, "check", "", "load nothing: judge the history in `FILE` (\"-\" = standard input)")
	flags.StringVarP(&f.output, "output", "o", "table", "`FORM` of the result: table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(f.output); err != nil {
			return err
		}
		var result *verify.Result
		var err error
		if f.check != "" {
			result, err = s.checkHistory(f.check)
		} else {
			result, err = s.verify(cmd.Context(), &f)
		}
		if err != nil {
			return err
		}
		return s.printVerdict(result, f.output)
	}
	return cmd
}

// checkHistory judges a history file.
func (s *session) checkHistory(path string) (_ *verify.Result, err error) {
	in := s.stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usageError{fmt.Errorf("--check: %w", err)}
		}
		defer file.Close() // nothing to lose: it was read only
		in = file
	}
	ops, err := check.Load(in)
	if err != nil {
		return nil, usageError{fmt.Errorf("--check %s: %w", path, err)}
	}
	return verify.Judge(ops), nil
}

// verify loads the cluster and judges it.
func (s *session) verify(ctx context.Context, f *verifyFlags) (*verify.Result, error) {
	c := f.config
	if f.duration <= 0 {
		return nil, usageError{fmt.Errorf("--duration %v: must be more than 0", f.duration)}
	}
	for _, w := range f.workloads {
		c.Workloads = append(c.Workloads, verify.Workload(w))
	}
	if c.Pace == 0 {
		c.Pace = max(10*time.Millisecond, time.Duration(int64(f.duration)*int64(c.Clients)/verifyOps))
	}
	if s.timeout < 0 {
		return nil, usageError{fmt.Errorf("--timeout %v: must be more than 0", s.timeout)}
	}
	c.Timeout, c.Nodes = s.timeout, s.nodeList()
	if err := c.Check(); err != nil {
		return nil, usageError{err}
	}
	if f.history != "" {
		if err := checkWritable(f.history); err != nil {
			return nil, err
		}
	}
	found, err := s.findNodes(ctx)
	if err != nil {
		return nil, err
	}
	c.Nodes, c.Names = found.urls, found.names
	view := newVerifyView(s.stderr, f.duration)
	c.Progress = view.show
	v, err := verify.New(c)
	if err != nil {
		return nil, usageError{err}
	}
	defer v.Close()
	s.note("verify: %s for %s with %s; %s", andList(c.Names), durationText(f.duration), plural(c.Clients, "client"), found.why)
	result, err := verifyRun(ctx, v, f.duration)
	view.finish()
	if err != nil {
		return nil, err
	}
	if f.history != "" {
		if err := saveHistory(f.history, result.History); err != nil {
			return nil, err
		}
		s.note("verify: %s in %s", plural(len(result.History), "operation"), f.history)
	}
	return result, nil
}

// verifyRun loads for so long, or until Ctrl-C, and judges.
func verifyRun(ctx context.Context, v *verify.Verifier, duration time.Duration) (*verify.Result, error) {
	loading, stop := interruptible(ctx)
	defer stop()
	loading, cancel := context.WithTimeout(loading, duration)
	defer cancel()
	if err := v.Load(loading); err != nil {
		if loading.Err() != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
			return nil, errInterrupted
		}
		return nil, err
	}
	return v.Finish(ctx)
}

// checkWritable finds out before the load whether a file can be written after it.
func checkWritable(path string) error {
	probe, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if err != nil {
		return usageError{fmt.Errorf("--history: %w", err)}
	}
	return nil
}

// saveHistory replaces the file as a whole.
func saveHistory(path string, ops []check.Op) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write history: %w", errors.Join(err, file.Close(), os.Remove(file.Name())))
		}
	}()
	if err = check.Save(file, ops); err != nil {
		return err
	}
	return commitFile(file, path)
}
