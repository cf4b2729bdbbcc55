//go:build unix

package proc

import "syscall"

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// CanSignal tells whether this system can pause processes and ask them to stop.
const CanSignal = true
