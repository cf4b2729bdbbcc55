package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/rondodb/rondo/internal/client"
	"github.com/spf13/cobra"
)

// askTimeout is how long one of all nodes may take to answer, where --timeout does not say.
const askTimeout = 2 * findTimeout

// nodeFlags are the flags of commands that ask nodes for what only they know.
type nodeFlags struct {
	all    bool
	output string
}

func (f *nodeFlags) addTo(cmd *cobra.Command) {
	cmd.PersistentFlags().BoolVar(&f.all, "all", false, "ask every node of the cluster, not only the one that --node names")
	cmd.PersistentFlags().StringVarP(&f.output, "output", "o", "table", "`FORM` of the answer: table or json")
}

// askedNode is a node that is asked.
type askedNode struct {
	name string
	url  string
	err  error // why it cannot be asked
}

// asked finds the nodes that a command asks: the first of --node that answers; or all that it knows of, under the addresses that they
// advertise.
func (s *session) asked(ctx context.Context, all bool) ([]askedNode, error) {
	c, err := s.dial(1)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	self, err := c.Status(ctx, false)
	if err != nil {
		return nil, err
	}
	if !all {
		return []askedNode{{name: self.Name, url: self.URL}}, nil
	}
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	var out []askedNode
	for _, m := range cluster.Members {
		n := askedNode{name: m.Name, url: withHost(self.URL, m.HTTP)}
		switch {
		case m.ID == self.ID:
			n.url = self.URL // the address that works from here
		case m.HTTP == "":
			n.err = errors.New("its address is not known")
		}
		out = append(out, n)
	}
	return out, nil
}

// told is what one node answered.
type told[T any] struct {
	askedNode
	answer T
}

// askEach asks nodes at the same time, each for itself. What fails is part of the answers; only where none answers is the first failure
// returned.
func askEach[T any](ctx context.Context, s *session, nodes []askedNode, question func(ctx context.Context, c *client.Client) (T, error)) ([]told[T], error) {
	out := make([]told[T], len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		out[i].askedNode = n
		if n.err != nil {
			continue
		}
		group.Go(func() {
			wait := s.timeout
			if wait <= 0 && len(nodes) > 1 {
				wait = askTimeout
			}
			c, err := client.New(client.Config{Nodes: []string{n.url}, Timeout: wait, UserAgent: "rondo-cli"})
			if err != nil {
				out[i].err = err
				return
			}
			defer c.Close()
			out[i].answer, out[i].err = question(ctx, c)
		})
	}
	group.Wait()
	for _, t := range out {
		if t.err == nil {
			return out, nil
		}
	}
	return out, out[0].err
}

// toldJSON is the answers as one document, each under the name of its node.
func toldJSON[T any](answers []told[T], name string, raw func(T) []byte) (string, error) {
	nodes := []map[string]any{}
	for _, t := range answers {
		n := map[string]any{"node": t.name}
		if t.err != nil {
			n["error"] = t.err.Error()
		} else {
			n[name] = json.RawMessage(raw(t.answer))
		}
		nodes = append(nodes, n)
	}
	b, err := json.MarshalIndent(map[string]any{"nodes": nodes}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode answers: %w", err)
	}
	return string(b) + "\n", nil
}

// failuresText is a line for each node that did not answer.
func failuresText[T any](answers []told[T]) string {
	text := ""
	for _, t := range answers {
		if t.err != nil {
			text += fmt.Sprintf("No answer from %s: %v\n", shown(t.name), t.err)
		}
	}
	return text
}
