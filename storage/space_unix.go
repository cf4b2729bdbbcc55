//go:build linux || darwin || freebsd || dragonfly

package storage

import "syscall"

// statVolume is what the file system of a path says: what is free to this process, not what is free to root.
func statVolume(path string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize)
	return max(0, int64(st.Bavail)) * block, int64(st.Blocks) * block, nil
}
