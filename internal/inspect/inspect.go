// Package inspect reads the pages that nodes have for operators, as tests need them: whether all owners hold the same, what waits for
// whom, and the figures of /metrics. It reads no key, so that nothing is repaired by looking. For tests only.
package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Node is one node's API.
type Node struct {
	Name string
	URL  string // base address
}

// pageTime is how long one page may take.
const pageTime = 5 * time.Second

// get reads a page.
func (n Node) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	return n.do(ctx, http.MethodGet, path, nil)
}

func (n Node) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, n.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.Name, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.Name, err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d: %.300s", method, path, response.StatusCode, b)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.Name, err)
	}
	return b, nil
}

// decode reads a page into v.
func (n Node) decode(ctx context.Context, path string, v any) error {
	b, err := n.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %s of %s: %w", path, n.Name, err)
	}
	return nil
}

// Metrics are the node's figures. The name of one is as it stands in the text, with its labels: rondo_exchanges_total{result="ok"}.
type Metrics map[string]float64

// Metrics reads the node's figures.
func (n Node) Metrics(ctx context.Context) (Metrics, error) {
	b, err := n.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	all := Metrics{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if value, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			all[line[:i]] = value
		}
	}
	return all, lines.Err()
}

// Sum adds up a figure over all of its labels; 0 where it is not there.
func (m Metrics) Sum(name string) (sum float64) {
	for full, value := range m {
		if full == name || strings.HasPrefix(full, name+"{") {
			sum += value
		}
	}
	return sum
}

// Has tells whether a figure is there, with whatever labels.
func (m Metrics) Has(name string) bool {
	for full := range m {
		if full == name || strings.HasPrefix(full, name+"{") {
			return true
		}
	}
	return false
}

// Sees is nil where the node sees exactly so many members alive, itself included, and all others dead: suspects are still asked.
func (n Node) Sees(ctx context.Context, alive int) error {
	var page struct {
		Members []struct {
			Name   string `json:"name"`
			Health string `json:"health"`
		} `json:"members"`
	}
	if err := n.decode(ctx, "/v1/cluster", &page); err != nil {
		return err
	}
	health := map[string]int{}
	for _, m := range page.Members {
		health[m.Health]++
	}
	if health["alive"] != alive || health["alive"]+health["dead"] != len(page.Members) {
		return fmt.Errorf("%s sees %+v, want %d alive and the others dead", n.Name, page.Members, alive)
	}
	return nil
}
