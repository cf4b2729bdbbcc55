package ring

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a layout.
const (
	MaxPartitions = 1 << 16
	MaxMembers    = 1000
	MaxWeight     = 1000
	MaxName       = 64 // bytes, of a member's name, its zone and the cluster's identity

	// MaxSlots bounds partitions times members, and so the memory of the preference lists (16 bytes a slot).
	MaxSlots = 1 << 22
)

// Member is a node that owns partitions.
type Member struct {
	ID     NodeID
	Name   string // for people; unique, 1 to MaxName bytes of UTF-8
	Zone   string // failure domain, at most MaxName bytes of UTF-8; "" is a zone of its own name
	Weight int    // share of the partitions relative to other members, 1 to MaxWeight
}

// Layout is one agreed version of who owns which partition. It is immutable and safe for concurrent use.
type Layout struct {
	version    uint64
	cluster    string
	partitions int
	shift      uint // token >> shift = partition
	members    []Member
	index      map[NodeID]int
	table      table
	preference [][]NodeID
	encoded    []byte
	hash       uint64
}

// First makes version 1 of a new cluster's layout. The cluster's identity is a random string, 1 to MaxName bytes. The
// order of the members does not matter. It fails where a limit of this package is not kept.
func First(cluster string, partitions int, members []Member) (*Layout, error) {
	l := &Layout{version: 1, cluster: cluster, partitions: partitions}
	if err := l.setMembers(members); err != nil {
		return nil, fmt.Errorf("make layout: %w", err)
	}
	l.table = place(partitions, l.members, nil)
	l.finish()
	return l, nil
}

// Next makes the layout that follows this one, with these members in place of the present ones. As few replica slots
// move as the new members' shares allow. Everyone who calls it with equal arguments gets an equal layout. The order of the
// members does not matter. It fails where a limit of this package is not kept.
func (l *Layout) Next(members []Member) (*Layout, error) {
	if l.version == math.MaxUint64 {
		return nil, fmt.Errorf("make layout: no version follows %d", l.version)
	}
	next := &Layout{version: l.version + 1, cluster: l.cluster, partitions: l.partitions}
	if err := next.setMembers(members); err != nil {
		return nil, fmt.Errorf("make layout %d: %w", next.version, err)
	}
	next.table = place(l.partitions, next.members, l.carry(next))
	next.finish()
	return next, nil
}

// carry is this layout's table in terms of the next one's members; who is no longer a member is a hole.
func (l *Layout) carry(next *Layout) *table {
	old := table{depth: l.table.depth, owner: make([]int16, len(l.table.owner))}
	for i, m := range l.table.owner {
		if at, ok := next.index[l.members[m].ID]; ok {
			old.owner[i] = int16(at)
		} else {
			old.owner[i] = hole
		}
	}
	return &old
}

// setMembers checks everything that the layout is made of, and sorts the members.
func (l *Layout) setMembers(members []Member) error {
	if l.partitions < 1 || l.partitions > MaxPartitions || bits.OnesCount(uint(l.partitions)) != 1 {
		return fmt.Errorf("%d partitions: want a power of two from 1 to %d", l.partitions, MaxPartitions)
	}
	if err := checkText("cluster identity", l.cluster, 1); err != nil {
		return err
	}
	if len(members) < 1 || len(members) > MaxMembers {
		return fmt.Errorf("%d members: want 1 to %d", len(members), MaxMembers)
	}
	if l.partitions*len(members) > MaxSlots {
		return fmt.Errorf("%d partitions with %d members: want at most %d members", l.partitions, len(members), MaxSlots/l.partitions)
	}
	l.members = slices.Clone(members)
	slices.SortFunc(l.members, func(a, b Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	l.index = make(map[NodeID]int, len(l.members))
	names := make(map[string]NodeID, len(l.members))
	for i, m := range l.members {
		if err := m.check(); err != nil {
			return fmt.Errorf("member %q: %w", m.Name, err)
		}
		if _, twice := l.index[m.ID]; twice {
			return fmt.Errorf("member %q: id %s is there twice", m.Name, m.ID)
		}
		if other, twice := names[m.Name]; twice {
			return fmt.Errorf("member %q: %s and %s have the same name", m.Name, other, m.ID)
		}
		l.index[m.ID] = i
		names[m.Name] = m.ID
	}
	return nil
}

func (m Member) check() error {
	if !m.ID.valid() {
		return fmt.Errorf("id %q: want %d lower-case hexadecimal digits", m.ID, idDigits)
	}
	if err := checkText("name", m.Name, 1); err != nil {
		return err
	}
	if err := checkText("zone", m.Zone, 0); err != nil {
		return err
	}
	if m.Weight < 1 || m.Weight > MaxWeight {
		return fmt.Errorf("weight %d: want 1 to %d", m.Weight, MaxWeight)
	}
	return nil
}

const idDigits = 32

func (id NodeID) valid() bool {
	if len(id) != idDigits {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func checkText(what, s string, least int) error {
	if len(s) < least || len(s) > MaxName || !utf8.ValidString(s) {
		return fmt.Errorf("%s %q: want %d to %d bytes of UTF-8", what, s, least, MaxName)
	}
	return nil
}

// finish derives everything else from the members and the table.
func (l *Layout) finish() {
	l.shift = 64 - uint(bits.TrailingZeros(uint(l.partitions)))
	l.preference = preferences(l.partitions, l.members, l.table)
	l.encoded = l.encode()
	l.hash = Digest(l.encoded[:len(l.encoded)-hashBytes])
}

// Version counts the layouts of the cluster, from 1.
func (l *Layout) Version() uint64 { return l.version }

// Hash is a hash of everything in the layout: two layouts with equal hashes are equal.
func (l *Layout) Hash() uint64 { return l.hash }

// Cluster is the random identity that the cluster was given when it formed.
func (l *Layout) Cluster() string { return l.cluster }

// Partitions is a power of two, the same in all layouts of a cluster.
func (l *Layout) Partitions() int { return l.partitions }

// Members lists the members by id. The caller must not change the slice.
func (l *Layout) Members() []Member { return l.members }

// Member finds a member.
func (l *Layout) Member(id NodeID) (Member, bool) {
	i, ok := l.index[id]
	if !ok {
		return Member{}, false
	}
	return l.members[i], true
}

// Partition is the partition of a token: its top bits.
func (l *Layout) Partition(token uint64) int { return int(token >> l.shift) }

// Preference lists all members in the order in which they hold the partition: the owners first, then those that stand in
// for them; different zones first. The caller must not change the slice. It panics where there is no such partition.
func (l *Layout) Preference(partition int) []NodeID { return l.preference[partition] }

// Owners is the first n of Preference: all members where there are fewer.
func (l *Layout) Owners(partition, n int) []NodeID {
	p := l.preference[partition]
	return p[:min(n, len(p)):min(n, len(p))]
}

// Owns tells whether the node is one of Owners(partition, n).
func (l *Layout) Owns(id NodeID, partition, n int) bool {
	return slices.Contains(l.Owners(partition, n), id)
}

// Equal tells whether two layouts are the same in everything.
func (l *Layout) Equal(o *Layout) bool { return bytes.Equal(l.encoded, o.encoded) }
