package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Target is what a node keeps for another one.
type Target struct {
	Target    string  `json:"target"` // name or id of the other node
	Count     int64   `json:"count"`
	Bytes     int64   `json:"bytes"`
	Delivered uint64  `json:"delivered"`
	Rate      float64 `json:"rate"` // hints per second
	Error     string  `json:"error"`
	Divergent int     `json:"divergent_partitions"` // for which hints were dropped
}

// Hints is what a node keeps for others.
type Hints struct {
	Paused  bool     `json:"paused"`
	Known   bool     `json:"known"` // what an earlier run left is counted
	Targets []Target `json:"targets"`
}

// Count is the number of all hints, Divergent that of partitions for which some were dropped.
func (h Hints) Count() (count int64) {
	for _, t := range h.Targets {
		count += t.Count
	}
	return count
}

// Divergent counts the partitions, over all targets, for which hints were dropped.
func (h Hints) Divergent() (partitions int) {
	for _, t := range h.Targets {
		partitions += t.Divergent
	}
	return partitions
}

// Hints reads what a node keeps for others.
func (n Node) Hints(ctx context.Context) (Hints, error) {
	var h Hints
	err := n.decode(ctx, "/v1/hints", &h)
	return h, err
}

// NoHints is nil where nothing is kept for anybody on any of these nodes, and none is marked as dropped.
func NoHints(ctx context.Context, nodes []Node) error {
	var errs []error
	for _, n := range nodes {
		h, err := n.Hints(ctx)
		if err == nil && !h.Known {
			err = fmt.Errorf("%s still counts its hints", n.Name)
		}
		if err == nil && (h.Count() > 0 || h.Divergent() > 0) {
			err = fmt.Errorf("%s keeps %d hints, %d partitions divergent: %+v", n.Name, h.Count(), h.Divergent(), h.Targets)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Tombstones is the state of collection on one node.
type Tombstones struct {
	Waiting   int64  `json:"waiting"`
	Collected uint64 `json:"collected"`
	Refused   uint64 `json:"refused"`
	Blocker   string `json:"blocker"`
}

// Tombstones reads the state of collection.
func (n Node) Tombstones(ctx context.Context) (Tombstones, error) {
	var t Tombstones
	err := n.decode(ctx, "/v1/tombstones", &t)
	return t, err
}

// Progress is one line of a repair.
type Progress struct {
	Peer       string  `json:"peer"`
	Partitions int     `json:"partitions"`
	Total      int     `json:"total"`
	Different  int     `json:"different"`
	Sent       int64   `json:"objects_sent"`
	Received   int64   `json:"objects_received"`
	Read       int64   `json:"objects_read"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error"`
	Done       bool    `json:"done"`
	OK         bool    `json:"ok"`
}

// Repair has a node compare all of its partitions with their other owners now, and returns the last line. It fails where that
// does not say that all are equal.
func (n Node) Repair(ctx context.Context) (Progress, error) {
	b, err := n.do(ctx, http.MethodPost, "/v1/repair", nil)
	if err != nil {
		return Progress{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var last Progress
	for i, line := range lines {
		last = Progress{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			return last, fmt.Errorf("line %d of the repair by %s: %w: %q", i+1, n.Name, err, line)
		}
	}
	if !last.Done || !last.OK {
		return last, fmt.Errorf("the repair by %s ended with %s", n.Name, lines[len(lines)-1])
	}
	return last, nil
}

// PauseHints stops the delivery of hints by a node, or lets it go on.
func (n Node) PauseHints(ctx context.Context, paused bool) error {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	_, err := n.do(ctx, http.MethodPost, "/v1/hints", fmt.Appendf(nil, `{"paused":%t}`, paused))
	return err
}
