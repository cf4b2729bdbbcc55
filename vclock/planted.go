package vclock

// flattened is the clock without its gaps: each actor's entry is the highest counter that was seen of it. It is what the planted
// bug of this name makes of contexts; nothing else may.
func (c Clock) flattened() Clock {
	vector := c.vector
	for _, d := range c.cloud {
		vector = joinVectors(vector, []Dot{d})
	}
	return Clock{vector: vector}
}
