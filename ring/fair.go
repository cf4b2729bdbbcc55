package ring

// A member's fair share of the replica slots is in proportion to its weight, as far as two limits allow. No member holds two
// replicas of one partition, so it has at most as many slots as there are partitions. And a zone stays within its bounds.
// What a limit cuts off, or adds, the others get or lose by weight: water poured into vessels as wide as the weights, where
// some have a lid, rises everywhere else (water-filling).
//
// The level of the water is slots per weight. It is the same for all members but those of zones at a bound, which have a
// level of their own. It is kept as a fraction of integers.
type level struct{ slots, weight int }

// of is the level times the weight in parts of the level's weight, cut off at most.
func (l level) of(weight, most int) int { return min(weight*l.slots, most*l.weight) }

// mostSlots is by member the most slots that it may hold: a tenth above the fair share, or one slot above it where that is
// more; never more than one of each partition.
func (s *split) mostSlots() []int {
	most := make([]int, len(s.members))
	levels := s.levels()
	for i, m := range s.members {
		l := levels[s.zone[i]]
		fair := l.of(m.Weight, s.partitions)
		most[i] = min(s.partitions, max(fair/l.weight+1, 11*fair/(10*l.weight)))
	}
	return most
}

// levels finds the level of each zone. All zones begin at one level; then those beyond a bound are fixed there, on the side
// where more is cut off, until the others fit.
func (s *split) levels() []level {
	levels := make([]level, s.zones)
	fixed := make([]bool, s.zones)
	left := s.partitions * s.n
	for {
		l := s.pour(left, func(zone int) bool { return !fixed[zone] })
		above, below := 0, 0
		for z := range levels {
			if !fixed[z] {
				least, most := s.bounds(z)
				levels[z] = l
				above += max(0, s.held(z, l)-most*l.weight)
				below += max(0, least*l.weight-s.held(z, l))
			}
		}
		if above == 0 && below == 0 {
			return levels
		}
		for z := range levels {
			if fixed[z] {
				continue
			}
			least, most := s.bounds(z)
			held, bound := s.held(z, l), -1
			if above >= below && held > most*l.weight {
				bound = most
			} else if above < below && held < least*l.weight {
				bound = least
			}
			if bound >= 0 {
				fixed[z] = true
				left -= bound
				levels[z] = s.pour(bound, func(zone int) bool { return zone == z })
			}
		}
	}
}

// held is what the zone holds at the level, in parts of the level's weight.
func (s *split) held(zone int, l level) int {
	sum := 0
	for i, m := range s.members {
		if s.zone[i] == zone {
			sum += l.of(m.Weight, s.partitions)
		}
	}
	return sum
}

// pour gives slots to the members of some zones, at most one of each partition to each member, and returns the level.
func (s *split) pour(slots int, in func(zone int) bool) level {
	capped := make([]bool, len(s.members))
	for {
		l := level{slots: slots}
		for i, m := range s.members {
			if in(s.zone[i]) && !capped[i] {
				l.weight += m.Weight
			} else if in(s.zone[i]) {
				l.slots -= s.partitions
			}
		}
		if l.weight == 0 { // all are full
			return level{s.partitions, 1}
		}
		more := false
		for i, m := range s.members {
			if in(s.zone[i]) && !capped[i] && m.Weight*l.slots > s.partitions*l.weight {
				capped[i], more = true, true
			}
		}
		if !more {
			return l
		}
	}
}
