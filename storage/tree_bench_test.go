//go:build linux || darwin

package storage

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// What the trees add to a write.
func BenchmarkTrees(b *testing.B) {
	for _, without := range []bool{false, true} {
		b.Run(fmt.Sprintf("without=%v/merge", without), func(b *testing.B) {
			s := benchStore(b, Config{noTrees: without, CacheBytes: 256 << 20})
			keys := benchKeySet()
			var versions [40][]byte
			for n := range versions {
				versions[n] = object(2, n+1, strings.Repeat("v", 1024))
			}
			n := 0
			defer reportCPU(b)()
			for b.Loop() {
				if err := s.Merge(keys[n*7919%len(keys)], versions[n/len(keys)%len(versions)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
		b.Run(fmt.Sprintf("without=%v/update", without), func(b *testing.B) { benchUpdate(b, Config{noTrees: without}) })
	}
}

// reportCPU adds what the process computes for each operation, compactions included: other processes disturb it less than the time.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkLoadTrees is the part of a start that grows with the leaves: all of them are in use.
func BenchmarkLoadTrees(b *testing.B) {
	s := mustOpen(b, Config{Dir: b.TempDir()})
	defer mustClose(b, s)
	var batch leveldb.Batch
	for leaf := range ring.Leaves {
		putLeaf(&batch, ring.Class{Partition: s.trees.partition(leaf), N: 3}, leaf, uint64(leaf)*0x9e3779b97f4a7c15+1)
	}
	if err := s.write(&batch); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.loadTrees(testPartitions); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeaves(b *testing.B) {
	s := mustOpen(b, Config{Dir: b.TempDir()})
	defer mustClose(b, s)
	mustPut(b, s, testKey(1), "v")
	c := s.class(testKey(1))
	var leaves []uint64
	b.ReportAllocs()
	for b.Loop() {
		leaves = s.Leaves(leaves[:0], c)
	}
}

func BenchmarkUpdate(b *testing.B) { benchUpdate(b, Config{}) }

func benchUpdate(b *testing.B, cfg Config) {
	s := benchStore(b, cfg)
	keys := benchKeySet()
	value := []byte(strings.Repeat("v", 1024))
	i := 0
	defer reportCPU(b)()
	for b.Loop() {
		_, _, err := s.Update(keys[i%len(keys)], func(o vclock.Object, _ uint64) (vclock.Object, error) {
			o, _ = o.Put(s.Incarnation(), o.Clock, vclock.Sibling{Time: o.MaxTime() + 1, Value: value})
			return o, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}
