//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package storage

import (
	"io/fs"
	"os"
)

// lockFile opens the file without locking it: goleveldb's own lock, in db/, is the one that holds here.
func lockFile(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

func inode(fs.FileInfo) uint64 { return 0 }

func handleLimit() (int, error) { return 1 << 12, nil }

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
