package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/chaos"
	"github.com/rondodb/rondo/internal/proc"
)

// strip shows faults as they happen, each on a line of its own with the state of all nodes. Not safe for concurrent use.
type strip struct {
	w     io.Writer
	names []string
	down  map[string]chaos.What
}

func newStrip(w io.Writer, nodes []*proc.Process) *strip {
	s := &strip{w: w, down: map[string]chaos.What{}}
	for _, n := range nodes {
		s.names = append(s.names, n.Name)
	}
	return s
}

// stripColumn is where the states begin, in characters.
const stripColumn = 48

// event shows one fault that begins or is over.
func (s *strip) event(e chaos.Event) {
	if e.Over {
		delete(s.down, e.Node)
	} else {
		s.down[e.Node] = e.What
	}
	line := time.Now().Format(time.TimeOnly) + "  " + eventText(e)
	gap := strings.Repeat(" ", max(2, stripColumn-utf8.RuneCountInString(line)))
	fmt.Fprintln(s.w, line+gap+s.states())
}

// states is the state of every node.
func (s *strip) states() string {
	var all []string
	for _, name := range s.names {
		if what, down := s.down[name]; down {
			all = append(all, name+" ○ "+past[what])
		} else {
			all = append(all, name+" ●")
		}
	}
	return strings.Join(all, "  ")
}

// past is what has been done to a node.
var past = map[chaos.What]string{chaos.Kill: "killed", chaos.Pause: "frozen", chaos.Drain: "stopped"}

// eventText is a fault in words.
func eventText(e chaos.Event) string {
	if e.Over {
		return fmt.Sprintf("%s is back after %s", e.Node, secondsText(e.For))
	}
	switch e.What {
	case chaos.Kill:
		return fmt.Sprintf("%s: kill -9, restart in %s", e.Node, secondsText(e.For))
	case chaos.Pause:
		return fmt.Sprintf("%s: frozen (SIGSTOP) for %s", e.Node, secondsText(e.For))
	}
	return fmt.Sprintf("%s: told to stop, restart in %s", e.Node, secondsText(e.For))
}

func secondsText(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
