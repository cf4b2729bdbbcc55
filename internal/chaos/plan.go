package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Level says how many nodes may be down at once.
type Level string

// The levels.
const (
	Gentle Level = "gentle" // one at a time, so that of three replicas two stay; needs three nodes
	Harsh  Level = "harsh"  // also several at once, and all at once
)

// What is a way to break a node.
type What string

// The ways.
const (
	Kill  What = "kill"  // kill -9, restarted later
	Pause What = "pause" // SIGSTOP, resumed later
	Drain What = "drain" // SIGTERM, restarted later
)

// DefaultEvery is the mean time from one fault to the next where nothing else is said.
const DefaultEvery = 8 * time.Second

// A fault lasts between these parts of the mean time between faults: 1 to 10 s at the default.
const (
	shortest = 0.125
	longest  = 1.25
)

// ways is how often each way is used, in turns of this length.
var ways = []What{Kill, Kill, Pause, Pause, Drain}

// Fault is one node that breaks.
type Fault struct {
	Node  int           // its index
	What  What          // how
	After time.Duration // from the start of the round
	For   time.Duration // until it is restarted or resumed
}

// Round is a pause in which every node is well, and then faults. Rounds do not overlap: the next begins when all nodes
// are back.
type Round struct {
	Wait   time.Duration
	Faults []Fault // no node twice; more than one only in harsh plans
}

// Plan makes rounds from a seed, without end. It is pure, and not safe for concurrent use.
type Plan struct {
	level Level
	nodes int
	every time.Duration
	rand  *rand.Rand

	turn []int  // nodes that have not been broken in this turn
	left []What // ways that have not been used in this turn
}

// NewPlan makes the plan for a number of nodes. every is the mean time from the start of one fault to that of the next, 0 the
// default; restarts come on top. The same arguments give the same plan.
func NewPlan(level Level, nodes int, every time.Duration, seed uint64) (*Plan, error) {
	switch {
	case level == "":
		level = Gentle
	case level != Gentle && level != Harsh:
		return nil, fmt.Errorf("level %q: use %s or %s", level, Gentle, Harsh)
	}
	switch {
	case nodes < 1:
		return nil, errors.New("no nodes to break")
	case nodes < 3 && level == Gentle:
		return nil, fmt.Errorf("%d nodes: with less than 3, no majority is left when one is down; use more, or level %s", nodes, Harsh)
	case every < 0:
		return nil, fmt.Errorf("time between faults %v: must be more than 0", every)
	case every == 0:
		every = DefaultEvery
	}
	return &Plan{level: level, nodes: nodes, every: every, rand: rand.New(rand.NewPCG(seed, 0xc4a05))}, nil
}

// Next is the next round.
func (p *Plan) Next() Round {
	// What is left of the mean time once the mean fault is over, at most four times as long.
	rest := (1 - (shortest+longest)/2) * float64(p.every)
	r := Round{Wait: time.Duration(min(p.rand.ExpFloat64(), 4) * rest)}
	count, together := p.size()
	first := p.length()
	for i := range count {
		f := Fault{Node: p.node(r.Faults), What: p.way(), For: first}
		switch {
		case together:
			f.What = Kill // as a power cut does
		case i > 0: // while the first one is down
			f.After, f.For = time.Duration(p.rand.Float64()*float64(first)), p.length()
		}
		r.Faults = append(r.Faults, f)
	}
	return r
}

// size is how many nodes break in this round, and whether they all do at the same instant.
func (p *Plan) size() (count int, together bool) {
	if p.level == Gentle || p.nodes == 1 {
		return 1, false
	}
	switch n := p.rand.IntN(10); {
	case n < 2:
		return p.nodes, true
	case n < 6 && p.nodes > 2:
		return 2 + p.rand.IntN(p.nodes-2), false
	}
	return 1, false
}

func (p *Plan) length() time.Duration {
	return time.Duration((shortest + p.rand.Float64()*(longest-shortest)) * float64(p.every))
}

// node takes the next node whose turn it is: each comes once before any comes again, except that none breaks twice in a round.
func (p *Plan) node(taken []Fault) int {
	for {
		for i, n := range p.turn {
			if !breaks(taken, n) {
				p.turn = append(p.turn[:i], p.turn[i+1:]...)
				return n
			}
		}
		p.turn = append(p.turn, p.rand.Perm(p.nodes)...)
	}
}

func breaks(faults []Fault, node int) bool {
	for _, f := range faults {
		if f.Node == node {
			return true
		}
	}
	return false
}

func (p *Plan) way() What {
	if len(p.left) == 0 {
		p.left = append(p.left, ways...)
		p.rand.Shuffle(len(p.left), func(i, j int) { p.left[i], p.left[j] = p.left[j], p.left[i] })
	}
	w := p.left[0]
	p.left = p.left[1:]
	return w
}
