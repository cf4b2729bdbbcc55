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

// cpu is the processor time of this process so far, both ends of every call included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spread runs b.N calls with so many in flight and reports what one costs.
func spread(b *testing.B, inFlight int, call func() error) {
	b.Helper()
	if err := call(); err != nil { // connects
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	var left atomic.Int64
	left.Store(int64(b.N))
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
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/call")
}

var benchInFlight = []int{64, 8, 1}

func BenchmarkCall(b *testing.B) {
	key, value := ring.NewKey("bench", "key-0123456789"), bytes.Repeat([]byte("v"), 1024)
	server := openServer(b, &handler{
		tryRead: func(ring.Key, bool) ([]byte, uint64, bool, error) { return value, 1, true, nil },
	}, nil)
	client := openClient(b, server.Addr().String(), nil)
	var results sync.Pool // of chan error
	results.New = func() any { return make(chan error, 1) }
	ctx := context.Background()
	for _, n := range benchInFlight {
		b.Run(fmt.Sprintf("write-1KB/inflight-%d", n), func(b *testing.B) {
			spread(b, n, func() error {
				done := results.Get().(chan error)
				defer results.Put(done)
				client.Write(ctx, idB, 1, key, value, true, func(err error) { done <- err })
				return <-done
			})
		})
		b.Run(fmt.Sprintf("read-1KB/inflight-%d", n), func(b *testing.B) {
			spread(b, n, func() error {
				done := results.Get().(chan error)
				defer results.Put(done)
				client.Read(ctx, idB, 1, key, false, func(_ []byte, _ uint64, err error) { done <- err })
				return <-done
			})
		})
	}
}

// BenchmarkHTTP is the same work over net/http with connections kept alive: what BenchmarkCall is measured against.
func BenchmarkHTTP(b *testing.B) {
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
	for _, n := range benchInFlight {
		b.Run(fmt.Sprintf("write-1KB/inflight-%d", n), func(b *testing.B) {
			spread(b, n, func() error { return finish(client.Post(url, "application/octet-stream", bytes.NewReader(value))) })
		})
		b.Run(fmt.Sprintf("read-1KB/inflight-%d", n), func(b *testing.B) {
			spread(b, n, func() error { return finish(client.Get(url)) })
		})
	}
}
