package quorum

import "github.com/rondodb/rondo/vclock"

// listRequest asks one node for the index entries of some partitions, after a position.
//
//	version, bucket, prefix, after: partition and name, limit, scan, partitions: number, then each as the step from the one before
type listRequest struct {
	bucket, prefix string
	after          position
	limit          int   // entries to answer at most
	scan           int   // index entries to look at, at most
	partitions     []int // ascending
}

// listAnswer is what it found: the entries that are not tombstones alone, in order, and how far it looked.
//
//	version, done, reached: partition and name, entries: number, then for each the step from the partition before, name, state
//	silent: number, then each as the step from the one before
type listAnswer struct {
	done    bool     // everything asked for was looked at
	reached position // not done: the last entry that was looked at
	entries []listEntry
	silent  []int // partitions for which this node has no vote, ascending: nothing is said of them
}

// listVersion is that of answers.
const listVersion = 2

type listEntry struct {
	position
	state vclock.State
}

func (q *listRequest) encode() []byte {
	w := writer{make([]byte, 0, 64+len(q.bucket)+len(q.prefix)+2*len(q.partitions))}
	w.byte(wireVersion)
	w.text(q.bucket)
	w.text(q.prefix)
	w.number(uint64(q.after.partition))
	w.text(q.after.name)
	w.number(uint64(q.limit))
	w.number(uint64(q.scan))
	w.partitions(q.partitions)
	return w.b
}

func (w *writer) partitions(list []int) {
	w.number(uint64(len(list)))
	last := 0
	for _, p := range list {
		w.number(uint64(p - last))
		last = p
	}
}

func (r *scanner) partitions() []int {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	list := make([]int, n)
	last := 0
	for i := range list {
		step := r.small(1 << 20)
		if i > 0 && step == 0 {
			r.fail("partitions out of order")
		}
		last += step
		list[i] = last
	}
	return list
}

func decodeListRequest(b []byte) (q listRequest, err error) {
	r := scanner{b: b}
	r.version(wireVersion)
	q.bucket, q.prefix = r.text(), r.text()
	q.after = position{r.small(1 << 20), r.text()}
	q.limit, q.scan = r.small(listMost+1), r.small(listScan)
	q.partitions = r.partitions()
	return q, r.end()
}

func (a *listAnswer) encode() []byte {
	var w writer
	w.byte(listVersion)
	if a.done {
		w.byte(1)
	} else {
		w.byte(0)
	}
	w.number(uint64(a.reached.partition))
	w.text(a.reached.name)
	w.number(uint64(len(a.entries)))
	last := 0
	for _, e := range a.entries {
		w.number(uint64(e.partition - last))
		w.text(e.name)
		w.byte(byte(e.state))
		last = e.partition
	}
	w.partitions(a.silent)
	return w.b
}

func decodeListAnswer(b []byte) (a listAnswer, err error) {
	r := scanner{b: b}
	r.version(listVersion)
	a.done = r.byte() == 1
	a.reached = position{r.small(1 << 20), r.text()}
	n := r.count(3)
	if n > 0 {
		a.entries = make([]listEntry, n)
	}
	last := 0
	for i := range a.entries {
		e := &a.entries[i]
		last += r.small(1 << 20)
		e.partition, e.name, e.state = last, r.text(), vclock.State(r.byte())
		if e.state != vclock.Live && e.state != vclock.Mixed {
			r.fail("bad state")
		}
		if i > 0 && !a.entries[i-1].before(e.position) {
			r.fail("entries out of order")
		}
	}
	a.silent = r.partitions()
	return a, r.end()
}
