package quorum

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

var rewrite = flag.Bool("rewrite", false, "write the outputs of testdata/*.txt anew")

// Scripts: each line of testdata/*.txt that begins with "> " is a step, the line after it is what the tally says then.
func TestTallyScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			run := &script{}
			lines := bufio.NewScanner(bytes.NewReader(want))
			for lines.Scan() {
				step, isStep := strings.CutPrefix(lines.Text(), "> ")
				switch {
				case isStep:
					fmt.Fprintf(&got, "> %s\n%s\n", step, run.step(t, step))
				case lines.Text() == "" || strings.HasPrefix(lines.Text(), "#"):
					fmt.Fprintln(&got, lines.Text())
				}
			}
			if *rewrite {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s\n(go test -run TestTallyScripts -rewrite writes it)", got.String(), want)
			}
		})
	}
}

// script runs the steps of one file.
type script struct {
	write *writeTally
	read  *readTally
}

func (s *script) step(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	number := func(i int) int {
		var n int
		if _, err := fmt.Sscan(f[i], &n); err != nil {
			t.Fatalf("step %q: %v", line, err)
		}
		return n
	}
	switch f[0] {
	case "write": // n w dw
		s.read, s.write = nil, &writeTally{n: number(1), w: number(2), dw: number(3)}
	case "read": // n r
		s.write, s.read = nil, &readTally{n: number(1), r: number(2)}
	case "ask":
		s.read.asked(number(1))
	case "digest": // replica object
		s.read.addDigest(number(1), digestOf(sample(f[2])), 0)
	case "object":
		s.read.addObject(number(1), digestOf(sample(f[2])), sample(f[2]), 0)
	case "fetch":
		var list []string
		s.read.wanted(func(i int) { list = append(list, fmt.Sprint(i)) })
		return "from " + strings.Join(list, " ")
	case "answer":
		o := s.read.merged()
		out := fmt.Sprintf("%v, replied %d, agreed %v, stale", values(o), s.read.replied(), s.read.agreed())
		for i := range s.read.n {
			if s.read.covered(i) && !s.read.holds(i, digestOf(o)) {
				out += fmt.Sprint(" ", i)
			}
		}
		return out
	case "fail":
		if s.read != nil {
			s.read.fail(number(1))
			break
		}
		s.write.add(writeFailed)
	default:
		r, ok := map[string]writeReply{"acked": writeAcked, "durable": writeDurable, "applied": writeApplied, "synced": writeSynced, "unsynced": writeUnsynced}[f[0]]
		if !ok {
			t.Fatalf("unknown step %q", line)
		}
		s.write.add(r)
	}
	if s.read != nil {
		return s.read.verdict().String()
	}
	return fmt.Sprintf("%v acked %d durable %d", s.write.verdict(), s.write.acked, s.write.durable)
}

// sample makes objects by name: "-" was never written; a, b, c are concurrent first writes; "ab" is b over a.
func sample(name string) vclock.Object {
	var o vclock.Object
	if name == "-" {
		return o
	}
	for i, r := range name {
		o, _ = o.Put(vclock.Actor(r), o.Clock, vclock.Sibling{Time: uint64(i + 1), Value: []byte(name[:i+1])})
	}
	return o
}

func digestOf(o vclock.Object) uint64 {
	if o.Empty() {
		return 0
	}
	return ring.Digest(vclock.AppendObject(nil, o))
}

// Every order of replies, every mix of what replicas do, for n up to 5 and all w and dw: the tally must say what a count of
// the final replies says, and must say so at the first reply after which nothing can change it.
func TestWriteTallyEveryOrder(t *testing.T) {
	kinds := []writeReply{writeAcked, writeDurable, writeFailed, writeApplied}
	cases := 0
	for n := 1; n <= 5; n++ {
		for w := 1; w <= n; w++ {
			for dw := 0; dw <= w; dw++ {
				cases += walkWrites(t, writeTally{n: n, w: w, dw: dw}, kinds, nil)
			}
		}
	}
	t.Logf("%d states", cases)
}

func walkWrites(t *testing.T, tally writeTally, kinds []writeReply, path []writeReply) int {
	t.Helper()
	states := 1
	// What can still be reached: every open replica and every sync under way at its best.
	open := tally.n - tally.acked - tally.failed
	got, want := tally.verdict(), pending
	switch {
	case tally.acked >= tally.w && tally.durable >= tally.dw:
		want = won
	case !reachable(tally):
		want = lost
	}
	if got != want {
		t.Fatalf("n=%d w=%d dw=%d after %v: got %v, want %v", tally.n, tally.w, tally.dw, path, got, want)
	}
	for _, k := range kinds {
		if open > 0 {
			next := tally
			next.add(k)
			states += walkWrites(t, next, kinds, append(path, k))
		}
	}
	if tally.syncing > 0 { // one local replica at most has two steps
		for _, k := range []writeReply{writeSynced, writeUnsynced} {
			next := tally
			next.add(k)
			states += walkWrites(t, next, []writeReply{writeAcked, writeDurable, writeFailed}, append(path, k))
		}
	}
	return states
}

// reachable tries all that may still come, by brute force.
func reachable(t writeTally) bool {
	if t.acked >= t.w && t.durable >= t.dw {
		return true
	}
	if t.syncing > 0 {
		next := t
		next.add(writeSynced)
		if reachable(next) {
			return true
		}
	}
	if t.n-t.acked-t.failed > 0 {
		next := t
		next.add(writeDurable)
		return reachable(next)
	}
	return false
}

// Every order of replies to a read, with every mix of fresh, stale, absent, failing and silent replicas, for n up to 5 and
// all r: it is won with r covered replicas exactly, the answer is the join of what they hold, and it is lost exactly when
// r can no longer be had.
func TestReadTallyEveryOrder(t *testing.T) {
	states := 0
	for n := 1; n <= 5; n++ {
		behaviours := 4 // old, new, failing, silent
		total := 1
		for range n {
			total *= behaviours
		}
		for mix := range total {
			kinds := make([]int, n)
			for i, m := 0, mix; i < n; i, m = i+1, m/behaviours {
				kinds[i] = m % behaviours
			}
			for r := 1; r <= n; r++ {
				w := readWalk{t: t, kinds: kinds, old: sample("a"), new: sample("ab")}
				w.dOld, w.dNew = digestOf(w.old), digestOf(w.new)
				w.walk(readTally{n: n, r: r}, 0)
				states += w.states
			}
		}
	}
	t.Logf("%d states", states)
}

type readWalk struct {
	t          *testing.T
	kinds      []int
	old, new   vclock.Object
	dOld, dNew uint64
	states     int
}

// walk has each replica that has not answered do so next; object tells whether the one to begin with sends its object.
func (w *readWalk) walk(tally readTally, answered int) {
	w.states++
	failed := 0
	for i := range tally.n {
		if tally.slots[i].state == slotFailed {
			failed++
		}
	}
	switch v := tally.verdict(); v {
	case won:
		if got := tally.replied(); got < tally.r {
			w.t.Fatalf("won with %d of %d", got, tally.r)
		}
		w.checkAnswer(&tally)
		return
	case lost:
		if tally.n-failed >= tally.r {
			w.t.Fatalf("lost with %d of n=%d failed, r=%d", failed, tally.n, tally.r)
		}
		return
	case fetch:
		asked := map[uint64]bool{}
		var list []int
		tally.wanted(func(i int) {
			if asked[tally.slots[i].digest] {
				w.t.Fatalf("two fetches for one digest")
			}
			asked[tally.slots[i].digest] = true
			list = append(list, i)
		})
		if len(list) == 0 {
			w.t.Fatal("fetch without anything to fetch")
		}
		for _, fail := range []bool{false, true} {
			next := tally
			for _, i := range list {
				if fail {
					next.fail(i)
				} else {
					w.reply(&next, i, true)
				}
			}
			w.walk(next, answered)
		}
		return
	case pending:
		if tally.n-failed < tally.r {
			w.t.Fatalf("pending though only %d of n=%d are left, r=%d", tally.n-failed, tally.n, tally.r)
		}
	}
	for i := range tally.n {
		if answered&(1<<i) != 0 || w.kinds[i] == 3 {
			continue
		}
		next := tally
		w.reply(&next, i, answered == 0) // whoever is first sends the object, the others digests
		w.walk(next, answered|1<<i)
	}
}

func (w *readWalk) reply(tally *readTally, i int, object bool) {
	o, d := w.old, w.dOld
	switch w.kinds[i] {
	case 1:
		o, d = w.new, w.dNew
	case 2:
		tally.fail(i)
		return
	}
	if object {
		tally.addObject(i, d, o, 0)
	} else {
		tally.addDigest(i, d, 0)
	}
}

func (w *readWalk) checkAnswer(tally *readTally) {
	anyNew, anyOld := false, false
	for i := range tally.n {
		if tally.covered(i) {
			anyNew = anyNew || w.kinds[i] == 1
			anyOld = anyOld || w.kinds[i] == 0
		}
	}
	want := w.dOld
	if anyNew {
		want = w.dNew
	}
	if got := digestOf(tally.merged()); got != want {
		w.t.Fatalf("the answer is not the join of what the covered replicas hold: %+v", tally.slots)
	}
	if got, want := tally.agreed(), !(anyNew && anyOld); got != want {
		w.t.Fatalf("agreed: got %v, want %v", got, want)
	}
	for i := range tally.n {
		if tally.covered(i) && tally.holds(i, want) != (w.kinds[i] == 1 || !anyNew) {
			w.t.Fatalf("replica %d: stale is wrong", i)
		}
	}
}
