package ring

// fill makes columns from to to-1 full. Each hole goes to the first member that the ring meets and that fits: best one
// below its share at every level concerned, else one below its share of all these columns, else any. Holes that must bring
// a zone go first, since few members fit them.
func (b *board) fill(ring *circle, from, to int) {
	var order []int16
	for _, forced := range [...]bool{true, false} {
		for p := range b.partitions {
			row := b.row(p)[:to]
			order = order[:0]
			for c := from; c < to; c++ {
				if row[c] != hole && (from == 0 || spread(row, b.zone) == min(to, b.zones)) {
					continue
				}
				if forced && b.reach(row) > min(to, b.zones) {
					continue
				}
				if len(order) == 0 {
					order = ring.walk(p, order)
				}
				b.put(p, c, b.choose(row, from, c, order))
			}
			if from == 0 && !has(row, hole) {
				b.settle(p, to)
			}
		}
	}
}

// choose finds the member for column c; owners are the first columns, up to the level being filled.
func (b *board) choose(owners []int16, from, c int, order []int16) int16 {
	level := len(owners)
	second, third := int16(hole), int16(hole)
	for _, m := range order {
		if !b.fits(owners, c, m) {
			continue
		}
		if third == hole {
			third = m
		}
		if b.over(level, m) >= 0 {
			continue
		}
		if second == hole {
			second = m
		}
		if from > 0 || b.below(c+1, level-1, m) {
			return m
		}
	}
	if second != hole {
		return second
	}
	return third
}

// below tells whether the member is below its share at all levels from lo to hi.
func (b *board) below(lo, hi int, m int16) bool {
	for level := lo; level <= hi; level++ {
		if b.over(level, m) >= 0 {
			return false
		}
	}
	return true
}

// fits tells whether the member can be put in column c.
func (b *board) fits(owners []int16, c int, m int16) bool {
	if has(owners, m) {
		return false
	}
	was := owners[c]
	owners[c] = m
	n := b.reach(owners)
	owners[c] = was
	return n >= min(len(owners), b.zones)
}
