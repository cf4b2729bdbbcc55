package proc

import "syscall"

// childOfThis ends the child with its parent, and keeps it out of the terminal's process group.
func childOfThis() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
