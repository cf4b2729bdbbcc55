package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newRepairCommand(s *session) *cobra.Command {
	f := &nodeFlags{}
	partition := -1
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Compare a node's partitions with the other owners now, and make them equal",
		Long: `Compare the partitions of a node with their other owners, by their Merkle trees, and move what differs, both ways. The cluster does that
without being asked, too, within seconds where nodes are up: this is for those who do not want to wait, and who want to be told.

The asked node repairs what it owns, all of it or one partition; with --all every node does, one after the other. In a cluster of three
nodes with three replicas one node owns everything. Ctrl-C stops it; what was moved stays.

Exit code 0 where everything is equal in the end, 1 where it is not, because a node did not answer, for instance.`,
		Example: `  rondo repair
  rondo repair --all
  rondo repair --partition 17 --node http://n2:7070
  rondo repair -o json | jq .objects_received`,
		Args: cobra.NoArgs,
	}
	f.addTo(cmd)
	cmd.Flags().IntVar(&partition, "partition", -1, "repair only partition `N`; \"rondo explain\" and \"rondo status --partitions\" name partitions")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkTableOrJSON(f.output); err != nil {
			return err
		}
		if cmd.Flags().Changed("partition") && partition < 0 {
			return usageError{fmt.Errorf("--partition %d: partitions count from 0", partition)}
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		nodes, err := s.asked(ctx, f.all)
		if err != nil {
			return err
		}
		failed := 0
		for _, n := range nodes {
			if err := s.repairNode(ctx, n, partition, f.output); err != nil {
				if len(nodes) == 1 || ctx.Err() != nil {
					return err
				}
				s.note("error: %s: %v", shown(n.name), err)
				failed++
			}
		}
		if failed > 0 {
			return statusError{code: exitFailure}
		}
		return nil
	}
	return cmd
}

// repairNode has one node repair what it owns, shows how it goes, and says how it ended. A repair that leaves something unequal is an
// error with exit code 1.
func (s *session) repairNode(ctx context.Context, n askedNode, partition int, output string) error {
	if n.err != nil {
		return n.err
	}
	c, err := client.New(client.Config{Nodes: []string{n.url}, UserAgent: "rondo-cli"})
	if err != nil {
		return usageError{err}
	}
	defer c.Close()
	show := s.repairProgress(n.name, output)
	last, err := c.Repair(ctx, partition, show.step)
	show.end()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: what was repaired until then stays", errInterrupted)
	case err != nil:
		return err
	case show.failure != nil:
		return show.failure
	}
	if output != "json" {
		if last.Error == "" {
			last.Error = show.problem
		}
		if err := s.print(repairText(n.name, last)); err != nil {
			return err
		}
	}
	if !last.OK {
		return statusError{code: exitFailure}
	}
	return nil
}

// repairShow shows the steps of a repair: as JSON lines on standard output; on a terminal as one line that changes; else as a line each.
type repairShow struct {
	s        *session
	node     string
	json     bool
	terminal *progress // nil elsewhere
	failure  error     // of writing
	problem  string    // the first that a step told

	mu   sync.Mutex
	last client.RepairProgress // for the line that changes
}

func (s *session) repairProgress(node, output string) *repairShow {
	r := &repairShow{s: s, node: node, json: output == "json"}
	if !r.json && interactive(s.stderr) {
		r.terminal = startProgress(s.stderr, func() string {
			r.mu.Lock()
			defer r.mu.Unlock()
			return stepText(r.node, r.last)
		})
	}
	return r
}

// step shows one step.
func (r *repairShow) step(p client.RepairProgress) {
	if p.Error != "" && r.problem == "" {
		if r.problem = p.Error; p.Peer != "" {
			r.problem = shown(p.Peer) + ": " + p.Error
		}
	}
	switch {
	case r.json:
		b, err := json.Marshal(struct {
			Node string `json:"node"`
			client.RepairProgress
		}{r.node, p})
		if err == nil {
			err = r.s.print(string(b) + "\n")
		}
		r.failure = errors.Join(r.failure, err)
	case r.terminal != nil:
		r.mu.Lock()
		r.last = p
		r.mu.Unlock()
		if p.Error != "" && !p.Done {
			r.s.note("\r%s\x1b[K", stepText(r.node, p)) // stays when the line changes
		}
	case !p.Done:
		r.s.note("%s", stepText(r.node, p))
	}
}

func (r *repairShow) end() {
	if r.terminal != nil {
		r.terminal.finish()
	}
}

// stepText is one step in a line.
func stepText(node string, p client.RepairProgress) string {
	text := shown(node)
	if p.Peer != "" {
		text += " with " + shown(p.Peer)
	}
	text += fmt.Sprintf(": %s of %s, %s", countText(p.Partitions), plural(p.Total, "comparison"), movedText(p))
	if p.Error != "" {
		text += "; " + p.Error
	}
	return text
}

// movedText is what differed and what was moved.
func movedText(p client.RepairProgress) string {
	verb := "differ"
	if p.Different == 1 {
		verb = "differs"
	}
	return fmt.Sprintf("%s %s, %s objects sent, %s received, %s, %s", countText(p.Different), verb, countText(p.Sent), countText(p.Received), bytesText(p.Bytes),
		durationText(time.Duration(p.Seconds*float64(time.Second))))
}

// repairText says how a repair ended.
func repairText(node string, p client.RepairProgress) string {
	switch {
	case p.OK && p.Total == 0:
		return fmt.Sprintf("%s: there is nothing to compare: it holds nothing of this that has other owners.\n", shown(node))
	case p.OK:
		return fmt.Sprintf("%s: equal on all owners: %s, %s\n", shown(node), plural(p.Partitions, "comparison"), movedText(p))
	}
	why := p.Error
	if why == "" {
		why = "it did not say why"
	}
	return fmt.Sprintf("%s: not everything is equal: %s; %s of %s, %s\n", shown(node), why, countText(p.Partitions), plural(p.Total, "comparison"), movedText(p))
}
