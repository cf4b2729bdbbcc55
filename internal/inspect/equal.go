package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Class is the objects of one partition that have the same number of replicas: what one Merkle tree covers.
type Class struct {
	Partition int `json:"partition"`
	N         int `json:"n"`
}

// Tree is what a node tells of one of its trees.
type Tree struct {
	Class
	Root   string `json:"root"`
	Synced bool   `json:"synced"` // the node's "not found" counts in this class
}

// About is what a node tells of itself, as far as tests of repair need it.
type About struct {
	Incarnation string  `json:"incarnation"`
	Uptime      float64 `json:"uptime_s"`
	Keys        int64   `json:"keys"`
	Merkle      []Tree  `json:"merkle"`
	Repair      Repair  `json:"repair"`
	Disk        Disk    `json:"disk"`
}

// Repair is the summary of a node's anti-entropy.
type Repair struct {
	NeverEqual      int    `json:"never_equal"` // classes
	Unsynced        int    `json:"unsynced"`    // classes
	Exchanges       uint64 `json:"exchanges"`
	Failed          uint64 `json:"failed"`
	ObjectsSent     uint64 `json:"objects_sent"`
	ObjectsReceived uint64 `json:"objects_received"`
	Bytes           uint64 `json:"bytes"`
	Verified        uint64 `json:"verified_objects"`
	Damaged         uint64 `json:"damaged_objects"`
}

// Disk is the space of a node's volume.
type Disk struct {
	Free    int64 `json:"free_bytes"`
	Total   int64 `json:"total_bytes"`
	Reserve int64 `json:"reserve_bytes"`
	Full    bool  `json:"full"`
}

// About reads the node's page, with its trees.
func (n Node) About(ctx context.Context) (About, error) {
	var a About
	err := n.decode(ctx, "/v1/node?merkle=true", &a)
	return a, err
}

// owners reads the nodes of each partition in order of preference, by name.
func (n Node) owners(ctx context.Context) ([][]string, error) {
	var page struct {
		Partitions []struct {
			Owners []string `json:"owners"`
		} `json:"partitions"`
	}
	if err := n.decode(ctx, "/v1/cluster/ring?n=7", &page); err != nil {
		return nil, err
	}
	all := make([][]string, len(page.Partitions))
	for i, p := range page.Partitions {
		all[i] = p.Owners
	}
	return all, nil
}

// empty is the root of a tree that nothing is in, which a node need not list.
const empty = "0000000000000000"

// ErrNothing says that no node holds anything: equality of nothing is no result.
var ErrNothing = errors.New("no node has a tree with anything in it")

// Equal is nil where the trees of each class have one root on all of its owners: they hold the same objects. nodes are all members.
func Equal(ctx context.Context, nodes []Node) error {
	roots := map[string]map[Class]string{}
	classes := map[Class]bool{}
	for _, n := range nodes {
		a, err := n.About(ctx)
		if err != nil {
			return err
		}
		roots[n.Name] = map[Class]string{}
		for _, t := range a.Merkle {
			roots[n.Name][t.Class] = t.Root
			if t.Root != empty {
				classes[t.Class] = true
			}
		}
	}
	if len(classes) == 0 {
		return ErrNothing
	}
	owners, err := nodes[0].owners(ctx)
	if err != nil {
		return err
	}
	differ, example := 0, ""
	for c := range classes {
		if c.Partition >= len(owners) {
			return fmt.Errorf("partition %d of %d", c.Partition, len(owners))
		}
		var seen, texts []string
		for _, name := range owners[c.Partition][:min(c.N, len(owners[c.Partition]))] {
			root := roots[name][c]
			if root == "" {
				root = empty
			}
			seen, texts = append(seen, root), append(texts, name+" "+root)
		}
		slices.Sort(seen)
		if len(slices.Compact(seen)) > 1 {
			differ++
			example = fmt.Sprintf("partition %d (n=%d): %v", c.Partition, c.N, texts)
		}
	}
	if differ > 0 {
		return fmt.Errorf("%d of %d classes differ, for example %s", differ, len(classes), example)
	}
	return nil
}
