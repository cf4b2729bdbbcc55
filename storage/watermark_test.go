package storage

import (
	"testing"

	"github.com/rondodb/rondo/vclock"
)

// A reader is told the watermark that a merge would go by, and none where a merge would not.
func TestWatermarkOfAKey(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir(), Now: newTestClock().Now})
	defer mustClose(t, s)
	key, class := testKey(1), classOf(s, testKey(1))
	want := func(what string, want uint64) {
		t.Helper()
		if got := s.Watermark(key); got != want {
			t.Errorf("%s: got %d, want %d", what, got, want)
		}
	}
	want("at first", 0)
	update(t, s, key, vclock.Sibling{Tombstone: true, Time: 10})
	collect(t, s, class, 30)
	want("collected", 30)
	if err := s.Distrust("test", class); err != nil {
		t.Fatal(err)
	}
	want("set back", 0)
}
