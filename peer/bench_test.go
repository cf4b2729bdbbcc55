package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rondodb/rondo/ring"
)

// shapes are what is measured: 1 KB there and an acknowledgement back, or a key there and 1 KB back.
var shapes = []string{"write-1KB", "read-1KB"}

// cpu is the processor time of this process so far, both ends of every call included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spread makes n calls with so many in flight and returns the processor time of one, in microseconds.
func spread(b *testing.B, n, inFlight int, call func() error) float64 {
	b.Helper()
	before := cpu(b)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64((cpu(b) - before).Nanoseconds()) / 1000 / float64(n)
}

// overPeer makes calls over the replica protocol.
func overPeer(b *testing.B) map[string]func() error {
	key, value := ring.NewKey("bench", "key-0123456789"), bytes.Repeat([]byte("v"), 1024)
	server := openServer(b, &handler{
		tryRead: func(ring.Key, bool) ([]byte, uint64, bool, error) { return value, 1, true, nil },
	}, nil)
	client := openClient(b, server.Addr().String(), nil)
	results := sync.Pool{New: func() any { return make(chan error, 1) }}
	ctx := context.Background()
	return map[string]func() error{
		"write-1KB": func() error {
			done := results.Get().(chan error)
			defer results.Put(done)
			client.Write(ctx, idB, 1, key, value, true, false, func(err error) { done <- err })
			return <-done
		},
		"read-1KB": func() error {
			done := results.Get().(chan error)
			defer results.Put(done)
			client.Read(ctx, idB, 1, key, false, func(_ []byte, _, _ uint64, err error) { done <- err })
			return <-done
		},
	}
}

// overHTTP makes the same calls over net/http with connections kept alive.
func overHTTP(b *testing.B) map[string]func() error {
	value := bytes.Repeat([]byte("v"), 1024)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				b.Error(err)
			}
			io.WriteString(w, "acknowledged-16b")
			return
		}
		w.Write(value)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	transport := &http.Transport{MaxIdleConnsPerHost: 128}
	client := &http.Client{Transport: transport}
	b.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
	})
	url := "http://" + listener.Addr().String() + "/key-0123456789"
	finish := func(r *http.Response, err error) error {
		if err != nil {
			return err
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		return err
	}
	return map[string]func() error{
		"write-1KB": func() error { return finish(client.Post(url, "application/octet-stream", bytes.NewReader(value))) },
		"read-1KB":  func() error { return finish(client.Get(url)) },
	}
}

func bench(b *testing.B, calls map[string]func() error) {
	for _, n := range []int{64, 8, 1} {
		for _, shape := range shapes {
			b.Run(fmt.Sprintf("%s/inflight-%d", shape, n), func(b *testing.B) {
				if err := calls[shape](); err != nil { // connects
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				cost := spread(b, b.N, n, calls[shape])
				b.ReportMetric(cost, "cpu-µs/call")
			})
		}
	}
}

func BenchmarkCall(b *testing.B) { bench(b, overPeer(b)) }

func BenchmarkHTTP(b *testing.B) { bench(b, overHTTP(b)) }

// BenchmarkRatio runs both in turns, so that a machine that is slow for a while is slow for both, and reports how many times
// less processor time a call takes than over net/http. With 64 in flight it must be 8 at least; 15 is the aim.
func BenchmarkRatio(b *testing.B) {
	peers, https := overPeer(b), overHTTP(b)
	for _, n := range []int{64, 8, 1} {
		for _, shape := range shapes {
			b.Run(fmt.Sprintf("%s/inflight-%d", shape, n), func(b *testing.B) {
				const batch = 2000 // and ten times as many of ours, which takes about as long
				var ours, theirs float64
				for b.Loop() {
					ours += spread(b, 10*batch, n, peers[shape])
					theirs += spread(b, batch, n, https[shape])
				}
				b.ReportMetric(theirs/ours, "times-less-cpu")
				b.ReportMetric(ours/float64(b.N), "cpu-µs/call")
				b.ReportMetric(theirs/float64(b.N), "http-cpu-µs/call")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
