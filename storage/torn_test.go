package storage

import (
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/rondodb/rondo/internal/memdisk"
	"github.com/rondodb/rondo/ring"
)

// A bit that flips in the middle of a journal, and a kill: what follows a hole and was synced shows that a crash has not made it. Else the
// watermark behind the hole would take what was in it for collected.
func TestHoleBeforeAWatermarkIsALoss(t *testing.T) {
	for name, c := range map[string]struct {
		at   float64 // where the bit flips, as a part of the journal
		told bool
	}{
		"before the watermark":              {0.1, true},
		"behind it, in what was not synced": {0.98, false},
	} {
		t.Run(name, func(t *testing.T) {
			live := memdisk.New()
			cfg := small(t, live)
			cfg.WriteBuffer = 4 << 20
			s := mustOpen(t, cfg)
			for i := range 200 {
				mustPut(t, s, testKey(i), strings.Repeat("x", 500))
			}
			all := []ring.Class{}
			for p := range testPartitions {
				all = append(all, ring.Class{Partition: p, N: 3})
			}
			for _, set := range []func([]ring.Class, uint64) error{s.SetFence, s.SetWatermark, s.SetReleased} {
				if err := set(all, 1_000_000); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 200 {
				mustPut(t, s, testKey(1000+i), strings.Repeat("y", 500))
			}
			killed := live.Crash(memdisk.Everything, nil)
			mustClose(t, s)
			for _, fd := range killed.Files() {
				if fd.Type == storage.TypeJournal {
					killed.Rot(fd, func(b []byte) { b[int(c.at*float64(len(b)))] ^= 1 })
				}
			}
			again := mustOpen(t, small(t, killed))
			defer mustClose(t, again)
			if told := lossTold(t, again); told != c.told {
				t.Errorf("loss is told: %v, want %v", told, c.told)
			}
			if got := again.Marks(all[0]).Watermark; (got == 0) != c.told {
				t.Errorf("watermark %d, and loss is told: %v", got, c.told)
			}
		})
	}
}
