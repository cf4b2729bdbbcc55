package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rondodb/rondo/internal/chaos"
	"github.com/rondodb/rondo/internal/proc"
)

// devChaos runs the cluster as child processes and breaks them until ctx ends or a signal comes. A second signal kills them.
func devChaos(ctx context.Context, o devOptions, out io.Writer) (err error) {
	ran := false
	if o.data == "" {
		if o.data, err = os.MkdirTemp("", "rondo-dev-"); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		defer func() {
			if ran && err != nil && !errors.Is(err, errInterrupted) { // it shows what went wrong
				fmt.Fprintf(out, "Data and logs are kept in %s\n", o.data)
				return
			}
			err = errors.Join(err, os.RemoveAll(o.data))
		}()
	} else if err := os.MkdirAll(o.data, 0o755); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	nodes, err := devProcesses(o)
	if err != nil {
		return err
	}
	ctx, hard, release := devSignals(ctx, nodes)
	defer release()
	defer func() {
		if err = errors.Join(err, stopProcesses(nodes)); hard.Err() != nil {
			err = fmt.Errorf("%w: the nodes were killed", errInterrupted)
		}
	}()

	began := time.Now()
	ready, cancel := context.WithTimeout(ctx, devReadyIn)
	defer cancel()
	if err := proc.StartAll(ready, nodes); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted
		}
		return fmt.Errorf("%w\n(is another cluster running? try --port 8070)", err)
	}
	ran = true
	printBroken(out, o, nodes, time.Since(began))
	if o.verify {
		err = devVerify(ctx, hard, o, nodes, out)
	} else {
		err = devBreak(ctx, o, nodes, out)
	}
	fmt.Fprintln(out, "\nStopping.")
	return err
}

// devBreak breaks the nodes until ctx ends, and leaves them as they are then.
func devBreak(ctx context.Context, o devOptions, nodes []*proc.Process, out io.Writer) error {
	show := newStrip(out, nodes)
	breaker, err := chaos.New(chaos.Config{Nodes: nodes, Seed: o.seed, Level: o.chaos, Every: o.every, Event: show.event})
	if err != nil {
		return err
	}
	return breaker.Break(ctx)
}

// devProcesses describes the nodes: this very program, with the ports that "rondo dev" always has.
func devProcesses(o devOptions) ([]*proc.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	nodes, err := proc.Loopback(self, o.data, "dev", o.nodes)
	if err != nil {
		return nil, err
	}
	level := "warn"
	if o.verbose {
		level = "info"
	}
	var join []string
	for i, n := range nodes {
		n.Args = []string{"--cache", fmt.Sprint(devCache), "--log-level", level}
		if o.port != 0 {
			n.Host, n.HTTP = "127.0.0.1", o.port+i*devStride
			n.Peer, n.Gossip = n.HTTP+1, n.HTTP+2
		}
		join = append(join, fmt.Sprintf("%s:%d", n.Host, n.Gossip))
	}
	for _, n := range nodes {
		if len(nodes) > 1 { // one that is to be alone joins nobody
			n.Join = join
		}
	}
	return nodes, nil
}

// devSignals makes two contexts: the first Ctrl-C or SIGTERM ends soft, the second ends hard, and kills all nodes. Call release
// when done.
func devSignals(ctx context.Context, nodes []*proc.Process) (soft, hard context.Context, release func()) {
	soft, first := context.WithCancel(ctx)
	hard, second := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			if soft.Err() != nil {
				second()
				_ = proc.KillAll(nodes) // stopProcesses tells what is left
			}
			first()
		}
	})
	return soft, hard, func() {
		signal.Stop(signals)
		close(done)
		group.Wait()
		first()
		second()
	}
}

// stopProcesses drains the nodes, and kills those that do not end.
func stopProcesses(nodes []*proc.Process) error {
	err := proc.StopAll(nodes, drainTime+5*time.Second)
	return errors.Join(err, proc.KillAll(nodes))
}

// printBroken greets, and says what will happen.
func printBroken(w io.Writer, o devOptions, nodes []*proc.Process, took time.Duration) {
	fmt.Fprintf(w, "Rondo is ready: %d nodes, each a process of its own, formed in %d ms. Data and logs: %s\n\n", len(nodes), took.Milliseconds(), o.data)
	var where []devNode
	var urls []string
	for _, n := range nodes {
		where = append(where, devNode{n.Name, n.URL()})
		urls = append(urls, n.URL())
	}
	printNodes(w, where)
	mode := fmt.Sprintf("Break-it mode, %s, a fault about every %v (--seed %d).", o.chaos, o.every, o.seed)
	if o.verify {
		fmt.Fprintf(w, "\n%s Clients write and read for %v; then comes the verdict.\nCtrl-C: the verdict now. Twice: stop at once.\n\n", mode, o.duration)
		return
	}
	printCurl(w, where)
	fmt.Fprintf(w, "\n%s Ctrl-C stops it.\nSee what it does to your data: in another terminal run\n\n  rondo verify --node %s\n\n", mode, strings.Join(urls, ","))
}
