package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/rondodb/rondo/internal/chaos"
	"github.com/rondodb/rondo/internal/proc"
	"github.com/rondodb/rondo/internal/verify"
)

// devVerify breaks the nodes for o.duration, or until soft ends, while clients write and read; heals all, and shows the verdict.
// hard ends it at once.
func devVerify(soft, hard context.Context, o devOptions, nodes []*proc.Process, out io.Writer) error {
	view := newVerifyView(out, o.duration)
	// Clients that stay at their node feel that node's trouble only, and not for long.
	config := verify.Config{Seed: o.seed, Stick: true, Timeout: time.Second, Progress: view.show}
	for _, n := range nodes {
		config.Nodes, config.Names = append(config.Nodes, n.URL()), append(config.Names, n.Name)
	}
	v, err := verify.New(config)
	if err != nil {
		return err
	}
	defer v.Close()
	result, err := devLoad(soft, hard, o, nodes, v)
	view.finish()
	if hard.Err() != nil {
		return errInterrupted // there is nothing to judge
	}
	if err != nil {
		return err
	}
	return devVerdict(result, o.data, out)
}

// devVerdict shows the verdict. One that is not a pass is an error, and its history is kept in the data folder.
func devVerdict(r *verify.Result, data string, out io.Writer) error {
	verdict := (&session{stdout: out}).printVerdict(r, "table")
	if verdict == nil {
		return nil
	}
	file := filepath.Join(data, "history.jsonl")
	if err := saveHistory(file, r.History); err != nil {
		return errors.Join(verdict, err)
	}
	fmt.Fprintf(out, "\nEvery operation is in %[1]s; rondo verify --check %[1]s judges it again.\n", file)
	return verdict
}

// devLoad is the load, the faults beside it, and what comes after both.
func devLoad(soft, hard context.Context, o devOptions, nodes []*proc.Process, v *verify.Verifier) (*verify.Result, error) {
	breaker, err := chaos.New(chaos.Config{Nodes: nodes, Seed: o.seed, Level: o.chaos, Every: o.every, Event: func(e chaos.Event) {
		if !e.Over { // that a node is back, the verification finds by itself
			v.Note(eventText(e))
		}
	}})
	if err != nil {
		return nil, err
	}
	load, cancel := context.WithTimeout(soft, o.duration)
	defer cancel()
	broken := make(chan error, 1)
	go func() {
		defer cancel() // a node that does not come back ends the load
		broken <- breaker.Break(load)
	}()
	if err = v.Load(load); err != nil && soft.Err() != nil {
		err = errInterrupted // before the first answer
	}
	cancel()
	if err = errors.Join(err, <-broken); err != nil {
		return nil, err
	}
	v.Note("no more faults: everything is brought back, and all that was written is read again")
	if err := breaker.Heal(hard); err != nil {
		return nil, err
	}
	return v.Finish(hard)
}
