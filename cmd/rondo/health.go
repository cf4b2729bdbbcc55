package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

func newHealthCommand(s *session) *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Exit 0 if the node runs (--ready: if it is in the ring and serves), else 1",
		Long: `Exit 0 if the node runs, else 1: for a container's HEALTHCHECK and for scripts. With --ready it must be in the ring and able to
serve. Waits 2 seconds unless --timeout says otherwise. Only the first node is asked.`,
		Example: `  rondo health
  until rondo health --ready; do sleep 1; done`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it can serve, not only whether it runs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		wait := s.timeout
		if wait <= 0 {
			wait = 2 * time.Second
		}
		node := s.nodeList()[0]
		c, err := client.New(client.Config{Nodes: []string{node}, UserAgent: "rondo-cli"})
		if err != nil {
			return usageError{err}
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), wait)
		defer cancel()
		ask, what := c.Live, "runs"
		if ready {
			ask, what = c.Ready, "is ready"
		}
		if err := ask(ctx); err != nil {
			return statusError{code: exitFailure, err: err}
		}
		return s.print(fmt.Sprintf("%s %s\n", node, what))
	}
	return cmd
}
