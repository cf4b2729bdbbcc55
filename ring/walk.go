package ring

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Virtual nodes of a member: perMember at the average weight, in proportion otherwise, within limits. Changing any of
// them, or how a point is hashed, changes the preference lists of layouts that are in use: it needs a new format byte.
const (
	perMember = 256
	leastEach = 16
	mostEach  = 4096
)

// point is one virtual node.
type point struct {
	at     uint64
	member int16
}

// circle is the consistent-hash ring: the virtual nodes of all members in token order.
type circle struct {
	points  []point
	members int
	shift   uint
	seen    []int // by member: the walk that saw it last
	walks   int
}

func newCircle(partitions int, members []Member) *circle {
	total := 0
	for _, m := range members {
		total += m.Weight
	}
	c := &circle{members: len(members), shift: 64 - uint(bits.TrailingZeros(uint(partitions))), seen: make([]int, len(members))}
	for i, m := range members {
		raw := rawID(m.ID)
		for k := range min(max(perMember*m.Weight*len(members)/total, leastEach), mostEach) {
			h := Digest(binary.BigEndian.AppendUint32(raw[:len(raw):len(raw)], uint32(k)))
			c.points = append(c.points, point{h, int16(i)})
		}
	}
	slices.SortFunc(c.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.member, b.member))
	})
	return c
}

// walk appends all members to into, in the order in which a walk around the ring from the partition's first token meets
// them.
func (c *circle) walk(partition int, into []int16) []int16 {
	c.walks++
	from, _ := slices.BinarySearchFunc(c.points, uint64(partition)<<c.shift, func(p point, at uint64) int { return cmp.Compare(p.at, at) })
	for met, i := 0, from; met < c.members; i++ {
		if i == len(c.points) {
			i = 0
		}
		if m := c.points[i].member; c.seen[m] != c.walks {
			c.seen[m] = c.walks
			into = append(into, m)
			met++
		}
	}
	return into
}

// preferences continues each row of the table to all members: those in zones not yet met first, then the others, both as
// the ring meets them.
func preferences(partitions int, members []Member, t table) [][]NodeID {
	zone, zones := zonesOf(members)
	c := newCircle(partitions, members)
	all := make([]NodeID, 0, partitions*len(members))
	lists := make([][]NodeID, partitions)
	var order []int16
	placed := make([]int, len(members)) // partition+1 whose list has the member
	met := make([]int, zones)           // partition+1 whose list has the zone
	for p := range lists {
		start := len(all)
		add := func(m int16) {
			all = append(all, members[m].ID)
			placed[m], met[zone[m]] = p+1, p+1
		}
		for _, m := range t.row(p) {
			add(m)
		}
		if len(members) > t.depth {
			order = c.walk(p, order[:0])
		} else {
			order = order[:0]
		}
		for _, m := range order {
			if met[zone[m]] != p+1 {
				add(m)
			}
		}
		for _, m := range order {
			if placed[m] != p+1 {
				add(m)
			}
		}
		lists[p] = all[start:len(all):len(all)]
	}
	return lists
}
