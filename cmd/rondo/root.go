package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// session is what a command works with: its streams, its environment, and the global flags.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) (string, bool)
	nodes          []string
	timeout        time.Duration
}

// run executes one command line and returns its exit code. Everything the client commands touch comes in as an argument.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) (string, bool)) int {
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := newRootCommand(s)
	root.SetArgs(append([]string{}, args...))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	markStart(root, &started)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !started { // flags and arguments were not understood
		text, _, _ := strings.Cut(err.Error(), "\n\nDid you mean") // cobra's advice takes four lines
		err = usageError{errors.New(text)}
	}
	s.report(cmd, err)
	return exitCode(err)
}

// rootCommands lists the commands of the program in the order of the help text.
func rootCommands(s *session) []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(s), newDevCommand(), newConfigCommand(s),
		newStatusCommand(s), newHealthCommand(s),
		newGetCommand(s), newPutCommand(s), newDeleteCommand(s), newListCommand(s), newBucketsCommand(s),
		newExplainCommand(s), newRingCommand(s),
		newRepairCommand(s), newHintsCommand(s), newTombstonesCommand(s),
		newImportCommand(s), newExportCommand(s), newBenchCommand(s), newVerifyCommand(s),
		newVersionCommand(s),
	}
}

func newRootCommand(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "rondo",
		Short: "A leaderless key-value database that tells you what its answers rest on",
		Long: `Rondo is a leaderless, tunably consistent key-value database. This one program runs nodes and talks to them.

Exit codes of the client commands:
  0  it worked
  1  it failed
  2  the command line, or what it asks for, cannot be meant so
  3  the key is not there
  4  the cluster cannot be reached, cannot serve this now, or did not answer in time`,
		Example: `  rondo dev                                  # a three-node cluster in this process
  rondo put carts alice '{"items":["tea"]}'
  rondo get carts alice
  rondo status`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringSliceVar(&s.nodes, "node", nil,
		"`URL` of a node; several, with commas, are tried in turn where no connection comes about (env RONDO_NODE, default "+client.DefaultNode+")")
	root.PersistentFlags().DurationVar(&s.timeout, "timeout", 0, "deadline of each request, which the node is told too (default: 5s, the node's own)")
	root.AddCommand(rootCommands(s)...)
	return root
}

// markStart makes every command note that its flags and arguments were understood.
func markStart(cmd *cobra.Command, started *bool) {
	if action := cmd.RunE; action != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return action(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		markStart(c, started)
	}
}

// dial makes the client that the global flags describe.
func (s *session) dial(connections int) (*client.Client, error) {
	if s.timeout < 0 {
		return nil, usageError{fmt.Errorf("--timeout %v: must be more than 0", s.timeout)}
	}
	c, err := client.New(client.Config{Nodes: s.nodeList(), Timeout: s.timeout, Connections: connections, UserAgent: "rondo-cli"})
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// nodeList is the nodes of --node, of RONDO_NODE, or the default.
func (s *session) nodeList() []string {
	if len(s.nodes) > 0 {
		return s.nodes
	}
	var out []string
	if list, ok := s.env("RONDO_NODE"); ok {
		for n := range strings.SplitSeq(list, ",") {
			if n = strings.TrimSpace(n); n != "" {
				out = append(out, n)
			}
		}
	}
	if len(out) == 0 {
		out = []string{client.DefaultNode}
	}
	return out
}

// print writes to standard output.
func (s *session) print(text string) error {
	if _, err := io.WriteString(s.stdout, text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// note writes to standard error. That it cannot be written changes nothing about the command.
func (s *session) note(format string, args ...any) {
	_, _ = fmt.Fprintf(s.stderr, format+"\n", args...)
}

// interactive tells whether w is a terminal.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// interruptible makes Ctrl-C and SIGTERM end the context, so that a long command can finish what it must. A second one ends
// the process at once. Call stop when done.
func interruptible(ctx context.Context) (_ context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// errInterrupted ends a long command that was told to stop.
var errInterrupted = errors.New("interrupted")
