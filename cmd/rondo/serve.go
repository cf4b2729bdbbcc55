package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rondodb/rondo/node"
	"github.com/spf13/cobra"
)

// drainTime is how long a node may take to stop cleanly.
const drainTime = 10 * time.Second

// newServeCommand runs one node until SIGTERM or Ctrl-C.
func newServeCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node",
		Long: `Run one node until SIGTERM or Ctrl-C, which drains it: it stops accepting, finishes what is in flight, tells the
others that it goes, flushes, and exits 0 within 10 seconds.

Every flag is also an environment variable (--http is RONDO_HTTP) and a key of the file given with --config (TOML).
A flag beats the environment, the environment beats the file. "rondo config print" shows what applies and why.`,
		Example: `  # one node, on its own
  rondo serve --data ./data

  # three nodes on three machines of a trusted network; run on each, with its own --advertise
  rondo serve --data /var/lib/rondo --http 0.0.0.0:7070 --peer 0.0.0.0:7071 --gossip 0.0.0.0:7072 \
    --advertise 10.0.0.1 --join 10.0.0.1:7072,10.0.0.2:7072,10.0.0.3:7072 --expect 3 --insecure`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, _, err := s.loadConfig(cmd)
			if err != nil {
				return usageError{err}
			}
			return serve(cmd.Context(), config, cmd.ErrOrStderr())
		},
	}
	addSettings(cmd)
	return cmd
}

// addSettings gives a command every setting of a node as a flag, and --config.
func addSettings(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	for _, s := range node.Settings() {
		if s.Bool() {
			cmd.Flags().Bool(s.Name, false, s.Usage)
		} else {
			cmd.Flags().Var(&settingValue{s.Default, s.Value}, s.Name, s.Usage)
		}
	}
	cmd.Flags().Var(&settingValue{"", "FILE"}, "config", "configuration file (TOML); also RONDO_CONFIG")
}

// settingValue is a flag whose value is checked later, together with those from elsewhere. Its type in the help text is the
// setting's placeholder.
type settingValue struct{ value, placeholder string }

// String is the value as it was given.
func (v *settingValue) String() string { return v.value }

// Set takes any text.
func (v *settingValue) Set(text string) error { v.value = text; return nil }

// Type is what the help text shows in the value's place.
func (v *settingValue) Type() string { return v.placeholder }

// loadConfig merges flags, environment, file and defaults.
func (s *session) loadConfig(cmd *cobra.Command) (node.Config, map[string]node.Source, error) {
	file := cmd.Flags().Lookup("config").Value.String()
	if file == "" {
		file, _ = s.env("RONDO_CONFIG")
	}
	return node.Load(file, func(name string) (string, bool) {
		f := cmd.Flags().Lookup(name)
		return f.Value.String(), f.Changed
	}, s.env)
}

// serve runs a node until ctx ends or a signal comes, then drains it.
func serve(ctx context.Context, config node.Config, logs io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := newLogger(config, logs)
	n, err := node.New(config, logger)
	if err != nil {
		return usageError{err}
	}
	if err := n.Open(); err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	select {
	case <-ctx.Done():
		logger.Info("draining", "limit", drainTime)
	case err = <-n.Failed():
		logger.Error("a listener failed, stopping", "error", err)
	}
	stop() // a second signal ends the process at once
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = errors.Join(err, n.Close(drain))
	if err == nil {
		logger.Info("stopped cleanly")
	}
	return err
}

// newLogger writes log lines in the configured form.
func newLogger(config node.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	switch config.LogLevel {
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	options := &slog.HandlerOptions{Level: level}
	if config.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
