package ring

const (
	baseDepth  = 3  // the replica count whose balance and movement come first: the default n
	tableDepth = 7  // columns of the owners' table: the largest n
	hole       = -1 // no owner yet
)

// table holds the first owners of each partition, in preference order, as indexes into the members: depth columns.
type table struct {
	depth int
	owner []int16
}

func (t *table) row(partition int) []int16 {
	return t.owner[partition*t.depth : (partition+1)*t.depth : (partition+1)*t.depth]
}

// place computes the owners' table of the members, moving as little as it can of the table before (nil: there was none),
// whose indexes are those of the new members, with holes where the owner is gone. Members are sorted by id.
//
// The first baseDepth columns come first, as a set. Owners that stay members stay owners. Holes are filled by walking the
// ring from the partition to a member that is below its share. Then slots move from members above their share to members
// below, directly where they can, else along the shortest chain of moves. The order within the set is balanced next, and
// then the further columns, one by one, in the same way.
func place(partitions int, members []Member, before *table) table {
	b := newBoard(partitions, members, before)
	ring := newCircle(partitions, members)
	b.makeRoom()
	b.fill(ring, 0, b.base)
	for level := b.base; level > 0; level-- {
		b.balance(level)
	}
	for level := b.base + 1; level <= b.depth; level++ {
		b.fill(ring, level-1, level)
		b.balance(level)
	}
	return b.table
}

// board is a table under construction. A level is a replica count: level k looks at the first k columns.
type board struct {
	table
	base       int // min(baseDepth, members)
	partitions int
	members    []Member
	zone       []int
	zones      int
	before     table
	load       [tableDepth + 1][]int // by level and member: slots held
	share      [tableDepth + 1][]int // by level and member: slots to hold
	most       [tableDepth + 1][]int // by level and member: slots that it may hold
	play       play                  // of the level being balanced
}

func newBoard(partitions int, members []Member, before *table) *board {
	b := &board{partitions: partitions, members: members}
	b.zone, b.zones = zonesOf(members)
	b.depth, b.base = min(tableDepth, len(members)), min(baseDepth, len(members))
	b.owner = make([]int16, partitions*b.depth)
	for i := range b.owner {
		b.owner[i] = hole
	}
	for level := 1; level <= b.depth; level++ {
		b.load[level] = make([]int, len(members))
		b.share[level], b.most[level] = shares(members, partitions, level)
	}
	if before != nil {
		b.before = *before
		for p := range partitions {
			copy(b.row(p), before.row(p))
		}
	}
	for p := range partitions {
		b.count(p, 1)
	}
	return b
}

// count adds the partition's row to the loads (1), or takes it out (-1).
func (b *board) count(partition, by int) {
	for c, m := range b.row(partition) {
		if m == hole {
			continue
		}
		for level := c + 1; level <= b.depth; level++ {
			b.load[level][m] += by
		}
	}
}

// over is how many slots the member holds beyond its share; less than 0: it is to get more.
func (b *board) over(level int, m int16) int { return b.load[level][m] - b.share[level][m] }

// had tells whether the member was among the first level owners of the partition in the table before.
func (b *board) had(level, partition int, m int16) bool {
	if b.before.depth == 0 {
		return false
	}
	return has(b.before.row(partition)[:min(level, b.before.depth)], m)
}

func has(owners []int16, m int16) bool {
	for _, o := range owners {
		if o == m {
			return true
		}
	}
	return false
}

// makeRoom drops owners where the base could not reach as many zones as it must: after a zone came up, or a member changed
// its zone. The owner most above its share goes.
func (b *board) makeRoom() {
	for p := range b.partitions {
		row := b.row(p)[:b.base]
		for b.reach(row) < min(b.base, b.zones) {
			worst := -1
			for c, m := range row {
				if m != hole && b.shared(row, c) && (worst < 0 || b.over(b.base, m) > b.over(b.base, row[worst])) {
					worst = c
				}
			}
			b.put(p, worst, hole)
		}
	}
}

// put writes one slot. Where the member is in a later column of the row, what was in the slot goes there.
func (b *board) put(partition, c int, m int16) {
	b.count(partition, -1)
	row := b.row(partition)
	for k := c + 1; k < len(row) && m != hole; k++ {
		if row[k] == m {
			row[k] = row[c]
		}
	}
	row[c] = m
	b.count(partition, 1)
}

// reach is how many zones the owners can be in once the holes are filled.
func (b *board) reach(owners []int16) int {
	n := spread(owners, b.zone)
	for _, m := range owners {
		if m == hole {
			n++
		}
	}
	return n
}

// shared tells whether another owner is in the same zone as the one in column c.
func (b *board) shared(owners []int16, c int) bool {
	for k, m := range owners {
		if k != c && m != hole && b.zone[m] == b.zone[owners[c]] {
			return true
		}
	}
	return false
}

// settle orders the first level columns of a full row so that every prefix has as many zones as it can: members that bring
// a new zone come first; otherwise the order stays.
func (b *board) settle(partition, level int) {
	row := b.row(partition)[:level]
	ok := true
	for k := range row {
		ok = ok && spread(row[:k+1], b.zone) == min(k+1, b.zones)
	}
	if ok {
		return
	}
	b.count(partition, -1)
	var space [2 * tableDepth]int16
	sorted, rest := space[:0:tableDepth], space[tableDepth:tableDepth]
	for k, m := range row {
		if spread(row[:k+1], b.zone) > spread(row[:k], b.zone) {
			sorted = append(sorted, m)
		} else {
			rest = append(rest, m)
		}
	}
	copy(row, append(sorted, rest...))
	b.count(partition, 1)
}
