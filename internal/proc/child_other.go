//go:build unix && !linux

package proc

import "syscall"

// childOfThis keeps the child out of the terminal's process group.
func childOfThis() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
