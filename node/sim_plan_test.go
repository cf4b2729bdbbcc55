package node

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// simPlan is the script of a seed: a cluster, clients, and faults of every kind that come alone, one on top of the other or in
// bursts. It uses nothing but its seed.
func simPlan(seed uint64) []string {
	p := &planner{random: rand.New(rand.NewPCG(seed, 99))}
	p.nodes = []int{3, 3, 3, 3, 4, 5, 5, 5, 6, 7}[p.random.IntN(10)]
	switch p.random.IntN(10) {
	case 0:
		p.add("set hints=off") // exchange alone must do
	case 1, 2:
		p.add("set hint-limit=%d", 500+p.random.IntN(5000))
	}
	p.add("cluster %d", p.nodes)
	levels := p.levels()
	extra := levels
	if p.random.IntN(3) == 0 {
		extra += fmt.Sprintf(" sloppy=%d", 10+p.random.IntN(91))
	}
	if p.expires = p.random.IntN(4) == 0; p.expires {
		extra += " ttl=3s skew=500ms"
	}
	if p.random.IntN(4) > 0 {
		extra += " quiet"
	}
	p.add("load clients=%d pace=%dms keys=%d seed=%d%s", 4+p.random.IntN(5), 60+p.random.IntN(120), 2+p.random.IntN(5), seed, extra)
	p.add("wait %v", p.span(time.Second, 3*time.Second))
	faults := 4 + p.random.IntN(7)
	disk := faults // the fault that takes one disk: what a quorum has acknowledged is on another one
	if levels == "" && p.random.IntN(3) == 0 {
		disk = p.random.IntN(faults)
	}
	for i := range faults {
		if i == disk {
			p.disk()
		} else {
			p.fault()
		}
		if p.random.IntN(4) > 0 { // else at once with the next
			p.add("wait %v", p.span(200*time.Millisecond, 8*time.Second))
		}
	}
	if p.random.IntN(4) == 0 { // long enough for the longest faults to end by themselves
		p.add("wait %v", p.span(30*time.Second, 55*time.Second))
	} else {
		p.add("wait %v", p.span(2*time.Second, 12*time.Second))
	}
	p.add("finish")
	return p.lines
}

type planner struct {
	random  *rand.Rand
	nodes   int
	expires bool // values do: clocks may be wrong by half a second only
	lines   []string
}

func (p *planner) add(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

func (p *planner) span(least, most time.Duration) time.Duration {
	return (least + time.Duration(p.random.Int64N(int64(most-least)))).Round(10 * time.Millisecond)
}

func (p *planner) node() string { return "n" + strconv.Itoa(1+p.random.IntN(p.nodes)) }

// levels are the bucket's mostly, else others: with each of them nothing acknowledged may be lost, and where r+w>n the quorum rules hold.
func (p *planner) levels() string {
	return []string{" w=all r=one", " w=one dw=one r=all", " w=one dw=one r=one", " dw=all w=all", " dw=one", "", "", "", "", ""}[p.random.IntN(10)]
}

// two are different nodes.
func (p *planner) two() string {
	both := p.random.Perm(p.nodes)[:2]
	return fmt.Sprintf("n%d n%d", both[0]+1, both[1]+1)
}

// some are one node mostly, then a majority, then all.
func (p *planner) some() string {
	var count int
	switch p.random.IntN(6) {
	case 0:
		return "all"
	case 1, 2:
		count = 1 + p.random.IntN(p.nodes)
	default:
		count = 1
	}
	var names []string
	for _, i := range p.random.Perm(p.nodes)[:count] {
		names = append(names, "n"+strconv.Itoa(i+1))
	}
	return strings.Join(names, " ")
}

// lasting is how long a fault lasts: seconds mostly, sometimes longer than memberlist remembers the dead by default.
func (p *planner) lasting() time.Duration {
	switch p.random.IntN(8) {
	case 0:
		if p.random.IntN(5) == 0 { // away for longer than anything waits
			return p.span(80*time.Second, 120*time.Second)
		}
		return p.span(30*time.Second, 50*time.Second)
	case 1, 2:
		return p.span(100*time.Millisecond, time.Second)
	}
	return p.span(time.Second, 10*time.Second)
}

// disk takes what one disk holds: all of it, a part, or what is new on it.
func (p *planner) disk() {
	node := p.node()
	switch p.random.IntN(4) {
	case 0:
		p.add("lose %s for %v", node, p.lasting())
	case 1:
		p.add("rot %s", node)
	case 2: // at rest: the next start finds it
		p.add("drain %s for %v", node, p.span(2*time.Second, 5*time.Second))
		p.add("wait 1s")
		p.add("rot %s %s", node, []string{"table", "journal", "manifest"}[p.random.IntN(3)])
	default:
		p.add("snapshot %s", node)
		p.add("wait %v", p.span(time.Second, 10*time.Second))
		p.fault()
		p.add("restore %s for %v", node, p.lasting())
	}
}

func (p *planner) fault() {
	switch p.random.IntN(20) {
	case 0, 1:
		p.add("crash %s for %v", p.some(), p.lasting())
	case 2, 3:
		p.add("power %s for %v", p.some(), p.lasting())
	case 4:
		p.add("drain %s for %v", p.node(), p.lasting())
	case 5, 6:
		p.add("pause %s for %v", p.node(), p.lasting())
	case 7:
		p.add("cut %s for %v", p.two(), p.lasting())
	case 8:
		p.add("oneway %s for %v", p.two(), p.lasting())
	case 9:
		p.add("isolate %s for %v", p.node(), p.lasting())
	case 10:
		p.add("mute %s for %v", p.node(), p.lasting())
	case 11, 12:
		p.add("split %s for %v", p.groups(), p.lasting())
	case 13:
		p.add("flap %s every %v for %v", p.two(), p.span(500*time.Millisecond, 3*time.Second), p.span(5*time.Second, 20*time.Second))
	case 14:
		p.add("slow %s %v for %v", p.node(), p.span(50*time.Millisecond, 1500*time.Millisecond), p.lasting())
	case 15:
		p.add("%s %d%% for %v", []string{"lossy", "double"}[p.random.IntN(2)], 5+p.random.IntN(45), p.lasting())
	case 16:
		p.add("reset %s", p.two())
	case 17:
		if p.expires {
			p.add("clock %s %v for %v", p.node(), p.span(-500*time.Millisecond, 500*time.Millisecond), p.lasting())
			return
		}
		if p.random.IntN(2) == 0 {
			p.add("drift %s %+d%% for %v", p.node(), p.random.IntN(41)-20, p.lasting())
			return
		}
		ahead := []time.Duration{time.Second, 30 * time.Second, time.Hour, 10 * 365 * 24 * time.Hour}[p.random.IntN(4)]
		if p.random.IntN(2) == 0 {
			ahead = -ahead
		}
		p.add("clock %s %v for %v", p.node(), ahead, p.lasting())
	case 18:
		p.add("%s %s for %v", []string{"full", "eio"}[p.random.IntN(2)], p.node(), p.lasting())
	default:
		p.add("storm every %v for %v", p.span(4*time.Second, 8*time.Second), p.span(8*time.Second, 25*time.Second))
	}
}

// groups are two or three sides of a partition.
func (p *planner) groups() string {
	order := p.random.Perm(p.nodes)
	at := 1 + p.random.IntN(p.nodes-1)
	var b strings.Builder
	for i, n := range order {
		if i == at || i == at+2 && p.random.IntN(4) == 0 {
			b.WriteString("/ ")
		}
		fmt.Fprintf(&b, "n%d ", n+1)
	}
	return strings.TrimSpace(b.String())
}

// isFault tells whether a line of a script breaks something, so that it may be left out.
func isFault(line string) bool {
	switch word, _, _ := strings.Cut(line, " "); word {
	case "cluster", "load", "wait", "finish":
		return false
	}
	return true
}
