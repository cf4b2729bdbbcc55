package memnet

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkRoundTrip compares a request and its answer over a stream and over net.Pipe.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 64 << 10} {
		for _, kind := range []string{"memnet", "net.Pipe"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				near, far := pipe(b, kind)
				go func() { // the echo ends with the stream
					buf := make([]byte, size)
					for {
						if _, err := io.ReadFull(far, buf); err != nil {
							return
						}
						if _, err := far.Write(buf); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, size)
				b.SetBytes(2 * int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := near.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(near, buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkOneWay compares a flow of bytes in one direction.
func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 64 << 10} {
		for _, kind := range []string{"memnet", "net.Pipe"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size), func(b *testing.B) {
				near, far := pipe(b, kind)
				go func() { // ends with the stream
					buf := make([]byte, 64<<10)
					for {
						if _, err := far.Read(buf); err != nil {
							return
						}
					}
				}()
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := near.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func pipe(b *testing.B, kind string) (near, far net.Conn) {
	if kind == "net.Pipe" {
		near, far = net.Pipe()
	} else {
		n := New(1)
		l, err := n.Listen("y:1")
		if err != nil {
			b.Fatal(err)
		}
		if near, err = n.Dial(b.Context(), "x", "y:1"); err != nil {
			b.Fatal(err)
		}
		if far, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() {
		if err := near.Close(); err != nil {
			b.Error(err)
		}
		if err := far.Close(); err != nil {
			b.Error(err)
		}
	})
	return near, far
}
