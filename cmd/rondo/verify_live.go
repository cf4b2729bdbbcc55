package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rondodb/rondo/internal/verify"
	"golang.org/x/term"
)

// Shape of the live view.
const (
	sparkWidth = 60 // seconds that are shown
	viewWidth  = 80 // columns where the terminal does not tell
)

// verifyView shows a verification under way: on a terminal a block that is redrawn in place, with what happens to the nodes
// above it; elsewhere a line every five seconds. Not safe for concurrent use.
type verifyView struct {
	w        io.Writer
	terminal bool
	width    int
	total    time.Duration // of the load

	drawn int // lines of the block on the screen
	last  time.Time
	rates []verifySecond
	sum   verifySecond // since the last line
}

// verifySecond is what one bar stands for.
type verifySecond struct {
	ok, all int
	over    time.Duration
	p99     time.Duration
}

func (s verifySecond) rate() float64 {
	if s.over <= 0 {
		return 0
	}
	return float64(s.ok) / s.over.Seconds()
}

// available is the share that succeeded; 0 where nothing ended.
func (s verifySecond) available() float64 { return float64(s.ok) / float64(max(s.all, 1)) }

func (s verifySecond) availableText() string {
	switch {
	case s.all == 0:
		return "-"
	case s.ok == s.all:
		return "100 %"
	}
	return fmt.Sprintf("%.1f %%", min(100*s.available(), 99.9))
}

func newVerifyView(w io.Writer, total time.Duration) *verifyView {
	v := &verifyView{w: w, terminal: interactive(w), width: viewWidth, total: total, last: time.Now()}
	if f, ok := w.(*os.File); ok && v.terminal {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			v.width = width
		}
	}
	return v
}

// show is the Progress of a verification.
func (v *verifyView) show(p verify.Progress) {
	second := verifySecond{ok: p.OK, all: p.OK + p.Failed + p.Unknown, over: p.Over, p99: p.P99}
	if p.Phase == verify.PhaseLoad {
		v.rates = append(v.rates, second)
		v.rates = v.rates[max(0, len(v.rates)-sparkWidth):]
	}
	v.sum.ok += second.ok
	v.sum.all += second.all
	v.sum.over += second.over
	v.sum.p99 = max(v.sum.p99, second.p99)
	var out strings.Builder
	if v.terminal {
		v.erase(&out)
	}
	for _, e := range p.Events {
		out.WriteString(eventLine(e) + "\n")
	}
	switch {
	case v.terminal:
		lines := v.block(p)
		for _, line := range lines {
			out.WriteString(fit(line, v.width-1) + "\n")
		}
		v.drawn = len(lines)
	case time.Since(v.last) >= lineEvery-lineEvery/10: // told once a second, more or less
		out.WriteString(v.line(p) + "\n")
		v.last, v.sum = time.Now(), verifySecond{}
	}
	_, _ = io.WriteString(v.w, out.String()) // progress that cannot be shown does not matter
}

// finish takes the block away.
func (v *verifyView) finish() {
	var out strings.Builder
	v.erase(&out)
	_, _ = io.WriteString(v.w, out.String())
}

// erase removes the block: up so many lines, and clear to the end of the screen.
func (v *verifyView) erase(out *strings.Builder) {
	if v.drawn > 0 {
		fmt.Fprintf(out, "\x1b[%dA\r\x1b[J", v.drawn)
		v.drawn = 0
	}
}

func eventLine(e verify.Event) string { return fmt.Sprintf("%5s  %s", clockText(e.At), e.Text) }

// block is the live view, line by line.
func (v *verifyView) block(p verify.Progress) []string {
	lines := []string{"", fmt.Sprintf("%5s  %s   %s", clockText(p.Elapsed), v.phase(p), nodeStrip(p.Nodes))}
	if len(v.rates) == 0 {
		return append(lines, "")
	}
	now := v.rates[len(v.rates)-1]
	up, speed, slow := make([]float64, len(v.rates)), make([]float64, len(v.rates)), make([]float64, len(v.rates))
	for i, s := range v.rates {
		up[i], speed[i], slow[i] = s.available(), s.rate(), s.p99.Seconds()
	}
	p99 := "-"
	if now.p99 > 0 {
		p99 = durationText(now.p99)
	}
	return append(lines,
		fmt.Sprintf("       answered  %9s  %s", now.availableText(), spark(up, 1)),
		fmt.Sprintf("       ops/s     %9s  %s", countText(int64(now.rate())), spark(speed, 0)),
		fmt.Sprintf("       p99       %9s  %s", p99, spark(slow, 0)), "")
}

// phase says what goes on.
func (v *verifyView) phase(p verify.Progress) string {
	switch {
	case p.Phase == verify.PhaseLoad:
		return "of " + clockText(v.total)
	case p.Of > 0:
		return fmt.Sprintf("%s: %d of %d keys", p.Phase, p.Done, p.Of)
	}
	return p.Phase
}

// line is progress where there is no terminal.
func (v *verifyView) line(p verify.Progress) string {
	if p.Phase != verify.PhaseLoad {
		return fmt.Sprintf("%5s  %s   %s", clockText(p.Elapsed), v.phase(p), nodeStrip(p.Nodes))
	}
	return fmt.Sprintf("%5s  %s/s, %s answered, p99 %s   %s", clockText(p.Elapsed), countText(int64(v.sum.rate())), v.sum.availableText(),
		durationText(v.sum.p99), nodeStrip(p.Nodes))
}

// nodeStrip is the state of every node: n1 ●  n2 ○ no answer, 3.2 s.
func nodeStrip(nodes []verify.NodeState) string {
	var all []string
	for _, n := range nodes {
		switch {
		case !n.Known:
			all = append(all, n.Name+" ·")
		case n.Ready:
			all = append(all, n.Name+" ●")
		case n.Answers:
			all = append(all, fmt.Sprintf("%s ◐ not ready, %.1f s", n.Name, n.For.Seconds()))
		default:
			all = append(all, fmt.Sprintf("%s ○ no answer, %.1f s", n.Name, n.For.Seconds()))
		}
	}
	return strings.Join(all, "  ")
}

// spark draws values as bars; full is the value of the highest one, 0 for the greatest of them.
func spark(values []float64, full float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	if full == 0 {
		for _, v := range values {
			full = max(full, v)
		}
	}
	var b strings.Builder
	for _, v := range values {
		switch {
		case v <= 0 || full <= 0:
			b.WriteByte(' ')
		default:
			i := min(int(v/full*8), 7)
			b.WriteString(string([]rune(bars)[i]))
		}
	}
	return b.String()
}

// fit cuts a line to so many columns.
func fit(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	return string([]rune(line)[:max(columns-1, 0)]) + "…"
}
