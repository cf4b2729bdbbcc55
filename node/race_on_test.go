//go:build race

package node

// raceDetector tells whether this test binary has it: it makes the simulation ten times as slow.
const raceDetector = true
