//go:build !unix

package proc

import "syscall"

// Numbers that stand for what this system does not have: sending them is an error.
const (
	sigStop = syscall.Signal(0x13)
	sigCont = syscall.Signal(0x12)
)

// CanSignal tells whether this system can pause processes and ask them to stop.
const CanSignal = false

// childOfThis asks for nothing special.
func childOfThis() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
