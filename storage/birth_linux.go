package storage

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// What statx(2) is called with, and where in its answer there is what: the same on every architecture but for the call's number.
const (
	statxEmptyPath = 0x1000
	statxBirth     = 0x800
	statxLen       = 256
	statxBirthAt   = 80
)

var statxNumber = map[string]uintptr{"amd64": 332, "386": 383, "arm": 397, "arm64": 291, "riscv64": 291, "loong64": 291, "ppc64le": 383, "s390x": 379}[runtime.GOARCH]

// birth is when a file was made, in nanoseconds since 1970; 0 where neither kernel nor file system can tell.
func birth(f *os.File) int64 {
	if statxNumber == 0 {
		return 0
	}
	var empty byte
	var answer [statxLen]byte
	_, _, failed := syscall.Syscall6(statxNumber, f.Fd(), uintptr(unsafe.Pointer(&empty)), statxEmptyPath, statxBirth, uintptr(unsafe.Pointer(&answer)), 0)
	if failed != 0 || binary.NativeEndian.Uint32(answer[:])&statxBirth == 0 {
		return 0
	}
	seconds := int64(binary.NativeEndian.Uint64(answer[statxBirthAt:]))
	return time.Unix(seconds, int64(binary.NativeEndian.Uint32(answer[statxBirthAt+8:]))).UnixNano()
}
