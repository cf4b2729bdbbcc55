//go:build planted

package planttest

import (
	"testing"

	"github.com/rondodb/rondo/internal/plant"
)

// Catches fails the test unless find, which runs a checker, finds nothing without the bug, comes by its place with it, and finds
// it. What find found is logged.
func Catches(t *testing.T, b plant.Bug, find func(t *testing.T) error) {
	t.Helper()
	t.Run(b.String(), func(t *testing.T) {
		plant.Clear()
		if err := find(t); err != nil {
			t.Fatalf("found without the bug: %v", err)
		}
		plant.Set(b)
		t.Cleanup(plant.Clear)
		switch err := find(t); {
		case plant.Reached() == 0:
			t.Error("the place of the bug was never come by")
		case err == nil:
			t.Error("the bug was not found")
		default:
			t.Logf("found: %.400v", err)
		}
	})
}
