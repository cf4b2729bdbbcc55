package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

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

// newDevCommand runs a whole cluster in this process.
func newDevCommand() *cobra.Command {
	var (
		nodes, port int
		data        string
		verbose     bool
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in this process, to try things out",
		Long: `Run a whole cluster in this process on loopback ports, print curl lines ready to paste, and stop cleanly on Ctrl-C.
Without --data the data lives in a temporary folder that is removed at the end.`,
		Example: `  rondo dev
  rondo dev --nodes 5 --data ./dev-data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nodes < 1 || nodes > devNodes {
				return usageError{fmt.Errorf("--nodes %d: use 1 to %d", nodes, devNodes)}
			}
			if port < 0 || port > 65535-devStride*nodes {
				return usageError{fmt.Errorf("--port %d: use 0 (any free ports) to %d", port, 65535-devStride*nodes)}
			}
			return dev(cmd.Context(), nodes, port, data, verbose, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&nodes, "nodes", 3, "`N` nodes")
	cmd.Flags().IntVar(&port, "port", 7070, "HTTP `PORT` of the first node; the next ones follow ten apart; 0 picks free ones")
	cmd.Flags().StringVar(&data, "data", "", "keep the data in `DIR` (default: a temporary folder, removed at the end)")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what the nodes do")
	return cmd
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
	printWelcome(out, nodes, data, time.Since(began))
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

// printWelcome shows what runs where, and lines to paste.
func printWelcome(w io.Writer, nodes []*node.Node, data string, took time.Duration) {
	first, last := "http://"+nodes[0].HTTPAddr(), "http://"+nodes[len(nodes)-1].HTTPAddr()
	fmt.Fprintf(w, "Rondo is ready: %d nodes in one process, formed in %d ms. Data: %s\n\n", len(nodes), took.Milliseconds(), data)
	for _, n := range nodes {
		fmt.Fprintf(w, "  %-4s http://%s\n", n.Name(), n.HTTPAddr())
	}
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

Ctrl-C stops it.
`, first, last)
}
