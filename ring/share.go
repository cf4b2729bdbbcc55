package ring

// zonesOf numbers the zones by first appearance: each member's zone, and how many there are.
func zonesOf(members []Member) (zone []int, zones int) {
	number := make(map[string]int)
	zone = make([]int, len(members))
	for i, m := range members {
		z, ok := number[m.Zone]
		if !ok {
			z = len(number)
			number[m.Zone] = z
		}
		zone[i] = z
	}
	return zone, len(number)
}

// spread counts the zones among owners; holes are in none.
func spread(owners []int16, zone []int) int {
	n := 0
	for i, m := range owners {
		if m == hole {
			continue
		}
		seen := false
		for _, o := range owners[:i] {
			seen = seen || o != hole && zone[o] == zone[m]
		}
		if !seen {
			n++
		}
	}
	return n
}

// split is who may hold how many replica slots: the limits that the shares are cut to.
type split struct {
	members    []Member
	zone       []int
	zones      int
	size       []int // by zone: members
	partitions int
	n          int // replicas, at most as many as members
}

func newSplit(members []Member, partitions, n int) *split {
	s := &split{members: members, partitions: partitions, n: min(n, len(members))}
	s.zone, s.zones = zonesOf(members)
	s.size = make([]int, s.zones)
	for _, z := range s.zone {
		s.size[z]++
	}
	return s
}

// bounds are the least and the most slots of a zone. With fewer replicas than zones it holds at most one replica of each
// partition; otherwise at least one, and at most as many as it has members and as the other zones leave.
func (s *split) bounds(zone int) (least, most int) {
	if s.n < s.zones {
		return 0, s.partitions
	}
	return s.partitions, s.partitions * min(s.size[zone], 1+s.n-s.zones)
}

// shares apportions the partitions*n replica slots to the members in whole slots, and gives the most slots that each may
// hold: a tenth, or one slot, above its fair share.
//
// Slots are dealt one by one to the member with the least (2*slots+1)/weight (Webster's divisor method). Divisor methods are
// the ones under which nobody's share grows when a member joins, or shrinks when one leaves; so the least movement is just
// what the newcomer gains or the leaver had. Where many members are too light for a whole slot, the others would get too
// much of what those leave: no share is above the most. Members tie by their order, which is by id.
func shares(members []Member, partitions, n int) (share, most []int) {
	s := newSplit(members, partitions, n)
	most = s.mostSlots()
	share = make([]int, len(members))
	room := make([]int, s.zones) // slots that the zone may still take
	for z := range room {
		_, room[z] = s.bounds(z)
	}
	deal := func(slots, only int) {
		for range slots {
			best := -1
			for i, m := range members {
				if share[i] == most[i] || room[s.zone[i]] == 0 || only >= 0 && s.zone[i] != only {
					continue
				}
				if best < 0 || (2*share[i]+1)*members[best].Weight < (2*share[best]+1)*m.Weight {
					best = i
				}
			}
			share[best]++
			room[s.zone[best]]--
		}
	}
	left := partitions * s.n
	for z := range s.zones {
		least, _ := s.bounds(z)
		deal(least, z)
		left -= least
	}
	deal(left, -1)
	return share, most
}
