package ring

// Member is a node that owns partitions.
type Member struct {
	ID     NodeID
	Name   string // for people
	Zone   string // failure domain; "" is a zone of its own name
	Weight int    // share of the partitions relative to other members, 1 or more
}
