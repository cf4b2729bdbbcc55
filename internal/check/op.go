package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	Put    Kind = "put"
	Delete Kind = "delete"
	Read   Kind = "read"
)

// Outcome is what became of an operation, as far as its client knows.
type Outcome string

// Outcomes. Fail is only for what certainly did not happen; a timeout, a broken connection or a server error is Unknown.
const (
	OK      Outcome = "ok"
	Fail    Outcome = "fail"
	Unknown Outcome = "unknown"
)

// Fresh is the ContextIn of a write that replaces nothing.
const Fresh = "none"

// Op is one operation of a history.
type Op struct {
	ID     int    `json:"id"`
	Client string `json:"client"`
	// Session names a client session whose reads must never go back behind what it has read and written. "" = none.
	Session string `json:"session,omitempty"`
	Node    string `json:"node,omitempty"` // which node was asked
	Key     string `json:"key"`
	Kind    Kind   `json:"kind"`
	Value   string `json:"value,omitempty"` // of a put; no two puts of a key may have the same

	// ContextIn is the token that was sent: "" for none at all (a write then replaces whatever its coordinator held), or
	// Fresh. ContextOut is the token in the answer.
	ContextIn  string `json:"context_in,omitempty"`
	ContextOut string `json:"context_out,omitempty"`

	Values []string `json:"values,omitempty"` // versions that the answer showed

	// Strict says that the operation was made with r+w>n and counted only owners: its promise is the quorum rules'.
	Strict bool `json:"strict,omitempty"`
	// Final says that this read was made after all faults were gone and all replicas had time to agree, through a quorum or on
	// one replica alone. All final reads of a key must show the same.
	Final bool `json:"final,omitempty"`

	// Invoke and Return are when the operation began and ended, in nanoseconds of one monotonic clock for the whole history.
	// Return means nothing where the outcome is Unknown.
	Invoke  int64   `json:"invoke"`
	Return  int64   `json:"return,omitempty"`
	Outcome Outcome `json:"outcome"`
}

// String is the operation on one line, for evidence.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", o.ID, o.Client, o.Kind)
	if o.Kind == Put {
		fmt.Fprintf(&b, " %q", o.Value)
	}
	if o.Node != "" {
		fmt.Fprintf(&b, " at %s", o.Node)
	}
	if o.Kind != Read && o.ContextIn == "" {
		b.WriteString(", without a context")
	}
	if o.ContextIn != "" {
		fmt.Fprintf(&b, ", context %s", clip(o.ContextIn))
	}
	fmt.Fprintf(&b, " → %s", o.Outcome)
	if o.Kind == Read && o.Outcome == OK {
		fmt.Fprintf(&b, " %q", o.Values)
	}
	if o.ContextOut != "" {
		fmt.Fprintf(&b, ", context %s", clip(o.ContextOut))
	}
	fmt.Fprintf(&b, " [%v", time.Duration(o.Invoke))
	if o.Outcome != Unknown {
		fmt.Fprintf(&b, " to %v", time.Duration(o.Return))
	}
	b.WriteString("]")
	if o.Strict {
		b.WriteString(" strict")
	}
	if o.Final {
		b.WriteString(" final")
	}
	return b.String()
}

// clip keeps the end of a token, which tells one from another: it is a checksum.
func clip(token string) string {
	if len(token) <= 12 {
		return token
	}
	return "…" + token[len(token)-11:]
}

func (o Op) write() bool { return o.Kind == Put || o.Kind == Delete }

func (o Op) validate() error {
	switch {
	case o.Kind != Put && o.Kind != Delete && o.Kind != Read:
		return fmt.Errorf("kind %q", o.Kind)
	case o.Outcome != OK && o.Outcome != Fail && o.Outcome != Unknown:
		return fmt.Errorf("outcome %q", o.Outcome)
	case o.Outcome != Unknown && o.Return < o.Invoke:
		return errors.New("it returned before it was invoked")
	case o.Final && o.Kind != Read:
		return errors.New("a write cannot be final")
	}
	return nil
}

// Save writes a history as JSON lines.
func Save(w io.Writer, ops []Op) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for _, o := range ops {
		if err := e.Encode(o); err != nil {
			return fmt.Errorf("save operation %d: %w", o.ID, err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// Load reads a history that Save wrote. A last line that was cut is an error.
func Load(r io.Reader) ([]Op, error) {
	d := json.NewDecoder(bufio.NewReader(r))
	d.DisallowUnknownFields()
	var ops []Op
	for {
		var o Op
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("load operation %d of the history: %w", len(ops)+1, err)
		}
		ops = append(ops, o)
	}
}
