package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// What planted bugs do where it takes more than a line. Nothing else may call it.

// noteActor is where the planted bug of reused dots keeps the incarnation.
const noteActor = "actor"

// incarnateAgain takes the incarnation that any earlier start of this database had, whatever has been lost since; the first
// start mints one.
func (s *Store) incarnateAgain() error {
	noted, err := s.read(storeKey(noteActor))
	if err != nil {
		return fmt.Errorf("read incarnation: %w", err)
	}
	if len(noted) == 8 {
		s.incarnation = vclock.Actor(binary.BigEndian.Uint64(noted))
		return nil
	}
	s.incarnation = vclock.Actor(ring.Digest([]byte(s.dir.id)) | 1)
	if err := s.putNote(storeKey(noteActor), binary.BigEndian.AppendUint64(nil, uint64(s.incarnation))); err != nil {
		return fmt.Errorf("note incarnation: %w", err)
	}
	return nil
}
