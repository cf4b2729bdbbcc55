package storage

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// Values of 1 KiB that snappy halves, as the reference measurements have.
func benchObject(actor vclock.Actor, n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return object(actor, 1+n%4, string(b)+strings.Repeat("x", 512))
}

const benchKeys = 50_000

func benchStore(b *testing.B, cfg Config) *Store {
	b.Helper()
	cfg.Dir = b.TempDir()
	s := mustOpen(b, cfg)
	b.Cleanup(func() { mustClose(b, s) })
	for i := range benchKeys {
		if err := s.Merge(testKey(i), benchObject(1, i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	return s
}

func BenchmarkTryGet(b *testing.B) {
	s := benchStore(b, Config{})
	k := testKey(7)
	if err := s.Merge(k, benchObject(9, 7)); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		if _, _, ok := s.TryGet(k); !ok {
			b.Fatal("not cached")
		}
	}
}

func BenchmarkGetUncached(b *testing.B) {
	s := benchStore(b, Config{CacheBytes: -1})
	keys := benchKeySet()
	i := 0
	for b.Loop() {
		if _, _, err := s.Get(keys[i%len(keys)]); err != nil {
			b.Fatal(err)
		}
		i += 7919
	}
}

func benchKeySet() []ring.Key {
	keys := make([]ring.Key, benchKeys)
	for i := range keys {
		keys[i] = testKey(i)
	}
	return keys
}

func BenchmarkMerge(b *testing.B) {
	for _, callers := range []int{1, 64} {
		for _, sync := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/sync=%v", callers, sync), func(b *testing.B) { benchMerge(b, callers, sync) })
		}
	}
}

// benchMerge has each caller overwrite keys with ever newer objects.
func benchMerge(b *testing.B, callers int, sync_ bool) {
	s := benchStore(b, Config{})
	keys := benchKeySet()
	fsyncs := s.Stats().JournalSyncs.Count
	b.ResetTimer()
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			var versions [40][]byte // each key gets the next one: every merge is a change
			for n := range versions {
				versions[n] = object(2, n+1, strings.Repeat("v", 1024))
			}
			done := make(chan error, 1)
			for i := range b.N / callers {
				n := i*callers + c
				k := keys[n*7919%len(keys)]
				if err := s.Merge(k, versions[n/len(keys)%len(versions)]); err != nil {
					b.Error(err)
					return
				}
				if sync_ {
					s.Sync(func(err error) { done <- err })
					if err := <-done; err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	if n := s.Stats().JournalSyncs.Count - fsyncs; sync_ && n > 0 {
		b.ReportMetric(float64(b.N)/float64(n), "writes/fsync")
	}
}

// TestMemoryOfAMillionKeys loads a million keys of 1 KiB and reads them. It takes a minute and runs on demand only.
func TestMemoryOfAMillionKeys(t *testing.T) {
	if os.Getenv("RONDO_TEST_MEMORY") == "" {
		t.Skip("RONDO_TEST_MEMORY is not set")
	}
	s := mustOpen(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	const keys = 1_000_000
	start := time.Now()
	var group sync.WaitGroup
	for c := range 16 {
		group.Go(func() {
			for i := c; i < keys; i += 16 {
				if err := s.Merge(testKey(i), benchObject(1, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("loaded in %v, %s", time.Since(start), rss(t))
	start = time.Now()
	for i := range 200_000 {
		if _, _, err := s.Get(testKey(i * 7919 % keys)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("200,000 reads in %v, %s", time.Since(start), rss(t))
	st := s.Stats()
	t.Logf("%+v", st)
	if st.LiveKeys != keys {
		t.Errorf("%d live keys, want %d", st.LiveKeys, keys)
	}
}

func rss(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out := fmt.Sprintf("Go heap in use %d MiB", m.HeapInuse>>20)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			out += ", " + strings.Join(strings.Fields(line), " ")
		}
	}
	return out
}
