package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// BucketSettings are a bucket's settings as the API spells them.
type BucketSettings struct {
	N       int    `json:"n"`
	R       Text   `json:"r,omitempty"` // "" in a change: the node's default
	W       Text   `json:"w,omitempty"`
	DW      Text   `json:"dw,omitempty"` // "" in a change: the default, or w where that is less
	Sloppy  bool   `json:"sloppy"`
	Resolve string `json:"resolve"`       // "siblings" or "lww"
	TTL     string `json:"ttl,omitempty"` // how long values live that do not say so, as Go writes durations; "" or "0s" = for ever
}

// DefaultBucket is what a bucket that nobody has set has.
var DefaultBucket = BucketSettings{N: 3, R: "quorum", W: "quorum", DW: "quorum", Resolve: "siblings"}

// Cluster is the members as one node sees them.
type Cluster struct {
	Cluster             string   `json:"cluster"`
	Ring                uint64   `json:"ring"` // 0 = no ring has formed
	Members             []Member `json:"members"`
	HintsPending        int      `json:"hints_pending"`
	DivergentPartitions int      `json:"divergent_partitions"`
	Node                string   `json:"-"` // base URL of the node that was asked
	Raw                 []byte   `json:"-"`
}

// Member is one node of a cluster.
type Member struct {
	Name       string  `json:"name"`
	ID         string  `json:"id"`
	HTTP       string  `json:"http"`
	Peer       string  `json:"peer"`
	Gossip     string  `json:"gossip"`
	Zone       string  `json:"zone"`
	Weight     float64 `json:"weight"`
	State      string  `json:"state"`  // member, joining, leaving or none
	Health     string  `json:"health"` // alive, suspect or dead
	Partitions int     `json:"partitions"`
	Version    string  `json:"version"`
}

// Ring is the owners of each partition.
type Ring struct {
	Ring       uint64      `json:"ring"`
	Hash       Text        `json:"hash"`
	Partitions []Partition `json:"partitions"`
	Raw        []byte      `json:"-"`
}

// Partition is one range of keys with its owners in order of preference.
type Partition struct {
	ID     int      `json:"id"`
	Owners []string `json:"owners"`
}

// Explanation is what every replica of a key holds.
type Explanation struct {
	Partition  int
	Token      string
	Preference []string
	Replicas   []Replica
	Raw        []byte
}

// Replica is one replica's own answer.
type Replica struct {
	Node       string
	Role       string
	Found      bool
	Values     []Value
	Tombstones int
	Digest     string // equal exactly where the stored objects are
	Hint       bool   // what is shown is what a stand-in keeps for an owner
	MS         float64
	Error      string
}

// getJSON reads a document into out, and returns it as it came.
func (c *Client) getJSON(ctx context.Context, path string, out any) (*answer, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return nil, fmt.Errorf("answer of %s: decode %s: %w", a.node, path, err)
	}
	return a, nil
}

// Cluster asks one node for the members.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	var out Cluster
	a, err := c.getJSON(ctx, "/v1/cluster", &out)
	if err != nil {
		return nil, err
	}
	out.Node, out.Raw = a.node, a.body
	return &out, nil
}

// Ring asks one node for the owners of the partitions.
func (c *Client) Ring(ctx context.Context) (*Ring, error) {
	var out Ring
	a, err := c.getJSON(ctx, "/v1/cluster/ring", &out)
	if err != nil {
		return nil, err
	}
	out.Raw = a.body
	return &out, nil
}

// Node asks the preferred node about itself. The document is returned as it came.
func (c *Client) Node(ctx context.Context) (json.RawMessage, error) {
	var out json.RawMessage
	_, err := c.getJSON(ctx, "/v1/node", &out)
	return out, err
}

// Explain asks every replica of a key for what it holds. Nothing is repaired by looking.
func (c *Client) Explain(ctx context.Context, bucket, key string) (*Explanation, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/explain/" + url.PathEscape(bucket) + "/" + escapeKey(key)})
	if err != nil {
		return nil, err
	}
	e := &Explanation{Raw: a.body}
	err = Members(a.body, func(name string, raw []byte) error {
		switch name {
		case "partition":
			return json.Unmarshal(raw, &e.Partition)
		case "token":
			return json.Unmarshal(raw, (*Text)(&e.Token))
		case "preference", "preference_list":
			return json.Unmarshal(raw, &e.Preference)
		case "replicas":
			return elements(raw, func(raw []byte) error {
				r, err := decodeReplica(raw)
				e.Replicas = append(e.Replicas, r)
				return err
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", a.node, err)
	}
	return e, nil
}

// decodeReplica reads one element of an explanation.
func decodeReplica(b []byte) (Replica, error) {
	var r Replica
	err := members(b, func(name string, raw []byte) (err error) {
		switch name {
		case "node":
			return json.Unmarshal(raw, &r.Node)
		case "role":
			return json.Unmarshal(raw, &r.Role)
		case "found":
			return json.Unmarshal(raw, &r.Found)
		case "tombstones":
			return json.Unmarshal(raw, &r.Tombstones)
		case "digest":
			return json.Unmarshal(raw, (*Text)(&r.Digest))
		case "hint":
			return json.Unmarshal(raw, &r.Hint)
		case "ms":
			return json.Unmarshal(raw, &r.MS)
		case "error":
			return json.Unmarshal(raw, (*Text)(&r.Error))
		case "values":
			r.Values, err = decodeValues(raw)
		}
		return err
	})
	return r, err
}

// Live asks the preferred node whether its process runs.
func (c *Client) Live(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/livez"})
	return err
}

// Ready asks the preferred node whether it is in the ring and serves. The *Error of one that is not says why.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: "/readyz"})
	return err
}

// Bucket reads a bucket's settings; one that nobody has set has the defaults. The answer comes as it is, too.
func (c *Client) Bucket(ctx context.Context, bucket string) (BucketSettings, []byte, error) {
	out := DefaultBucket
	a, err := c.getJSON(ctx, "/v1/buckets/"+url.PathEscape(bucket), &out)
	if err != nil {
		return out, nil, err
	}
	return out, a.body, nil
}

// SetBucket replaces a bucket's settings, and returns what applies then. The answer comes as it is, too.
func (c *Client) SetBucket(ctx context.Context, bucket string, settings BucketSettings) (BucketSettings, []byte, error) {
	body, err := json.Marshal(settings)
	if err != nil {
		return settings, nil, fmt.Errorf("encode bucket settings: %w", err)
	}
	a, err := c.do(ctx, call{
		method: http.MethodPut, path: "/v1/buckets/" + url.PathEscape(bucket), body: body,
		header: http.Header{"Content-Type": {"application/json"}},
	})
	if err != nil {
		return settings, nil, err
	}
	out := DefaultBucket
	if err := json.Unmarshal(a.body, &out); err != nil {
		return out, nil, fmt.Errorf("answer of %s: decode bucket settings: %w", a.node, err)
	}
	return out, a.body, nil
}

// DeleteBucket drops a bucket's settings: it has the defaults again. Its keys stay.
func (c *Client) DeleteBucket(ctx context.Context, bucket string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/buckets/" + url.PathEscape(bucket)})
	return err
}

// NamedBucket is a bucket in a listing.
type NamedBucket struct {
	Name string
	BucketSettings
}

// Buckets lists the buckets whose settings are known. The answer comes as it is, too.
func (c *Client) Buckets(ctx context.Context) ([]NamedBucket, []byte, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/buckets"})
	if err != nil {
		return nil, nil, err
	}
	list, err := decodeBuckets(a.body)
	if err != nil {
		return nil, nil, fmt.Errorf("answer of %s: %w", a.node, err)
	}
	return list, a.body, nil
}

// decodeBuckets reads {"buckets":…}, whose value is an array of settings with a name, or an object of settings by name.
func decodeBuckets(b []byte) ([]NamedBucket, error) {
	var out []NamedBucket
	add := func(name string, raw []byte) error {
		doc := struct {
			Bucket string `json:"bucket"`
			Name   string `json:"name"`
			BucketSettings
		}{BucketSettings: DefaultBucket}
		if err := json.Unmarshal(raw, &doc); err != nil {
			return err
		}
		if name == "" {
			name = doc.Bucket + doc.Name
		}
		out = append(out, NamedBucket{Name: name, BucketSettings: doc.BucketSettings})
		return nil
	}
	found := false
	err := Members(b, func(name string, raw []byte) error {
		if name != "buckets" {
			return nil
		}
		found = true
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
			return Members(raw, add)
		}
		return Elements(raw, func(raw []byte) error { return add("", raw) })
	})
	if err == nil && !found {
		err = errors.New(`no "buckets"`)
	}
	return out, err
}
