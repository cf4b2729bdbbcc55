//go:build race

package antientropy

// raceDetector tells whether this test binary has it: everything takes ten times as long.
const raceDetector = true
