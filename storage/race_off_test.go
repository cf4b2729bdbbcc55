//go:build !race

package storage

// raceDetector tells whether this test binary has it: everything takes ten times as long.
const raceDetector = false
