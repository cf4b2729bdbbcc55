//go:build !planted

package plant

// On tells whether the bug is switched on: never, in this build.
func On(Bug) bool { return false }
