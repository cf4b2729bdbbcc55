package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rondodb/rondo/internal/client"
	"github.com/rondodb/rondo/internal/inspect"
	"github.com/rondodb/rondo/internal/proc"
)

// repairTime is how long the owners may take to hold the same again, without anybody reading, once a fault is over.
const repairTime = time.Minute

// collectTime is how long it may take until tombstones that every owner has are gone: one that is younger than a round waits for the next.
const collectTime = 2 * time.Minute

// repairing has the nodes do only this much of their repair: words of exchange, hints, collect and verify.
func (c *cluster) repairing(mechanisms string) { c.flags("--repair", mechanisms) }

// flags gives every node more flags. It counts from the next start on.
func (c *cluster) flags(args ...string) {
	for _, p := range c.nodes {
		p.Args = append(p.Args, args...)
	}
}

// page is a node's pages for operators.
func page(p *proc.Process) inspect.Node { return inspect.Node{Name: p.Name, URL: p.URL()} }

func pages(nodes []*proc.Process) (all []inspect.Node) {
	for _, p := range nodes {
		all = append(all, page(p))
	}
	return all
}

// about reads a node's page.
func (c *cluster) about(p *proc.Process) inspect.About {
	c.t.Helper()
	a, err := page(p).About(c.t.Context())
	c.must(err)
	return a
}

// equal waits until all owners hold the same and every node's votes count, without a read of any key, and returns how long that took.
func (c *cluster) equal(limit time.Duration) time.Duration {
	c.t.Helper()
	return c.until(limit, func(ctx context.Context) error {
		for _, p := range c.nodes {
			a, err := page(p).About(ctx)
			if err != nil {
				return err
			}
			if n := a.Repair.Unsynced; n > 0 {
				return fmt.Errorf("%s has no vote in %d classes", p.Name, n)
			}
		}
		return inspect.Equal(ctx, pages(c.nodes))
	})
}

// delivered waits until no node keeps a hint for another.
func (c *cluster) delivered(limit time.Duration) time.Duration {
	c.t.Helper()
	return c.until(limit, func(ctx context.Context) error { return inspect.NoHints(ctx, pages(c.nodes)) })
}

// dead waits until every one of by has declared every one of gone dead: suspects are still asked.
func (c *cluster) dead(gone, by []*proc.Process) {
	c.t.Helper()
	c.until(readyTime, func(ctx context.Context) error {
		for _, p := range by {
			all, err := members(ctx, p)
			if err != nil {
				return err
			}
			for _, m := range all {
				if m.Health != "dead" && slices.ContainsFunc(gone, func(g *proc.Process) bool { return g.Name == m.Name }) {
					return fmt.Errorf("%s sees %s %s", p.Name, m.Name, m.Health)
				}
			}
		}
		return nil
	})
}

// collected waits until no tombstone waits on any node, and returns how many objects were collected over all nodes since they started.
func (c *cluster) collected() (count uint64) {
	c.t.Helper()
	c.until(collectTime, func(ctx context.Context) error {
		count = 0
		for _, p := range c.nodes {
			t, err := page(p).Tombstones(ctx)
			if err == nil && t.Waiting > 0 {
				err = fmt.Errorf("%d tombstones wait on %s, blocked by %q", t.Waiting, p.Name, t.Blocker)
			}
			if err != nil {
				return err
			}
			count += t.Collected
		}
		return nil
	})
	return count
}

// through is a client of one node alone, closed with the test.
func (c *cluster) through(p *proc.Process) *client.Client {
	c.t.Helper()
	one, err := client.New(client.Config{Nodes: []string{p.URL()}, Timeout: witnessTimeout})
	c.must(err)
	c.t.Cleanup(one.Close)
	return one
}

// put writes a key through a node until it is acknowledged, with itself or value as the value. A node that has just come back may not be
// asked by the others yet.
func (c *cluster) put(one *client.Client, key, value string, o client.Options) *client.Written {
	c.t.Helper()
	var written *client.Written
	c.until(readyTime, func(ctx context.Context) (err error) {
		written, err = one.Put(ctx, loadBucket, key, []byte(value), o)
		return err
	})
	return written
}

// remove deletes a key through a node until it is acknowledged.
func (c *cluster) remove(one *client.Client, key string, o client.Options) {
	c.t.Helper()
	c.until(readyTime, func(ctx context.Context) error {
		_, err := one.Delete(ctx, loadBucket, key, o)
		return err
	})
}

// numbered are count keys with this prefix.
func numbered(prefix string, count int) (keys []string) {
	for i := range count {
		keys = append(keys, fmt.Sprint(prefix, "-", i))
	}
	return keys
}

// owned finds count keys whose three owners are exactly these, or include these where they are fewer.
func (c *cluster) owned(prefix string, count int, by ...*proc.Process) (keys []string) {
	c.t.Helper()
	one := c.through(c.nodes[0])
	for i := 0; len(keys) < count; i++ {
		if i > 200*count {
			c.t.Fatalf("only %d of %d keys are owned by %v", len(keys), count, by)
		}
		key := fmt.Sprint(prefix, "-", i)
		if !slices.ContainsFunc(by, func(p *proc.Process) bool { return !slices.Contains(c.owners(one, key), p.Name) }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// owners are the names of the owners of a key.
func (c *cluster) owners(one *client.Client, key string) (names []string) {
	c.t.Helper()
	for _, r := range c.replicas(one, key) {
		names = append(names, r.Node)
	}
	return names
}

// replicas are what the owners of a key hold, which one node asks them. Nothing is repaired by that.
func (c *cluster) replicas(one *client.Client, key string) []client.Replica {
	c.t.Helper()
	e, err := one.Explain(c.t.Context(), loadBucket, key)
	c.must(err)
	return slices.DeleteFunc(e.Replicas, func(r client.Replica) bool { return r.Role != "owner" })
}

// everywhere fails the test unless all owners hold the same object under each of these keys, with so many versions. It only looks.
func (c *cluster) everywhere(keys []string, values int) {
	c.t.Helper()
	one := c.through(c.nodes[0])
	wrong := 0
	for _, key := range keys {
		all := c.replicas(one, key)
		for _, r := range all {
			if r.Error == "" && len(r.Values) == values && r.Digest == all[0].Digest {
				continue
			}
			if wrong++; wrong <= 5 {
				c.t.Errorf("%s on %s: %d versions, digest %s, error %q; want %d versions, digest %s", key, r.Node, len(r.Values), r.Digest, r.Error, values, all[0].Digest)
			}
		}
	}
	if wrong > 5 {
		c.t.Errorf("%d replicas are wrong", wrong)
	}
}

// forgotten fails the test unless no owner holds anything under these keys, not even a tombstone.
func (c *cluster) forgotten(keys []string) {
	c.t.Helper()
	one := c.through(c.nodes[0])
	for _, key := range keys {
		for _, r := range c.replicas(one, key) {
			if r.Error != "" || r.Found || r.Tombstones > 0 || len(r.Values) > 0 {
				c.t.Errorf("%s on %s: found %v, %d versions, %d tombstones, error %q; want nothing", key, r.Node, r.Found, len(r.Values), r.Tombstones, r.Error)
			}
		}
	}
}

// absent fails the test unless keys are not found, through every node.
func (c *cluster) absent(keys []string) {
	c.t.Helper()
	for _, p := range c.nodes {
		one := c.through(p)
		for _, key := range keys {
			object, err := one.Get(c.t.Context(), loadBucket, key, client.Options{R: "quorum"})
			var problem *client.Error
			if !errors.As(err, &problem) || problem.Code != client.CodeKeyNotFound {
				c.t.Errorf("%s through %s: %+v, %v; want that it is not found", key, p.Name, object, err)
			}
		}
	}
}

// holds fails the test unless every node answers a strict read of each key with exactly this value, "" = the key itself.
func (c *cluster) holds(keys []string, value string) {
	c.t.Helper()
	for _, p := range c.nodes {
		one := c.through(p)
		for _, key := range keys {
			want := value
			if want == "" {
				want = key
			}
			object, err := one.Get(c.t.Context(), loadBucket, key, client.Options{R: "quorum", Sloppy: "false"})
			if err != nil || len(object.Values) != 1 || string(object.Values[0].Data) != want {
				c.t.Errorf("%s through %s: %+v, %v; want %q", key, p.Name, object, err, want)
			}
		}
	}
}
