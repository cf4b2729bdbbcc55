package check

import (
	"fmt"
	"slices"
	"testing"
)

// large makes a correct history of about so many operations on so many keys. It is the model's, key by key.
func large(keys, perKey int, shape func(*model)) []Op {
	var all []Op
	for k := range keys {
		m := newModel(uint64(k))
		shape(m)
		for len(m.ops) < perKey {
			m.step()
		}
		for _, o := range m.run(0) {
			o.Key, o.ID = fmt.Sprintf("k%d", k), len(all)
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, func(a, b Op) int { return int(a.Invoke - b.Invoke) })
	return all
}

func everything(m *model) {
	m.deletes, m.blind, m.weak, m.sets = true, true, true, true
	m.expires, m.sloppy, m.collects = true, true, true
}

func BenchmarkHistory(b *testing.B) {
	for _, bb := range []struct {
		name         string
		keys, perKey int
		shape        func(*model)
	}{
		{"200000 on 500", 500, 400, func(m *model) { m.deletes, m.weak = true, true }},
		{"200000 on 500, everything", 500, 400, everything},
		{"20000 on 1", 1, 20_000, func(m *model) { m.weak, m.restarts = true, 0 }}, // contexts of hundreds of actors do not fit tokens
	} {
		b.Run(bb.name, func(b *testing.B) {
			ops := large(bb.keys, bb.perKey, bb.shape)
			b.ReportAllocs()
			for b.Loop() {
				if r := History(ops); len(r.Violations) > 0 {
					b.Fatal(r)
				}
			}
			b.ReportMetric(float64(len(ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkSummarize(b *testing.B) {
	ops := large(500, 400, everything)
	b.ReportAllocs()
	for b.Loop() {
		if s := Summarize(ops); s.Keys != 500 {
			b.Fatal(s)
		}
	}
	b.ReportMetric(float64(len(ops))*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
