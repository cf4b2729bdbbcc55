package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/proc"
)

// whole waits until every node is ready and sees every other one alive. That ctx ends meanwhile is no error.
func (c *Chaos) whole(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	for _, p := range c.config.Nodes {
		err := p.WaitReady(limit)
		if err == nil {
			err = c.seesAll(limit, p)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("wait for all nodes to be well: %w\n%s", err, p.LogTail(lastWords))
		}
	}
	return nil
}

// seesAll polls a node's list of members until it has every node alive.
func (c *Chaos) seesAll(ctx context.Context, p *proc.Process) error {
	api, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: askTime, Connections: 1, UserAgent: "rondo-chaos"})
	if err != nil {
		return err
	}
	defer api.Close()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		if !p.Running() {
			return fmt.Errorf("%s ended, and nobody had broken it", p.Name)
		}
		missing := c.missing(ctx, api)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not seen all nodes alive after %v: %w", p.Name, healTime, missing)
		case <-tick.C:
		}
	}
}

// missing says which nodes are not alive in one node's eyes; nil = none.
func (c *Chaos) missing(ctx context.Context, api *client.Client) error {
	cluster, err := api.Cluster(ctx)
	if err != nil {
		return err
	}
	health := map[string]string{}
	for _, m := range cluster.Members {
		health[m.Name] = m.Health
	}
	var down []string
	for _, p := range c.config.Nodes {
		switch health[p.Name] {
		case "alive":
		case "":
			down = append(down, p.Name+" unknown")
		default:
			down = append(down, p.Name+" "+health[p.Name])
		}
	}
	if down == nil {
		return nil
	}
	return errors.New(strings.Join(down, ", "))
}
