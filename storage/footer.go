package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// The end of a table: two block handles (offset and length of the index of filters and of the index, as variable numbers), padding and a
// magic number. No checksum covers it.
const (
	footerLen      = 48
	handlesLen     = 40
	trailerLen     = 5 // of each block: kind and checksum
	manifestPrefix = "MANIFEST-"
)

// checkFooter refuses a table whose footer names blocks that are not in it: goleveldb would believe it, and ask for memory or bytes that
// there cannot be. What the rest of a table says is covered by checksums.
func checkFooter(fd storage.FileDesc, r storage.Reader) error {
	corrupted := func(format string, args ...any) error {
		return lderrors.NewErrCorrupted(fd, fmt.Errorf("table footer: "+format, args...))
	}
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("size of %s: %w", fd, err)
	}
	if size < footerLen {
		return corrupted("the file has %d bytes", size)
	}
	var footer [footerLen]byte
	if _, err := r.ReadAt(footer[:], size-footerLen); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read footer of %s: %w", fd, err)
	}
	rest := footer[:handlesLen]
	for _, which := range []string{"index of filters", "index"} {
		var place [2]uint64
		for i := range place {
			v, n := binary.Uvarint(rest)
			if n <= 0 {
				return corrupted("the place of the %s makes no sense", which)
			}
			place[i], rest = v, rest[n:]
		}
		if end := uint64(size - footerLen); place[0] > end || place[1] > end || place[0]+place[1]+trailerLen > end {
			return corrupted("the %s is said to be at %d, with %d bytes, of %d", which, place[0], place[1], size)
		}
	}
	return nil
}
