package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// RepairProgress is one step of a repair.
type RepairProgress struct {
	Peer       string  `json:"peer,omitempty"`   // node name
	Partitions int     `json:"partitions"`       // compared so far; a partition counts once for each other owner and replica count
	Total      int     `json:"total"`            // to be compared
	Different  int     `json:"different"`        // of the compared ones
	Sent       int64   `json:"objects_sent"`     // objects
	Received   int64   `json:"objects_received"` // objects
	Read       int64   `json:"objects_read"`     // listed from the node's store on the way
	Bytes      int64   `json:"bytes"`            // of messages, both ways
	Seconds    float64 `json:"seconds"`          // since the start
	Error      string  `json:"error,omitempty"`  // what could not be done; the rest goes on
	Done       bool    `json:"done,omitempty"`   // the last step
	OK         bool    `json:"ok,omitempty"`     // in the last step: everything is equal now
}

// maxLine is the longest line of progress that is read, in bytes.
const maxLine = 1 << 20

// Repair has the preferred node compare one partition, or all that it owns where partition is negative, with their other owners, and make
// them equal. progress is called for each step, from this goroutine. It takes as long as it takes, whatever the client's timeout; ctx ends
// it. An answer that breaks off is an *Unreachable with Sent: what was repaired until then stays.
func (c *Client) Repair(ctx context.Context, partition int, progress func(RepairProgress)) (RepairProgress, error) {
	request := call{method: http.MethodPost, path: "/v1/repair", query: url.Values{}, body: []byte{}}
	if partition >= 0 {
		request.query.Set("partition", strconv.Itoa(partition))
	}
	var failures []error
	first := c.first.Load()
	for i := range c.nodes {
		n := (first + uint32(i)) % uint32(len(c.nodes))
		last, err := c.repairAt(ctx, c.nodes[n], request, progress)
		var lost *Unreachable
		if !errors.As(err, &lost) || lost.Sent {
			c.first.Store(n)
			return last, err
		}
		failures = append(failures, err)
	}
	return RepairProgress{}, errors.Join(failures...)
}

func (c *Client) repairAt(ctx context.Context, node *url.URL, request call, progress func(RepairProgress)) (last RepairProgress, err error) {
	resp, err := c.open(ctx, node, request)
	if err != nil {
		return last, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		b, err := readAll(resp)
		if err != nil {
			return last, &Unreachable{Node: node.String(), Sent: true, Err: fmt.Errorf("read answer: %w", err)}
		}
		return last, decodeProblem(node.String(), resp, b)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var p RepairProgress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return last, fmt.Errorf("answer of %s: decode progress: %w", node, err)
		}
		last = p
		progress(p)
	}
	if err := lines.Err(); err != nil {
		return last, &Unreachable{Node: node.String(), Sent: true, Err: fmt.Errorf("read progress: %w", err)}
	}
	if !last.Done {
		return last, &Unreachable{Node: node.String(), Sent: true, Err: errors.New("the answer ended before the repair did")}
	}
	return last, nil
}

// Hints is what waits on one node for others.
type Hints struct {
	Paused  bool   `json:"paused"`
	Known   bool   `json:"known"` // false while the node still counts: the figures are too small
	Targets []Hint `json:"targets"`
	Node    string `json:"-"` // base URL of the node that was asked
	Raw     []byte `json:"-"`
}

// Hint is what waits for one node.
type Hint struct {
	Target              string  `json:"target"` // node name
	ID                  string  `json:"id"`
	Count               int     `json:"count"`
	Bytes               int64   `json:"bytes"`
	OldestS             float64 `json:"oldest_s"`
	Delivered           uint64  `json:"delivered"` // since the node's start
	Rate                float64 `json:"rate"`      // per second
	Error               string  `json:"error"`     // why nothing is delivered now
	DivergentPartitions int     `json:"divergent_partitions"`
}

// Hints asks the preferred node what waits on it for others.
func (c *Client) Hints(ctx context.Context) (*Hints, error) {
	return c.hints(ctx, call{method: http.MethodGet, path: "/v1/hints"})
}

// PauseHints stops the delivery of hints from the preferred node, or lets it go on, until that node is restarted.
func (c *Client) PauseHints(ctx context.Context, paused bool) (*Hints, error) {
	return c.hints(ctx, call{
		method: http.MethodPost, path: "/v1/hints", body: fmt.Appendf(nil, `{"paused":%t}`, paused),
		header: http.Header{"Content-Type": {"application/json"}},
	})
}

func (c *Client) hints(ctx context.Context, request call) (*Hints, error) {
	a, err := c.do(ctx, request)
	if err != nil {
		return nil, err
	}
	out := &Hints{Node: a.node, Raw: a.body}
	if err := json.Unmarshal(a.body, out); err != nil {
		return nil, fmt.Errorf("answer of %s: decode hints: %w", a.node, err)
	}
	return out, nil
}

// TombstonesSummary is the backlog of collection on one node.
type TombstonesSummary struct {
	Waiting int64   `json:"waiting"`
	OldestS float64 `json:"oldest_s"`
	Blocker string  `json:"blocker"` // a node and why it stops collection; "" where nothing does
}

// Tombstones is what waits on one node to be collected.
type Tombstones struct {
	TombstonesSummary
	Collected  uint64                `json:"collected"` // since the node's start
	Refused    uint64                `json:"refused"`
	Partitions []TombstonesPartition `json:"partitions"`
	Node       string                `json:"-"` // base URL of the node that was asked
	Raw        []byte                `json:"-"`
}

// TombstonesPartition is the backlog of one partition, for the buckets with one replica count.
type TombstonesPartition struct {
	Partition  int      `json:"partition"`
	N          int      `json:"n"`
	Waiting    int64    `json:"waiting"`
	OldestS    float64  `json:"oldest_s"`
	WatermarkS *float64 `json:"watermark_s"` // nil = never collected
	Blocker    string   `json:"blocker"`
}

// Tombstones asks the preferred node what waits on it to be collected.
func (c *Client) Tombstones(ctx context.Context) (*Tombstones, error) {
	var out Tombstones
	a, err := c.getJSON(ctx, "/v1/tombstones", &out)
	if err != nil {
		return nil, err
	}
	out.Node, out.Raw = a.node, a.body
	return &out, nil
}

// NodeStatus is what a node says about itself, as far as it concerns repair.
type NodeStatus struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Ready       bool              `json:"ready"`
	Reason      string            `json:"reason"` // why it is not ready
	UptimeS     float64           `json:"uptime_s"`
	Keys        int64             `json:"keys"`
	Incarnation string            `json:"incarnation"`
	Hints       []Hint            `json:"hints"`
	Repair      RepairStatus      `json:"repair"`
	Disk        DiskStatus        `json:"disk"`
	Tombstones  TombstonesSummary `json:"tombstones"`
	Merkle      []PartitionStatus `json:"merkle"` // where it was asked for
	URL         string            `json:"-"`      // base URL of the node that was asked
	Raw         []byte            `json:"-"`
}

// RepairStatus is anti-entropy on one node in short.
type RepairStatus struct {
	OldestEqualS    float64  `json:"oldest_equal_s"`
	NeverEqual      int      `json:"never_equal"` // partitions, since the node's start
	Unsynced        int      `json:"unsynced"`
	Exchanges       uint64   `json:"exchanges"`
	Failed          uint64   `json:"failed"`
	ObjectsSent     uint64   `json:"objects_sent"`
	ObjectsReceived uint64   `json:"objects_received"`
	Bytes           uint64   `json:"bytes"`
	VerifiedObjects uint64   `json:"verified_objects"`
	DamagedObjects  uint64   `json:"damaged_objects"`
	WrongLeaves     uint64   `json:"wrong_leaves"`
	VerifyAgeS      *float64 `json:"verify_age_s"` // nil = not since the node's start
}

// DiskStatus is the space on a node's disk.
type DiskStatus struct {
	FreeBytes    int64 `json:"free_bytes"`
	TotalBytes   int64 `json:"total_bytes"` // 0 = unknown
	ReserveBytes int64 `json:"reserve_bytes"`
	Full         bool  `json:"full"`
}

// PartitionStatus is what a node knows of the equality of one of its partitions.
type PartitionStatus struct {
	Partition int        `json:"partition"`
	N         int        `json:"n"`
	Root      string     `json:"root"`
	EqualS    *float64   `json:"equal_s"` // nil = not since the node's start
	Peers     []PeerDebt `json:"peers"`
	Synced    bool       `json:"synced"`
}

// PeerDebt is how long ago a partition was equal with one other owner.
type PeerDebt struct {
	Node   string   `json:"node"`
	EqualS *float64 `json:"equal_s"`
	Error  string   `json:"error"`
}

// Status asks the preferred node about itself; with its partitions where merkle is set.
func (c *Client) Status(ctx context.Context, merkle bool) (*NodeStatus, error) {
	request := call{method: http.MethodGet, path: "/v1/node"}
	if merkle {
		request.query = url.Values{"merkle": {"true"}}
	}
	a, err := c.do(ctx, request)
	if err != nil {
		return nil, err
	}
	out := &NodeStatus{URL: a.node, Raw: a.body}
	if err := json.Unmarshal(a.body, out); err != nil {
		return nil, fmt.Errorf("answer of %s: decode /v1/node: %w", a.node, err)
	}
	return out, nil
}
