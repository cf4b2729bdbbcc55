//go:build race

package gossip

// raceEnabled tells that the race detector is on, with which long computations in one goroutine are pointless.
const raceEnabled = true
