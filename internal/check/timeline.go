package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a timeline.
const (
	timelineColumns = 160
	timelineOps     = 200
	timelineValue   = 20 // columns of a value, or of a list of them
	timelineName    = 16 // columns of a client's name
)

// Timeline is a picture of a short history, such as Shrink makes: a row for each client, and time to the right, so that two
// operations overlap in the picture exactly where they did in time. Time is not to scale; the line above says when the
// operations began, counted from the first one. No line is longer than 160 columns: what does not fit goes on in the next
// block. A bracket opens where an operation begins and closes where it ends; an unknown one has no end, and is drawn up to
// the client's next. Of more than 200 operations it shows the first 200, and says so.
func Timeline(ops []Op) string {
	ops = slices.Clone(ops)
	slices.SortStableFunc(ops, func(a, b Op) int { return cmp.Compare(a.Invoke, b.Invoke) })
	more := max(0, len(ops)-timelineOps)
	ops = ops[:len(ops)-more]
	p := newPicture(ops)
	p.place()
	out := p.draw()
	if more > 0 {
		out += fmt.Sprintf("and %d later operations\n", more)
	}
	return out
}

// picture is a timeline in the making: where each operation goes.
type picture struct {
	ops    []Op
	labels []string
	rows   []string // the client of each
	row    []int    // of each operation
	begin  []int    // column of each operation, all blocks beside each other
	end    []int    // the column of its closing bracket; for unknown ones, the first column that is not its own
	names  int      // columns for names
	width  int      // columns of a block without names
	total  int
}

func newPicture(ops []Op) *picture {
	p := &picture{ops: ops, row: make([]int, len(ops)), begin: make([]int, len(ops)), end: make([]int, len(ops))}
	for _, o := range ops {
		p.labels = append(p.labels, o.label())
		p.names = max(p.names, utf8.RuneCountInString(shorten(plain(o.Client), timelineName)))
	}
	p.width = timelineColumns - p.names - 1
	p.assignRows()
	return p
}

// assignRows gives each client a row, and one more for each operation that it began while another of its was under way.
func (p *picture) assignRows() {
	var clients []string
	for _, o := range p.ops {
		clients = append(clients, o.Client)
	}
	slices.Sort(clients)
	for _, client := range slices.Compact(clients) {
		first := len(p.rows)
		var last []Op // of each row of the client
		for i, o := range p.ops {
			if o.Client != client {
				continue
			}
			lane := slices.IndexFunc(last, func(l Op) bool {
				return l.Outcome == Unknown || l.Return < o.Invoke || l.Return == o.Invoke && l.Invoke < l.Return
			})
			if lane < 0 {
				lane = len(last)
				last, p.rows = append(last, Op{}), append(p.rows, client)
			}
			last[lane] = o
			p.row[i] = first + lane
		}
	}
}

// place gives columns to the begins and ends of operations, in the order of time, with room for what they say.
func (p *picture) place() {
	column := -1
	open := map[int]int{}            // the unknown operation that fills a row
	used := make([]int, len(p.rows)) // first free column of each row
	for _, e := range (&history{ops: p.ops}).events() {
		label := utf8.RuneCountInString(p.labels[e.op])
		row := p.row[e.op]
		column++
		if e.end {
			column = max(column, p.begin[e.op]+label+1)
			p.end[e.op] = column
			used[row] = column + 1
			continue
		}
		column = max(column, used[row])
		if column%p.width+label+2 > p.width { // it would be torn
			column += p.width - column%p.width
		}
		if i, unknown := open[row]; unknown {
			p.end[i] = column
			delete(open, row)
		}
		p.begin[e.op] = column
		if p.ops[e.op].Outcome == Unknown {
			used[row] = column + label + 2
			open[row] = e.op
		}
	}
	p.total = column + 1
	for _, u := range used {
		p.total = max(p.total, u)
	}
	for _, i := range open {
		p.end[i] = p.total
	}
}

// draw fills the rows, and cuts them into blocks.
func (p *picture) draw() string {
	grid := make([][]rune, len(p.rows)+1) // the first one is for the time
	for i := range grid {
		grid[i] = slices.Repeat([]rune{' '}, p.total)
	}
	free := 0
	for i, o := range p.ops {
		row, at := grid[p.row[i]+1], p.begin[i]
		fill, last := '-', ']'
		if o.Outcome == Unknown {
			fill, last = '~', '~'
		}
		for c := at; c < p.end[i]; c++ {
			row[c] = fill
		}
		if p.end[i] < len(row) && o.Outcome != Unknown {
			row[p.end[i]] = last
		}
		row[at] = '['
		copy(row[at+1:], []rune(p.labels[i]))
		when := []rune(time.Duration(o.Invoke - p.ops[0].Invoke).String())
		if at >= free && at%p.width+len(when) <= p.width && at+len(when) <= p.total {
			copy(grid[0][at:], when)
			free = at + len(when) + 1
		}
	}
	var b strings.Builder
	for from := 0; from < p.total; from += p.width {
		if from > 0 {
			b.WriteByte('\n')
		}
		for i, row := range grid {
			name := ""
			if i > 0 {
				name = shorten(plain(p.rows[i-1]), timelineName)
			}
			line := fmt.Sprintf("%-*s %s", p.names, name, string(row[from:min(from+p.width, p.total)]))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// label is what a timeline says of an operation.
func (o Op) label() string {
	var parts []string
	switch {
	case o.Kind == Read && o.Final:
		parts = append(parts, "final")
	case o.Kind == Read && !o.Strict:
		parts = append(parts, "weak read")
	default:
		parts = append(parts, shorten(plain(string(o.Kind)), timelineValue))
	}
	if o.Kind == Put {
		parts = append(parts, shorten(plain(o.Value), timelineValue))
	}
	if o.Element != "" {
		parts = append(parts, "+"+shorten(plain(o.Element), timelineValue))
	}
	switch {
	case o.Outcome == Unknown:
		parts = append(parts, "?")
	case o.Outcome == OK && o.Kind == Read:
		parts = append(parts, "= "+shorten(plain(strings.Join(o.Values, ",")), timelineValue))
		if len(o.Elements) > 0 {
			parts = append(parts, "{"+shorten(plain(strings.Join(o.Elements, ",")), timelineValue)+"}")
		}
	default:
		parts = append(parts, shorten(plain(string(o.Outcome)), timelineValue))
	}
	return strings.Join(parts, " ")
}

// plain has a dot for whatever would not take exactly one column.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, s)
}

// shorten cuts plain text to so many columns.
func shorten(s string, columns int) string {
	if len(s) <= columns {
		return s
	}
	return s[:columns-1] + "…"
}
