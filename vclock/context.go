package vclock

import "github.com/rondodb/rondo/internal/plant"

// Context is the causal past of a client: the dots that it has seen, and the newest timestamp among them, so that
// the write which replaces them is later than all of them.
//
// A context must fit a token (MaxToken). One that grew beyond, because some two hundred store incarnations have
// written the same key, is cut down to the versions that the client was shown, without those that they replaced. That is on
// the safe side, as a smaller context never replaces more; and little is lost, since objects travel whole: a replica that has
// seen a version has seen everything that it replaced.
type Context struct {
	Clock Clock
	Time  uint64
}

// Context is what a reader of the whole object has been shown: hand it back on the write that replaces it.
func (o Object) Context() Context { return o.contextWithin(tokenClock) }

func (o Object) contextWithin(limit int) Context {
	c := Context{Clock: o.Clock, Time: o.MaxTime()}
	if plant.On(plant.FlattenedContext) {
		c.Clock = c.Clock.flattened()
	}
	if c.Clock.fits(limit) {
		return c
	}
	var shown Clock
	for i := range o.Siblings { // newest first; those beyond the limit stay siblings until the next read and write
		next := shown.With(o.Siblings[i].Dot)
		if !next.fits(limit) {
			break
		}
		shown = next
	}
	c.Clock = shown
	return c
}

// With is the context of a writer: what c covers, and the new version that the write made at this time. It covers nothing
// else, in particular no sibling that the writer was not shown: that would lose other people's updates.
func (c Context) With(d Dot, time uint64) Context { return c.within(tokenClock, d, time) }

func (c Context) within(limit int, d Dot, time uint64) Context {
	out := Context{Clock: c.Clock.With(d), Time: max(c.Time, time)}
	if plant.On(plant.FlattenedContext) {
		out.Clock = out.Clock.flattened()
	}
	if !out.Clock.fits(limit) {
		out.Clock = Clock{}.With(d)
	}
	return out
}

// fits tells whether the encoding of c takes at most limit bytes.
func (c Clock) fits(limit int) bool {
	if 18*c.Len()+2*countBytes <= limit {
		return true // the common case: even the longest entries fit
	}
	var space [tokenClock]byte
	return len(appendClock(space[:0], c)) <= limit
}
