package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rondodb/rondo/internal/client"
)

// findTimeout bounds each question of findNodes.
const findTimeout = 2 * time.Second

// foundNodes are the nodes that a load is put on.
type foundNodes struct {
	urls, names []string
	why         string // where they come from
}

// findNodes finds the names of the nodes that the user named, at least one of which must answer. Where only one was named, the
// members that it knows of and that can be reached from here are taken too.
func (s *session) findNodes(ctx context.Context) (foundNodes, error) {
	named := s.nodeList()
	var (
		found    foundNodes
		failures []error
	)
	for _, u := range named {
		name, err := nodeName(ctx, u)
		if err != nil {
			failures = append(failures, err)
			if name = u; strings.Contains(u, "://") {
				_, name, _ = strings.Cut(u, "://")
			}
		}
		found.urls, found.names = append(found.urls, u), append(found.names, name)
	}
	if len(failures) == len(named) {
		return found, errors.Join(failures...)
	}
	found.why = "these were named"
	if len(named) > 1 {
		return found, nil
	}
	others, err := members(ctx, named[0])
	if err != nil {
		return found, err
	}
	found.why = "found through " + named[0]
	if hidden := found.add(ctx, others); len(hidden) > 0 {
		found.why += fmt.Sprintf("; %s cannot be reached from here: name the nodes with --node", andList(hidden))
	}
	return found, nil
}

// add takes the members that can be reached from here, and returns the names of the others. Where the first node can be reached under
// the address that it has among the members, so can those that are down at the moment, later.
func (f *foundNodes) add(ctx context.Context, all []client.Member) (hidden []string) {
	self := slices.IndexFunc(all, func(m client.Member) bool { return m.Name == f.names[0] })
	open := false
	if self >= 0 {
		name, err := nodeName(ctx, withHost(f.urls[0], all[self].HTTP))
		open = err == nil && name == f.names[0]
	}
	for i, m := range all {
		if i == self {
			continue
		}
		u := withHost(f.urls[0], m.HTTP)
		name, err := nodeName(ctx, u)
		var down *client.Unreachable
		if err == nil && name == m.Name || open && errors.As(err, &down) {
			f.urls, f.names = append(f.urls, u), append(f.names, m.Name)
			continue
		}
		hidden = append(hidden, m.Name)
	}
	return hidden
}

// nodeName asks one node for its name.
func nodeName(ctx context.Context, node string) (string, error) {
	var doc struct{ Name string }
	err := ask(ctx, node, func(ctx context.Context, c *client.Client) error {
		raw, err := c.Node(ctx)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, &doc); err != nil || doc.Name == "" {
			return fmt.Errorf("%s: it does not say its name: is that a Rondo node?", node)
		}
		return nil
	})
	return doc.Name, err
}

// members asks one node who else there is.
func members(ctx context.Context, node string) (out []client.Member, err error) {
	err = ask(ctx, node, func(ctx context.Context, c *client.Client) error {
		cluster, err := c.Cluster(ctx)
		if err == nil {
			out = cluster.Members
		}
		return err
	})
	return out, err
}

// ask does one call to one node.
func ask(ctx context.Context, node string, call func(ctx context.Context, c *client.Client) error) error {
	c, err := client.New(client.Config{Nodes: []string{node}, Timeout: findTimeout, UserAgent: "rondo-cli"})
	if err != nil {
		return usageError{err}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	return call(ctx, c)
}

// withHost is a node's URL with another host and port.
func withHost(node, host string) string {
	if !strings.Contains(node, "://") {
		node = "http://" + node
	}
	u, err := url.Parse(node)
	if err != nil {
		return host // not reached: the node has answered under this URL
	}
	u.Host = host
	return u.String()
}
