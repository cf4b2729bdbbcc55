package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rondodb/rondo/internal/chaos"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/node"
	"github.com/spf13/cobra"
)

// Limits of "rondo dev".
const (
	devNodes    = 9                // nodes at most
	devStride   = 10               // ports between two nodes
	devReadyIn  = 30 * time.Second // until the cluster must be ready
	devCache    = 32 << 20         // bytes of object cache per node
	devPollTick = 20 * time.Millisecond
)

// devOptions are the flags of "rondo dev".
type devOptions struct {
	nodes, port int
	data        string
	verbose     bool
	chaos       chaos.Level // "" = none
	every       time.Duration
	seed        uint64
	verify      bool
	duration    time.Duration // of the load of verify
}

// newDevCommand runs a whole cluster on this machine.
func newDevCommand() *cobra.Command {
	var (
		o     devOptions
		level string
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, to try things out or to break it",
		Long: `Run a whole cluster in this process on loopback ports, print curl lines ready to paste, and stop cleanly on Ctrl-C.
Without --data the data lives in a temporary folder that is removed at the end.

With --chaos each node is a process of its own, and they are broken while you watch: killed with kill -9, frozen, told to stop, and
brought back after a while. "gentle" breaks one node at a time, so that requests go on through the others; "harsh" also breaks several
at once, or all. A second Ctrl-C kills what has not stopped yet.

With --verify, clients write and read meanwhile, for --duration or until Ctrl-C. Then everything is brought back, and what was
acknowledged is held against what is there. Exit code 0 if no promise was broken; else the data and the history are kept.`,
		Example: `  rondo dev
  rondo dev --nodes 5 --data ./dev-data
  rondo dev --chaos                 # and "rondo verify" in another terminal
  rondo dev --chaos=harsh --every 3s
  rondo dev --verify                # break it, load it, judge it: one command`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.chaos = chaos.Level(level); o.verify && !cmd.Flags().Changed("chaos") {
				o.chaos = chaos.Gentle
			}
			if err := o.validate(cmd); err != nil {
				return usageError{err}
			}
			if o.chaos != "" {
				return devChaos(cmd.Context(), o, cmd.OutOrStdout())
			}
			return dev(cmd.Context(), o.nodes, o.port, o.data, o.verbose, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&o.nodes, "nodes", 3, "`N` nodes")
	flags.IntVar(&o.port, "port", 7070, "HTTP `PORT` of the first node; the next ones follow ten apart; 0 picks free ones")
	flags.StringVar(&o.data, "data", "", "keep the data in `DIR` (default: a temporary folder, removed at the end)")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "log what the nodes do")
	flags.StringVar(&level, "chaos", "", "break the nodes by turns: `LEVEL` gentle or harsh")
	flags.Lookup("chaos").NoOptDefVal = string(chaos.Gentle)
	flags.DurationVar(&o.every, "every", chaos.DefaultEvery, "mean `TIME` from one fault to the next")
	flags.Uint64Var(&o.seed, "seed", 0, "of the order of faults (default: another one each time)")
	flags.BoolVar(&o.verify, "verify", false, "load the cluster while it is broken (--chaos=gentle where not said), and judge the outcome")
	flags.DurationVar(&o.duration, "duration", time.Minute, "`TIME` of the load of --verify")
	return cmd
}

// validate rejects what cannot be meant.
func (o *devOptions) validate(cmd *cobra.Command) error {
	switch {
	case o.nodes < 1 || o.nodes > devNodes:
		return fmt.Errorf("--nodes %d: use 1 to %d", o.nodes, devNodes)
	case o.port < 0 || o.port > 65535-devStride*o.nodes:
		return fmt.Errorf("--port %d: use 0 (any free ports) to %d", o.port, 65535-devStride*o.nodes)
	}
	if !o.verify && cmd.Flags().Changed("duration") {
		return errors.New("--duration says how long --verify loads the cluster: add --verify")
	}
	if o.duration <= 0 {
		return fmt.Errorf("--duration %v: must be more than 0", o.duration)
	}
	if !o.verify && !cmd.Flags().Changed("chaos") {
		for _, name := range []string{"every", "seed"} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--%s says how --chaos breaks nodes: add --chaos", name)
			}
		}
		return nil
	}
	if !proc.CanSignal {
		return errors.New("--chaos: this system cannot pause processes or tell them to stop")
	}
	if o.every <= 0 {
		return fmt.Errorf("--every %v: must be more than 0", o.every)
	}
	if !cmd.Flags().Changed("seed") {
		o.seed = rand.Uint64N(1_000_000)
	}
	if _, err := chaos.NewPlan(o.chaos, o.nodes, o.every, o.seed); err != nil || o.chaos == "" {
		return fmt.Errorf("--chaos=%s: %w", o.chaos, cmp.Or(err, errors.New("use gentle or harsh")))
	}
	return nil
}

// dev runs the cluster until ctx ends or a signal comes.
func dev(ctx context.Context, count, port int, data string, verbose bool, out, logs io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if data == "" {
		if data, err = os.MkdirTemp("", "rondo-dev-"); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	}
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))

	began := time.Now()
	var nodes []*node.Node
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err = errors.Join(err, closeAll(drain, nodes))
	}()
	var seed []string
	for i := range count {
		name := "n" + strconv.Itoa(i+1)
		at := func(offset int) string {
			if port == 0 {
				return "127.0.0.1:0"
			}
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i*devStride+offset))
		}
		config := node.Config{
			Data: filepath.Join(data, name), Name: name, Cluster: "dev", HTTP: at(0), Peer: at(1), Gossip: at(2),
			Join: seed, Expect: count, Cache: devCache,
		}
		n, err := node.New(config, logger.With("node", name))
		if err != nil {
			return err
		}
		if err := n.Open(); err != nil {
			return fmt.Errorf("start %s: %w (is another cluster running? try --port 8070)", name, err)
		}
		nodes = append(nodes, n)
		seed = append(seed, n.GossipAddr())
	}
	if err := waitReady(ctx, nodes); err != nil {
		return err
	}
	where := make([]devNode, len(nodes))
	for i, n := range nodes {
		where[i] = devNode{n.Name(), "http://" + n.HTTPAddr()}
	}
	fmt.Fprintf(out, "Rondo is ready: %d nodes in one process, formed in %d ms. Data: %s\n\n", count, time.Since(began).Milliseconds(), data)
	printNodes(out, where)
	printCurl(out, where)
	fmt.Fprint(out, "\nCtrl-C stops it.\n")
	failed := make(chan error, len(nodes))
	watch, unwatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer unwatch()
	for _, n := range nodes {
		watching.Go(func() {
			select {
			case err := <-n.Failed():
				failed <- err
			case <-watch.Done():
			}
		})
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nStopping.")
		return nil
	case err := <-failed:
		return err
	}
}

// waitReady blocks until every node is in the ring.
func waitReady(ctx context.Context, nodes []*node.Node) error {
	ctx, cancel := context.WithTimeout(ctx, devReadyIn)
	defer cancel()
	tick := time.NewTicker(devPollTick)
	defer tick.Stop()
	for _, n := range nodes {
		for {
			ok, why := n.Ready()
			if ok {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %s", n.Name(), why)
			case <-tick.C:
			}
		}
	}
	return nil
}

// closeAll drains all nodes side by side.
func closeAll(ctx context.Context, nodes []*node.Node) error {
	errs := make([]error, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() { errs[i] = n.Close(ctx) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// devNode is where a node of the cluster is.
type devNode struct{ name, url string }

// printNodes shows what runs where.
func printNodes(w io.Writer, nodes []devNode) {
	for _, n := range nodes {
		fmt.Fprintf(w, "  %-4s %s\n", n.name, n.url)
	}
}

// printCurl shows lines to paste.
func printCurl(w io.Writer, nodes []devNode) {
	fmt.Fprintf(w, `
Paste into another terminal:

  # write through one node, read through another
  curl -X PUT %[1]s/v1/kv/carts/alice -d '{"items":["tea"]}'
  curl %[2]s/v1/kv/carts/alice

  # two writers who do not know of each other: both versions are kept
  curl -X PUT %[1]s/v1/kv/carts/bob -H 'Rondo-Context: none' -d '{"items":["milk"]}'
  curl -X PUT %[2]s/v1/kv/carts/bob -H 'Rondo-Context: none' -d '{"items":["bread"]}'
  curl -i %[1]s/v1/kv/carts/bob

  # who holds what
  curl %[1]s/v1/explain/carts/bob
`, nodes[0].url, nodes[len(nodes)-1].url)
}
