package ring

// play says when a slot should move at a level, from what each member holds of its share.
type play struct {
	share, least, most, load []int
}

// tight moves slots wherever one member is above its share and the other below.
func tight(share, load []int) play { return play{share, share, share, load} }

// spill moves slots only from those that hold more than the balance allows, to any that may hold one more.
func spill(most, load []int) play { return play{most, make([]int, len(most)), most, load} }

// loose is tight where one of the two is far off: above what the balance allows, or below its share by more than a tenth
// and more than one slot. But no member that has a share is left with nothing, and one that is far below, as a newcomer
// is, comes all the way to its share.
func loose(share, most, load []int) play {
	least := make([]int, len(share))
	for i, s := range share {
		least[i] = min(s, max(1, s-max(1, s/10)))
		if load[i] < least[i] {
			least[i] = s
		}
	}
	return play{share, least, most, load}
}

// gives tells whether a slot should move between two members.
func (p *play) gives(from, to int16) bool {
	return p.load[from] > p.share[from] && p.wants(to) && (p.load[from] > p.most[from] || p.load[to] < p.least[to])
}

// wants tells whether the member may take a slot from somebody.
func (p *play) wants(m int16) bool { return p.load[m] < p.share[m] }

// takes tells whether there is anybody who should give the member a slot.
func (p *play) takes(m int16) bool {
	for o := range p.load {
		if p.gives(int16(o), m) {
			return true
		}
	}
	return false
}
