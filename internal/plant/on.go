//go:build planted

package plant

import (
	"fmt"
	"os"
	"sync/atomic"
)

// Variable is the environment variable that names the bug of a process.
const Variable = "RONDO_PLANT"

var (
	planted atomic.Int64
	reached atomic.Int64
)

func init() {
	name := os.Getenv(Variable)
	if name == "" {
		return
	}
	b, ok := Named(name)
	if !ok {
		panic(fmt.Sprintf("%s=%s: there is no planted bug of this name", Variable, name))
	}
	Set(b)
}

// On tells whether the bug is switched on. Safe for concurrent use.
func On(b Bug) bool {
	if planted.Load() != int64(b) {
		return false
	}
	reached.Add(1)
	return true
}

// Set switches one bug on, in place of the one that was. It holds for the whole process: tests that call it must not run
// beside others.
func Set(b Bug) {
	if b <= none || b >= end {
		panic(fmt.Sprintf("plant %d: there is no such bug", int(b)))
	}
	reached.Store(0)
	planted.Store(int64(b))
}

// Clear switches the bug off.
func Clear() {
	planted.Store(int64(none))
	reached.Store(0)
}

// Reached is how often the bug's place was come by since Set. A test that finds nothing and never came by has tested
// nothing.
func Reached() int64 { return reached.Load() }
