//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package storage

import (
	"fmt"
	"syscall"
)

// mapMemory takes zeroed memory from the system. The Go runtime does not know it: it neither scans it nor counts it for its
// pace. Pages take memory once they are touched.
func mapMemory(bytes int) ([]byte, error) {
	memory, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", bytes, err)
	}
	return memory, nil
}

// unmapMemory gives it back. Touching it afterwards is fatal.
func unmapMemory(memory []byte) error {
	if err := syscall.Munmap(memory); err != nil {
		return fmt.Errorf("unmap memory: %w", err)
	}
	return nil
}
