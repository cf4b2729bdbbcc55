package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnavailable = 4
)

// usageError is a command line that cannot be meant so.
type usageError struct{ error }

// Unwrap is the reason.
func (e usageError) Unwrap() error { return e.error }

// statusError ends a command with a certain exit code. A nil error is not printed: the command has said it all.
type statusError struct {
	code int
	err  error
	next string // what to do, if anything
}

// Error is the reason.
func (e statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap is the reason.
func (e statusError) Unwrap() error { return e.err }

// exitCode maps an error to the documented codes.
func exitCode(err error) int {
	var (
		usage   usageError
		status  statusError
		problem *client.Error
		lost    *client.Unreachable
	)
	switch {
	case errors.As(err, &status):
		return status.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &problem):
		switch {
		case problem.Code == client.CodeInvalidArgument:
			return exitUsage
		case problem.Code == client.CodeKeyNotFound:
			return exitNotFound
		case problem.Status == http.StatusServiceUnavailable, problem.Status == http.StatusGatewayTimeout, problem.Status == http.StatusInsufficientStorage:
			return exitUnavailable
		}
		return exitFailure
	case errors.As(err, &lost), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	}
	return exitFailure
}

// report prints an error and what to do next.
func (s *session) report(cmd *cobra.Command, err error) {
	var status statusError
	if errors.As(err, &status) && status.err == nil {
		return
	}
	s.note("error: %v", err)
	if next := nextStep(cmd, err); next != "" {
		s.note("next:  %s", next)
	}
}

// nextStep says what the user can do about an error.
func nextStep(cmd *cobra.Command, err error) string {
	var (
		usage   usageError
		status  statusError
		problem *client.Error
		lost    *client.Unreachable
	)
	switch {
	case errors.As(err, &status) && status.next != "":
		return status.next
	case errors.As(err, &usage):
		if !cmd.HasParent() {
			return "rondo --help"
		}
		return "usage is " + strings.Replace(cmd.UseLine(), " [flags]", "", 1) + "; see " + cmd.CommandPath() + " --help"
	case errors.As(err, &lost):
		if !lost.Sent {
			return "is a node running there? start a cluster with \"rondo dev\", or name a node with --node or RONDO_NODE"
		}
		if cmd.Name() == "put" || cmd.Name() == "delete" {
			return "the write may have been applied: read the key before you write it again, or send the same bytes again"
		}
		return "try again, with a longer --timeout or another --node"
	case !errors.As(err, &problem):
		return ""
	}
	switch problem.Code {
	case client.CodeInvalidArgument:
		if f := cmd.Flags().Lookup("context-file"); f != nil && f.Changed {
			return "if the context is at fault: remove " + f.Value.String() + " and get the key again; else see " + cmd.CommandPath() + " --help"
		}
		return cmd.CommandPath() + " --help"
	case client.CodeKeyNotFound:
		if problem.Reason == "deleted" && cmd.Name() == "get" {
			return "to write it again, put with the --context-file of this get: then the write replaces the delete"
		}
		return "rondo list " + cmd.Flags().Arg(0) + " shows the keys that are there"
	case client.CodeTooManySiblings:
		return "get the key with --context-file, merge its versions, put the result with the same --context-file"
	case client.CodeTooLarge:
		return "store less in one value, or raise --max-value of the nodes"
	case client.CodeConflict:
		return "look at what is there now, then try again"
	case client.CodeQuorumUnavailable:
		return "rondo status shows which nodes are down; --consistency one asks for less"
	case client.CodeQuorumTimeout:
		if problem.Outcome == "unknown" {
			return "some replica may have it: read the key, or send the same bytes again"
		}
		return "try again with a longer --timeout, or --consistency one; rondo status shows what is slow or down"
	case client.CodeInsufficientStorage:
		return "free space on the disks; rondo status --all shows how much each node has"
	case client.CodeOverloaded:
		if problem.RetryAfter > 0 {
			return fmt.Sprintf("try again in %v", problem.RetryAfter)
		}
		return "try again in a moment, with fewer requests at once"
	case client.CodeNotReady:
		return "wait until \"rondo health --ready\" succeeds, or name another node with --node"
	case client.CodeInternal:
		return "look at the node's log"
	case "":
		return "is that a Rondo node? check --node"
	}
	return ""
}
