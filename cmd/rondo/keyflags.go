package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// keyFlags are the flags of the commands on one key.
type keyFlags struct {
	r, w, dw, consistency string
	sloppy                bool
	ttl                   string
	changed               func(flag string) bool
	contextFile           string
	fresh                 bool
	receipt               bool
	base64                bool
	output                string
}

func (f *keyFlags) addTo(cmd *cobra.Command, outputs string) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.contextFile, "context-file", "", "causal context of the key in `FILE`: get writes it; all send what it holds and keep the new one in it")
	flags.BoolVar(&f.receipt, "receipt", false, "say on standard error what each replica did")
	flags.BoolVar(&f.base64, "key-base64", false, "KEY is base64, for keys that hold any bytes")
	flags.StringVarP(&f.output, "output", "o", "", "`FORM` of the answer: "+outputs)
	flags.StringVar(&f.consistency, "consistency", "", "`LEVEL` for r and w: one, quorum or all (default: the bucket's)")
	flags.BoolVar(&f.sloppy, "sloppy", false, "let stand-ins count for owners that are down; --sloppy=false: owners only (default: the bucket's)")
	f.changed = flags.Changed
}

// addRead adds what only reads have, addWrite what only writes have.
func (f *keyFlags) addRead(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.r, "r", "", "`COUNT` of replicas that must answer: 1 to n, one, quorum or all")
}

func (f *keyFlags) addWrite(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.w, "w", "", "`COUNT` of replicas that must acknowledge: 1 to n, one, quorum or all")
	cmd.Flags().StringVar(&f.dw, "dw", "", "`COUNT` of replicas that must have it synced to disk: 0 to w, one, quorum or all")
}

func (f *keyFlags) addTTL(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.ttl, "ttl", "", "`TIME` that the value lives, such as 90s or 24h, at least 1s; 0: for ever (default: the bucket's)")
}

// key is the bytes that KEY stands for.
func (f *keyFlags) key(arg string) (string, error) {
	if !f.base64 {
		return arg, nil
	}
	b, err := client.DecodeBase64(arg)
	if err != nil {
		return "", usageError{fmt.Errorf("KEY: %w", err)}
	}
	return string(b), nil
}

// checkOutput refuses a form that the command does not have.
func (f *keyFlags) checkOutput(forms ...string) error {
	if f.output == "" || slices.Contains(forms, f.output) {
		return nil
	}
	return usageError{fmt.Errorf("-o %s: use %s", f.output, strings.Join(forms, ", "))}
}

// options are the request's wishes, the context from the file included.
func (f *keyFlags) options() (client.Options, error) {
	o := client.Options{R: f.r, W: f.w, DW: f.dw, Consistency: f.consistency, FullReceipt: f.receipt, TTL: f.ttl}
	if f.changed("sloppy") {
		o.Sloppy = strconv.FormatBool(f.sloppy)
	}
	if f.contextFile != "" {
		token, err := readContext(f.contextFile)
		if err != nil {
			return o, err
		}
		o.Context = token
	}
	return o, nil
}

// keep stores the new context where the user wants it kept.
func (f *keyFlags) keep(token string) error {
	if f.contextFile == "" || token == "" {
		return nil
	}
	return writeFile(f.contextFile, []byte(token+"\n"))
}

// readContext reads a context file. One that does not exist yet is no context.
func readContext(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read context file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) > 4096 || strings.ContainsAny(token, " \t\r\n") {
		return "", usageError{fmt.Errorf("%s is not a context file: it should hold one token and nothing else", path)}
	}
	return token, nil
}

// writeFile replaces a file as a whole: after a crash it holds the old or the new bytes.
func writeFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, f.Close(), os.Remove(f.Name())))
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	return commitFile(f, path)
}

// commitFile syncs and closes a temporary file and gives it its name. Where it fails the file is still open.
func commitFile(f *os.File, path string) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}

// readValue is the value that the argument of put stands for: itself, "-" for standard input, "@file".
func (s *session) readValue(args []string) ([]byte, error) {
	arg := "-"
	if len(args) > 0 {
		arg = args[0]
	}
	switch {
	case arg == "-":
		b, err := io.ReadAll(io.LimitReader(s.stdin, maxInput+1))
		if err != nil {
			return nil, fmt.Errorf("read value from standard input: %w", err)
		}
		if len(b) > maxInput {
			return nil, usageError{fmt.Errorf("the value on standard input is more than %s", bytesText(maxInput))}
		}
		return b, nil
	case strings.HasPrefix(arg, "@"):
		info, err := os.Stat(arg[1:])
		if err == nil && info.Size() > maxInput {
			return nil, usageError{fmt.Errorf("%s has more than %s", arg[1:], bytesText(maxInput))}
		}
		b, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, usageError{fmt.Errorf("read value: %w", err)}
		}
		return b, nil
	}
	return []byte(arg), nil
}

// maxInput is the largest value that put reads: beyond what any node takes.
const maxInput = 64 << 20

// printReceipt says on standard error what an answer rests on.
func (s *session) printReceipt(r client.Receipt) {
	what := fmt.Sprintf("%d of %d replicas replied (%d required), agreed: %t, repaired: %d", r.Replied, r.N, r.Required, r.Agreed, r.Repaired)
	if r.Replied == 0 {
		what = fmt.Sprintf("%d of %d replicas acknowledged (%d required), %d synced to disk", r.Acked, r.N, r.Required, r.Durable)
	}
	s.note("receipt: %s; stand-ins: %d; ring %d; coordinator %s", what, r.Standins, r.Ring, r.Coordinator)
	if len(r.Replicas) == 0 {
		return
	}
	var rows [][]string
	for _, p := range r.Replicas {
		state := "no answer"
		switch {
		case p.Error != "":
			state = p.Error
		case p.OK && p.Durable:
			state = "ok, synced"
		case p.OK:
			state = "ok"
		}
		rows = append(rows, []string{p.Node, dash(p.Zone), p.Role, fmt.Sprintf("%.2f", p.MS), state})
	}
	s.note("%s", strings.TrimRight(table([]string{"NODE", "ZONE", "ROLE", "MS", "RESULT"}, rows), "\n"))
}

// dash stands for what is not set.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// keyText is a key as commands take it: with --key-base64 where it cannot be typed.
func keyText(key string) string {
	if shown(key) == key {
		return key
	}
	return "--key-base64 " + base64.StdEncoding.EncodeToString([]byte(key))
}
