//go:build !(linux || darwin || freebsd || dragonfly)

package storage

import "errors"

func statVolume(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }
