//go:build !race

package node

// raceDetector tells whether this test binary has it.
const raceDetector = false
