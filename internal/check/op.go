package check

import (
	"errors"
	"fmt"
	"math"
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

	// Want is how many replicas had to answer, and Acked how many the answer counts; WantDurable and Durable are the same for
	// acknowledgements of a write given after fsync. 0 = not asked for. An OK operation with less than it wanted breaks Receipt.
	Want        int `json:"want,omitempty"`
	Acked       int `json:"acked,omitempty"`
	WantDurable int `json:"want_durable,omitempty"`
	Durable     int `json:"durable,omitempty"`

	// Sloppy says that the client allowed stand-ins to take the place of owners that were down, and Standins how many of the replicas
	// that the answer counts were such. What only stand-ins saw is promised to arrive, not to be in the next read: such an operation
	// cannot be Strict. Stand-ins that nobody allowed break Receipt.
	Sloppy   bool `json:"sloppy,omitempty"`
	Standins int  `json:"standins,omitempty"`

	// Expires is when the version that a put writes stops being shown, by the clock of this history; 0 = never. Skew is how far that may be
	// off either way: by the time that the request took, and by the clocks that stamp and hide. From Expires-Skew on the
	// version may be missing, as if a delete had covered it; a read that begins after Expires+Skew must not show it any more. Where the
	// outcome of the put is Unknown only the former is judged: nobody knows when it was stamped.
	Expires int64 `json:"expires,omitempty"`
	Skew    int64 `json:"skew,omitempty"`

	// Element is what a put adds to the set that its key holds; no two puts of a key may add the same. Elements are, of a read
	// of a set, the union over the versions shown, in any order. See LostElement for what a history of sets must keep to.
	Element  string   `json:"element,omitempty"`
	Elements []string `json:"elements,omitempty"`

	// Strict says that the operation was made with r+w>n and counted only owners: its promise is the quorum rules'.
	Strict bool `json:"strict,omitempty"`
	// Minority says of a strict read that it asked half of the replicas or fewer. It includes every acknowledged write; but what it
	// has shown besides, an unfinished write on a single replica, a later one may miss.
	Minority bool `json:"minority,omitempty"`
	// Final says that this read was made after all faults were gone and all replicas had time to agree, through a quorum or on
	// one replica alone. All final reads of a key must show the same.
	Final bool `json:"final,omitempty"`
	// Digest is of a final read of one replica alone, which Node names: equal exactly where the stored objects are, with what no
	// answer shows, such as deletes. "" = not taken; that a replica holds nothing needs a digest of its own.
	Digest string `json:"digest,omitempty"`

	// Invoke and Return are when the operation began and ended, in nanoseconds of one monotonic clock for the whole history.
	// Where the outcome is Unknown, Return is when the client gave up, or 0 if the record ends before; no rule looks at it.
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
	if o.Element != "" {
		fmt.Fprintf(&b, " adding %q", o.Element)
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
		if len(o.Elements) > 0 {
			fmt.Fprintf(&b, " with %d elements", len(o.Elements))
		}
	}
	if o.Outcome == OK && o.Acked < o.Want {
		fmt.Fprintf(&b, ", %d of %d replicas", o.Acked, o.Want)
	}
	if o.Outcome == OK && o.Durable < o.WantDurable {
		fmt.Fprintf(&b, ", durable on %d of %d", o.Durable, o.WantDurable)
	}
	if o.Standins > 0 {
		fmt.Fprintf(&b, ", %d stand-ins", o.Standins)
	}
	if o.Expires != 0 {
		fmt.Fprintf(&b, ", expires at %v (give or take %v)", time.Duration(o.Expires), time.Duration(o.Skew))
	}
	if o.Digest != "" {
		fmt.Fprintf(&b, ", digest %s", clip(o.Digest))
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

// sendsToken tells whether o sent a context that it must have been given.
func (o Op) sendsToken() bool { return o.ContextIn != "" && o.ContextIn != Fresh }

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
	case o.Digest != "" && !o.Final:
		return errors.New("a digest belongs to a final read")
	case o.Element != "" && o.Kind != Put:
		return errors.New("only a put adds an element")
	case len(o.Elements) > 0 && o.Kind != Read:
		return errors.New("only a read shows elements")
	case min(o.Want, o.Acked, o.WantDurable, o.Durable, o.Standins) < 0:
		return errors.New("a receipt below zero")
	case o.Strict && o.Standins > 0:
		return errors.New("an operation that stand-ins took part in is not strict")
	case (o.Expires != 0 || o.Skew != 0) && o.Kind != Put:
		return errors.New("only what is put expires")
	case o.Skew < 0:
		return errors.New("a skew below zero")
	}
	return nil
}

// fades is the first moment at which a put's version may be missing because it has expired. Only for one that does.
func (o Op) fades() int64 { return max(o.Invoke, later(o.Expires, -o.Skew)) }

// hidden tells whether a read that begins then must not show a put's version any more.
func (o Op) hidden(begins int64) bool {
	return o.Expires != 0 && o.Outcome == OK && begins > later(o.Expires, o.Skew)
}

// later is a time and a span together, at most the first or last moment that there is.
func later(at, by int64) int64 {
	switch sum := at + by; {
	case by > 0 && sum < at:
		return math.MaxInt64
	case by < 0 && sum > at:
		return math.MinInt64
	default:
		return sum
	}
}
