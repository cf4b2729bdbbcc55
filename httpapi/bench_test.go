package httpapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/rondodb/rondo/quorum"
	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// sinkWriter is an http.ResponseWriter that costs next to nothing.
type sinkWriter struct {
	h http.Header
	n int
}

func (w *sinkWriter) Header() http.Header { return w.h }
func (w *sinkWriter) WriteHeader(int)     {}
func (w *sinkWriter) Write(b []byte) (int, error) {
	w.n += len(b)
	return len(b), nil
}

type rewinder struct{ *bytes.Reader }

func (rewinder) Close() error { return nil }

// drive runs a handler over one request again and again.
func drive(b *testing.B, h http.Handler, method, target string, body []byte, header ...string) {
	reader := bytes.NewReader(body)
	r := httptest.NewRequest(method, target, nil)
	r.Body, r.ContentLength = rewinder{reader}, int64(len(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	ctx, cancel := context.WithCancel(context.Background()) // as net/http gives it
	defer cancel()
	r = r.WithContext(ctx)
	w := &sinkWriter{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		reader.Seek(0, io.SeekStart)
		h.ServeHTTP(w, r)
	}
	if w.n == 0 {
		b.Fatal("nothing was answered")
	}
}

// instant is a coordinator that answers at once.
func instant(b *testing.B, kind string, value []byte) http.Handler {
	f := newReplica(b)
	object, dot := vclock.Object{}.Put(testActor, vclock.Clock{}, vclock.Sibling{Time: 1_700_000_000_123_456_789, ContentType: kind, Value: value})
	f.get = func(context.Context, ring.Key, quorum.ReadOptions) (quorum.ReadResult, error) {
		return quorum.ReadResult{Object: object, Receipt: quorum.Receipt{N: 3, Required: 2, Replied: 2, Agreed: true, Ring: 1, Coordinator: "n1"}}, nil
	}
	f.put = func(context.Context, ring.Key, quorum.Value, quorum.WriteOptions) (quorum.WriteResult, error) {
		return quorum.WriteResult{Context: object.Context(), Dot: dot, Receipt: quorum.Receipt{N: 3, Required: 2, Acked: 2, Durable: 2, Ring: 1, Coordinator: "n1"}}, nil
	}
	sealer := vclock.NewSealer("c")
	s, err := New(Config{Coordinator: f, Buckets: settings{f}, Node: f, Sealer: func() *vclock.Sealer { return sealer }})
	if err != nil {
		b.Fatal(err)
	}
	return s.Handler()
}

// bare is the least that a Go server with chi does.
func bare(value []byte) http.Handler {
	r := chi.NewRouter()
	r.Get("/v1/kv/{bucket}/*", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(value)))
		w.Write(value)
	})
	r.Put("/v1/kv/{bucket}/*", func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}\n")
	})
	return r
}

func kilobyte() []byte { return []byte(`{"items":["` + strings.Repeat("x", 1010) + `"]}`) }

func BenchmarkGet(b *testing.B) {
	v := kilobyte()
	for _, kind := range []string{vclock.TypeJSON, vclock.TypeText, vclock.TypeBytes} {
		b.Run(strings.ReplaceAll(kind, "/", "-"), func(b *testing.B) { drive(b, instant(b, kind, v), "GET", "/v1/kv/carts/alice", nil) })
	}
	b.Run("raw", func(b *testing.B) {
		drive(b, instant(b, vclock.TypeBytes, v), "GET", "/v1/kv/carts/alice?raw=true", nil)
	})
	b.Run("bare", func(b *testing.B) { drive(b, bare(v), "GET", "/v1/kv/carts/alice", nil) })
}

func BenchmarkPut(b *testing.B) {
	v := kilobyte()
	b.Run("bytes", func(b *testing.B) {
		drive(b, instant(b, "", v), "PUT", "/v1/kv/carts/alice", v, "Content-Type", vclock.TypeBytes)
	})
	b.Run("json", func(b *testing.B) {
		drive(b, instant(b, "", v), "PUT", "/v1/kv/carts/alice", v, "Content-Type", vclock.TypeJSON)
	})
	b.Run("parameters", func(b *testing.B) {
		drive(b, instant(b, "", v), "PUT", "/v1/kv/carts/alice?w=2&dw=0&timeout=3s", v, "Content-Type", vclock.TypeBytes)
	})
	b.Run("bare", func(b *testing.B) { drive(b, bare(v), "PUT", "/v1/kv/carts/alice", v) })
}

func BenchmarkCheckJSON(b *testing.B) {
	v := []byte(strings.Repeat(`{"name":"some words","n":12345,"list":[true,null,1.5e3]},`, 18))
	v = append(append([]byte{'['}, v[:len(v)-1]...), ']')
	b.SetBytes(int64(len(v)))
	for b.Loop() {
		if checkJSON(v) != jsonGood {
			b.Fatal("not valid")
		}
	}
}

// Over sockets, both sides in one process: what the API adds to a bare server.
func BenchmarkSocket(b *testing.B) {
	v := kilobyte()
	for _, c := range []struct {
		name string
		h    http.Handler
	}{{"rondo", instant(b, vclock.TypeBytes, v)}, {"bare", bare(v)}} {
		b.Run(c.name, func(b *testing.B) {
			s := httptest.NewServer(c.h)
			defer s.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Get(s.URL + "/v1/kv/carts/alice?raw=true")
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}
