package check

import (
	"bytes"
	"strings"
	"testing"
)

// Whatever loads can be judged, measured, drawn and saved again.
func FuzzLoad(f *testing.F) {
	for seed := range uint64(3) {
		m := newModel(seed)
		everything(m)
		var b bytes.Buffer
		if err := Save(&b, m.run(30)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.String())
	}
	f.Add(`{"key":"k","kind":"put","value":"x","context_in":"none","invoke":9223372036854775807,"return":-9223372036854775808,"outcome":"ok"}`)
	f.Add(`{"key":"k","kind":"delete","invoke":-1,"return":9223372036854775807,"outcome":"ok"}` + "\n" + `{"key":"k","kind":"read","final":true,"strict":true,"outcome":"ok"}`)
	f.Add(`{"id":1,"client":"a","key":"k","kind":"read"`)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<14 {
			t.Skip("longer than what is quick to judge")
		}
		ops, err := Load(strings.NewReader(text))
		if err != nil {
			if ops != nil {
				t.Fatal("an error, and operations too")
			}
			return
		}
		r := History(ops)
		if r.Ops != len(ops) {
			t.Fatalf("judged %d of %d operations", r.Ops, len(ops))
		}
		if s := Summarize(ops); s.Ops != len(ops) || s.Keys != r.Keys {
			t.Fatalf("measured %d operations on %d keys, judged %d on %d", s.Ops, s.Keys, r.Ops, r.Keys)
		}
		checkWidth(t, Timeline(ops))
		if len(r.Violations) > 0 {
			if part := Shrink(ops, r.Violations[0]); len(part) > len(ops) {
				t.Fatalf("%d operations shrank to %d", len(ops), len(part))
			}
		}
		var b bytes.Buffer
		if err := Save(&b, ops); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(&b); err != nil || len(again) != len(ops) {
			t.Fatalf("%d operations came back as %d: %v", len(ops), len(again), err)
		}
	})
}
