package vclock

import (
	"bytes"
	"testing"
)

// usual is a 1 KB value that three owners have written by turns; next is the same key one write later.
func usual() (now, next Object) {
	v := Sibling{Time: 1 << 60, ContentType: TypeJSON, Value: bytes.Repeat([]byte("x"), 1024)}
	for i := range 30 {
		now, _ = now.Put(Actor(i%3)<<60+7, now.Clock, v)
	}
	v.Time++
	next, _ = now.Put(7, now.Clock, v)
	return now, next
}

func BenchmarkAppendObject(b *testing.B) {
	o, _ := usual()
	buf := make([]byte, 0, EncodedSize(o))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendObject(buf[:0], o)
	}
}

func BenchmarkDecodeObject(b *testing.B) {
	o, _ := usual()
	buf := AppendObject(nil, o)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeObject(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	now, next := usual()
	other, _ := now.Put(1<<60+7, now.Clock, Sibling{Time: 1<<60 + 1, Value: []byte("y")})
	for _, bb := range []struct {
		name string
		a, b Object
	}{{"same", now, now}, {"newer", now, next}, {"concurrent", next, other}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Merge(bb.a, bb.b)
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	now, next := usual()
	s := next.Siblings[0]
	b.ReportAllocs()
	for b.Loop() {
		now.Put(7, now.Clock, s)
	}
}

func BenchmarkSeal(b *testing.B) {
	o, _ := usual()
	s, c := NewSealer("prod"), o.Context()
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = s.AppendSeal(buf[:0], "carts", "alice", c)
	}
}

func BenchmarkOpen(b *testing.B) {
	o, _ := usual()
	s := NewSealer("prod")
	token := s.Seal("carts", "alice", o.Context())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open("carts", "alice", token); err != nil {
			b.Fatal(err)
		}
	}
}
