package storage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rondodb/rondo/internal/memdisk"
)

// F35: while an operation on the disk takes longer than a client waits, writes are refused at once, as not applied; when it is over they
// are taken again.
func TestStalledDiskRefusesWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, small(t, memdisk.New()))
		mustPut(t, s, testKey(1), "before")
		first, second := s.disk.watch.begin(), s.disk.watch.begin()
		time.Sleep(stallLimit - time.Millisecond)
		if err := s.Healthy(); err != nil {
			t.Errorf("a slow disk: %v", err)
		}
		mustPut(t, s, testKey(1), "slow")
		time.Sleep(2 * time.Millisecond)
		s.disk.watch.end(second) // the other one is still under way
		object, _, err := s.Get(testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"merge": s.Merge(testKey(2), object), "health": s.Healthy()} {
			var refused interface{ NotApplied() bool }
			if !errors.Is(err, ErrStalled) || !errors.As(err, &refused) || !refused.NotApplied() {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, _, err := s.Update(testKey(1), nil); !errors.Is(err, ErrStalled) {
			t.Errorf("update: %v", err)
		}
		s.disk.watch.end(first)
		if err := s.Healthy(); err != nil {
			t.Errorf("the disk moves again: %v", err)
		}
		mustPut(t, s, testKey(2), "after")
		mustClose(t, s)
		time.Sleep(2 * time.Second) // a goroutine of goleveldb looks up once a second whether its database is closed
	})
}

// More operations than places are not watched, and take no place of others away.
func TestStallWatchIsBounded(t *testing.T) {
	w := stallWatch{began: time.Now()}
	places := map[int]bool{}
	for range len(w.since) {
		places[w.begin()] = true
	}
	if len(places) != len(w.since) || places[-1] {
		t.Errorf("got places %v", places)
	}
	if w.begin() != -1 || w.longest() <= 0 {
		t.Error("the watch has no bound, or sees nothing")
	}
	for p := range places {
		w.end(p)
	}
	if w.end(-1); w.longest() != 0 {
		t.Error("nothing is under way")
	}
}
