package verify

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/rondodb/rondo/internal/check"
	"github.com/rondodb/rondo/internal/client"
)

// leastDial is how long an attempt to connect may take at least.
const leastDial = 50 * time.Millisecond

// target is one node.
type target struct {
	name   string
	client *client.Client // of this node alone
	state  watched
}

// newTarget connects to nothing yet.
func newTarget(c *Config, i int) (*target, error) {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	limit := max(c.Timeout/time.Duration(len(c.Nodes)), leastDial) // so that there is time for the next node
	one, err := client.New(client.Config{
		Nodes: []string{c.Nodes[i]}, Timeout: c.Timeout, Connections: c.Clients + 4, UserAgent: "rondo-verify",
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return dial(ctx, network, addr)
		},
	})
	if err != nil {
		return nil, err
	}
	return &target{name: c.Names[i], client: one}, nil
}

// answer is what a node said about a key.
type answer struct {
	context string
	values  []client.Value
	receipt client.Receipt
}

// send makes one request of an operation to this node.
func (t *target) send(ctx context.Context, bucket string, op *check.Op, body []byte, o client.Options) (answer, error) {
	o.Context = op.ContextIn
	switch op.Kind {
	case check.Put:
		o.ContentType = "application/json"
		return written(t.client.Put(ctx, bucket, op.Key, body, o))
	case check.Delete:
		return written(t.client.Delete(ctx, bucket, op.Key, o))
	}
	got, err := t.client.Get(ctx, bucket, op.Key, o)
	if err != nil {
		return absent(err)
	}
	return answer{got.Context, got.Values, got.Receipt}, nil
}

func written(w *client.Written, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return answer{context: w.Context, receipt: w.Receipt}, nil
}

// absent makes an answer of "no such key", which is one: with the context that says what was deleted. Any other error stays.
func absent(err error) (answer, error) {
	var e *client.Error
	if !errors.As(err, &e) || e.Code != client.CodeKeyNotFound {
		return answer{}, err
	}
	var doc struct{ Receipt client.Receipt }
	if bad := json.Unmarshal(e.Body, &doc); bad != nil {
		return answer{}, err
	}
	return answer{context: e.Context, receipt: doc.Receipt}, nil
}

// outcome is what an error says about an operation, and whether no node can know of it, so that another may be asked.
// Only what certainly did not happen has failed. A read that was refused has: it cannot have happened unnoticed.
func outcome(kind check.Kind, err error) (_ check.Outcome, next bool) {
	var (
		problem *client.Error
		lost    *client.Unreachable
	)
	switch {
	case err == nil:
		return check.OK, false
	case errors.As(err, &lost) && !lost.Sent:
		return check.Fail, true
	case errors.As(err, &lost):
		return check.Unknown, kind == check.Read
	case !errors.As(err, &problem):
		return check.Unknown, false // an answer that cannot be read
	case kind == check.Read, problem.Outcome == "not_applied":
		return check.Fail, false
	case problem.Outcome != "", problem.Status >= 500, problem.Status == http.StatusRequestTimeout:
		return check.Unknown, false
	}
	return check.Fail, false
}
