package ring

import "encoding/binary"

// balance moves slots at one level until every member holds its share there. What may move depends on the level:
//
//   - at the base, every slot of the base, to any member outside it: shares are always met, since they are a feasible flow
//     from partitions to members, and chains of moves are its augmenting paths;
//   - below the base, only the order within it, so that no data of the default n moves;
//   - above the base, only the level's own column.
//
// Off the base shares are met as far as the rows allow. Slots that are new in this table move first: they cost nothing,
// and before any others move, they use up what the balance allows. For the others the shares have some play.
func (b *board) balance(level int) {
	share, most, load := b.share[level], b.most[level], b.load[level]
	b.play = tight(share, load)
	b.exchange(level, true)
	b.play = spill(most, load)
	b.exchange(level, true)
	b.play = loose(share, most, load)
	b.exchange(level, false)
}

// exchange moves what the play asks for; fresh: only slots that are new.
func (b *board) exchange(level int, fresh bool) {
	for m := range b.members {
		b.takeDirect(level, int16(m), fresh)
	}
	for m := range b.members {
		for b.takeChain(level, int16(m), fresh) {
		}
	}
}

// order visits all partitions in an order of the member's own, so that newcomers do not all begin with the same ones,
// until yield returns false.
func (b *board) order(m int16, yield func(partition int) bool) {
	id := rawID(b.members[m].ID)
	start, stride := binary.BigEndian.Uint32(id[:]), binary.BigEndian.Uint32(id[4:])|1
	for i := range uint32(b.partitions) {
		if !yield(int((start + i*stride) & uint32(b.partitions-1))) {
			return
		}
	}
}

// columns are those whose slots may move at the level.
func (b *board) columns(level int) (from, to int) {
	if level > b.base {
		return level - 1, level
	}
	return 0, level
}

// takeDirect gives the member slots of members that have too many, one move for each. Moves that suit the lower levels too
// come first.
func (b *board) takeDirect(level int, m int16, fresh bool) {
	from, to := b.columns(level)
	for _, even := range [...]bool{true, false} {
		if !b.play.takes(m) {
			return
		}
		b.order(m, func(p int) bool {
			best := -1
			row := b.row(p)
			for c := from; c < to; c++ {
				o := row[c]
				if !b.play.gives(o, m) || best >= 0 && b.over(level, o) <= b.over(level, row[best]) {
					continue
				}
				if fresh && b.had(level, p, o) || even && level <= b.base && !b.suits(c+1, level-1, o, m) || !b.movable(level, p, c, m) {
					continue
				}
				best = c
			}
			if best < 0 {
				return true
			}
			b.move(level, p, best, m)
			return b.play.wants(m)
		})
	}
}

// suits tells whether a slot moving from one member to the other brings both nearer to their shares at levels lo to hi.
func (b *board) suits(lo, hi int, from, to int16) bool {
	for level := lo; level <= hi; level++ {
		if b.over(level, from) <= 0 || b.over(level, to) >= 0 {
			return false
		}
	}
	return true
}

// movable tells whether the member can take the slot in column c of the partition: below the base only from the next
// column, else from outside; and the zones must stay as many as they can be.
func (b *board) movable(level, partition, c int, m int16) bool {
	row := b.row(partition)
	if level < b.base {
		if row[level] != m {
			return false
		}
	} else if has(row[:level], m) {
		return false
	}
	o := row[c]
	if b.zone[o] == b.zone[m] {
		return true
	}
	row[c] = m
	n := spread(row[:level], b.zone)
	row[c] = o
	return n == min(level, b.zones)
}

// move gives the member the slot in column c.
func (b *board) move(level, partition, c int, m int16) {
	b.put(partition, c, m)
	if level <= b.base {
		b.settle(partition, level)
	}
}

// step is how a chain goes on from a member: its slot of the partition goes to the member to.
type step struct {
	to        int16
	partition int
}

// takeChain gives the member one more slot by the shortest chain of moves that begins at a member that has too many. On a
// shortest chain no move is in another's way. It tells whether there was a chain.
func (b *board) takeChain(level int, m int16, fresh bool) bool {
	if !b.play.takes(m) {
		return false
	}
	next := make([]step, len(b.members))
	met := make([]bool, len(b.members))
	met[m] = true
	queue := append(make([]int16, 0, len(b.members)), m)
	found := int16(hole)
	for i := 0; i < len(queue) && found == hole; i++ {
		found = b.extend(level, m, queue[i], fresh, func(o int16, s step) bool {
			if met[o] {
				return false
			}
			met[o], next[o] = true, s
			queue = append(queue, o)
			return true
		})
	}
	if found == hole {
		return false
	}
	for o := found; o != m; o = next[o].to {
		for c, have := range b.row(next[o].partition)[:level] {
			if have == o {
				b.move(level, next[o].partition, c, next[o].to)
				break
			}
		}
	}
	return true
}

// extend finds the members that could give a slot to one on a chain to m, and meets each. It stops at one that should give,
// and returns it.
func (b *board) extend(level int, m, to int16, fresh bool, meet func(o int16, s step) bool) int16 {
	lo, hi := b.columns(level)
	found := int16(hole)
	b.order(to, func(p int) bool {
		for c := lo; c < hi; c++ {
			o := b.row(p)[c]
			if fresh && b.had(level, p, o) || !b.movable(level, p, c, to) || !meet(o, step{to, p}) {
				continue
			}
			if b.play.gives(o, m) {
				found = o
				return false
			}
		}
		return true
	})
	return found
}
