package check

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func rules(r Report) []Rule {
	var out []Rule
	for _, v := range r.Violations {
		out = append(out, v.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Correct histories, with faults of every kind that a correct store survives, raise no alarm.
func TestNoFalseAlarms(t *testing.T) {
	shapes := map[string]func(*model){
		"puts with contexts": func(*model) {},
		"deletes":            func(m *model) { m.deletes = true },
		"blind writes":       func(m *model) { m.blind = true },
		"weak reads":         func(m *model) { m.weak = true },
		"sets":               func(m *model) { m.sets = true },
		"sets and deletes":   func(m *model) { m.sets, m.deletes = true, true },
		"expiry":             func(m *model) { m.expires, m.fresh = true, 5 },
		"stand-ins":          func(m *model) { m.sloppy = true },
		"deletes, collected": func(m *model) { m.deletes, m.collects = true, true },
		"everything":         everything,
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			var total Report
			for seed := range uint64(1000) {
				m := newModel(seed)
				shape(m)
				ops := m.run(400)
				r := History(ops)
				if len(r.Violations) > 0 {
					t.Fatalf("seed %d: %v", seed, r)
				}
				total.Ops += r.Ops
				total.Keys += r.Keys
				total.Writes += r.Writes
				total.Unknown += r.Unknown
				total.StrictReads += r.StrictReads
				total.Finals += r.Finals
				total.Receipts += r.Receipts
				total.Digests += r.Digests
				total.Elements += r.Elements
			}
			t.Logf("%v", total)
			if total.Writes < 1000 || total.Unknown < 1000 || total.StrictReads < 1000 || total.Finals < 1000 ||
				total.Receipts < 1000 || total.Digests < 1000 || strings.Contains(name, "sets") && total.Elements < 1000 {
				t.Errorf("the histories hold too little: %v", total)
			}
		})
	}
}

// Each planted bug is caught, by the rule that names it.
func TestCatchesPlantedBugs(t *testing.T) {
	tests := []struct {
		bug   string
		rule  Rule
		least int // histories of 400 that must be caught
		shape func(*model)
	}{
		{"lost write", Lost, 200, nil},
		{"reused dot", Lost, 100, nil},
		{"flattened context", Lost, 100, nil},
		{"wide token", Lost, 100, nil},
		{"lww", Lost, 200, nil},
		{"lost hint", Lost, 40, nil},
		{"zombie", Zombie, 40, func(m *model) { m.deletes, m.post, m.fresh = true, 15, 2 }},
		{"phantom", Phantom, 100, nil},
		{"rejected", Rejected, 100, nil},
		{"stale read", Quorum, 200, nil},
		{"no write-back", Backwards, 40, func(m *model) { m.post = 15 }},
		{"session ignored", Session, 100, func(m *model) { m.weak, m.post = true, 15 }},
		{"diverged", Diverged, 100, nil},
		{"hidden difference", Diverged, 300, nil},
		{"answered too early", Receipt, 100, nil},
		{"acknowledged before the sync", Receipt, 100, nil},
		{"lost write", LostElement, 200, func(m *model) { m.sets = true }},
		{"wide token", LostElement, 100, func(m *model) { m.sets = true }},
		{"lww", LostElement, 200, func(m *model) { m.sets = true }},
		{"sibling left out", LostElement, 100, func(m *model) { m.sets = true }},
		{"ghost element", Phantom, 100, func(m *model) { m.sets = true }},
		{"expired shown", Expired, 150, func(m *model) { m.expires = true }},
		{"hidden early", Quorum, 100, func(m *model) { m.expires = true }},
		{"stand-ins counted", Receipt, 200, nil},
		{"stand-ins hidden", Quorum, 100, func(m *model) { m.post = 10 }},
		{"lost hint", Lost, 40, func(m *model) { m.sloppy = true }},
		{"collected too early", Zombie, 30, func(m *model) { m.deletes, m.collects, m.post, m.fresh = true, true, 10, 2 }},
		{"watermark ignored", Zombie, 15, func(m *model) { m.deletes, m.collects, m.post, m.fresh = true, true, 10, 2 }},
		{"read without the mark", Zombie, 1, func(m *model) { m.deletes, m.collects, m.post, m.fresh = true, true, 10, 2 }},
	}
	for _, tt := range tests {
		t.Run(tt.bug+" as "+string(tt.rule), func(t *testing.T) {
			const seeds = 400
			caught, named := 0, 0
			example := ""
			for seed := range uint64(seeds) {
				m := newModel(seed)
				if tt.shape != nil {
					tt.shape(m)
				}
				m.bug = tt.bug
				r := History(m.run(400))
				if len(r.Violations) > 0 {
					caught++
				}
				if i := slices.IndexFunc(r.Violations, func(v Violation) bool { return v.Rule == tt.rule }); i >= 0 {
					named++
					example = r.Violations[i].String()
					if n := len(r.Violations[i].Ops); n == 0 || n > 4 {
						t.Errorf("evidence of %d operations: %v", n, r.Violations[i])
					}
				}
			}
			t.Logf("caught in %d of %d histories, as %q in %d\n%s", caught, seeds, tt.rule, named, example)
			if named < tt.least {
				t.Errorf("caught as %q in %d of %d histories, want at least %d", tt.rule, named, seeds, tt.least)
			}
		})
	}
}

// put, del and get make small histories by hand; every operation takes the time from at to at+5.
func put(at int64, client, value, in, out string) Op {
	return Op{ID: int(at), Client: client, Key: "k", Kind: Put, Value: value, ContextIn: in, ContextOut: out, Strict: true, Invoke: at, Return: at + 5, Outcome: OK}
}

func del(at int64, client, in, out string) Op {
	o := put(at, client, "", in, out)
	o.Kind = Delete
	return o
}

func get(at int64, client, out string, values ...string) Op {
	return Op{ID: int(at), Client: client, Key: "k", Kind: Read, ContextOut: out, Values: values, Strict: true, Invoke: at, Return: at + 5, Outcome: OK}
}

func with(o Op, change func(*Op)) Op { change(&o); return o }

func final(o Op) Op { o.Final = true; return o }

func TestRulesOneByOne(t *testing.T) {
	tests := []struct {
		name string
		ops  []Op
		want []Rule
	}{
		{"nothing", nil, nil},
		{"one write, read back", []Op{put(0, "a", "x", Fresh, "1"), final(get(10, "a", "1", "x"))}, nil},
		{"siblings", []Op{put(0, "a", "x", Fresh, "1"), put(1, "b", "y", Fresh, "2"), final(get(10, "a", "3", "x", "y"))}, nil},
		{"replaced", []Op{put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2"), final(get(20, "a", "3", "y"))}, nil},
		{"replaced through a read", []Op{put(0, "a", "x", Fresh, "1"), get(10, "b", "r", "x"), put(20, "b", "y", "r", "2"), final(get(30, "a", "3", "y"))}, nil},
		{"lost", []Op{put(0, "a", "x", Fresh, "1"), put(10, "b", "y", Fresh, "2"), final(with(get(20, "a", "3", "y"), func(o *Op) { o.Strict = false }))}, []Rule{Lost}},
		{"lost, though read before", []Op{put(0, "a", "x", Fresh, "1"), get(10, "a", "1", "x"), final(with(get(20, "a", ""), func(o *Op) { o.Strict = false }))}, []Rule{Lost}},
		{"an unknown write may be there", []Op{with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Unknown }), final(get(20, "a", "1", "x"))}, nil},
		{"an unknown write may not be there", []Op{with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Unknown }), final(get(20, "a", "1"))}, nil},
		{"a blind write may have replaced it", []Op{put(0, "a", "x", Fresh, "1"), put(10, "b", "y", "", "2"), final(get(20, "a", "3", "y"))}, nil},
		{"a blind write may not have seen it", []Op{put(0, "a", "x", Fresh, "1"), put(10, "b", "y", "", "2"), final(get(20, "a", "3", "y", "x"))}, nil},
		{"a blind write replaces nothing that came later", []Op{put(0, "b", "y", "", "2"), put(10, "a", "x", Fresh, "1"), final(with(get(20, "a", "3", "y"), func(o *Op) { o.Strict = false }))}, []Rule{Lost}},
		{"deleted", []Op{put(0, "a", "x", Fresh, "1"), del(10, "a", "1", "2"), final(get(20, "a", "3"))}, nil},
		{"an unknown delete may have happened", []Op{put(0, "a", "x", Fresh, "1"), with(del(10, "a", "1", ""), func(o *Op) { o.Outcome = Unknown }), final(get(20, "a", "3"))}, nil},
		{"a failed delete has not happened", []Op{put(0, "a", "x", Fresh, "1"), with(del(10, "a", "1", ""), func(o *Op) { o.Outcome = Fail }), final(get(20, "a", "3"))}, []Rule{Lost, Quorum}},
		{"zombie", []Op{put(0, "a", "x", Fresh, "1"), del(10, "a", "1", "2"), final(with(get(20, "a", "3", "x"), func(o *Op) { o.Strict = false }))}, []Rule{Zombie}},
		{"zombie in a strict read", []Op{put(0, "a", "x", Fresh, "1"), del(10, "a", "1", "2"), get(20, "a", "3", "x")}, []Rule{Zombie}},
		{"a delete under way", []Op{put(0, "a", "x", Fresh, "1"), del(10, "a", "1", "2"), get(12, "a", "3", "x")}, nil},
		{"stale at the end", []Op{put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2"), final(get(20, "a", "3", "y", "x"))}, []Rule{Stale}},
		{"stale in a read", []Op{put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "2"), get(20, "a", "3", "y", "x")}, []Rule{Stale}},
		{"phantom", []Op{put(0, "a", "x", Fresh, "1"), get(10, "a", "3", "x", "z")}, []Rule{Phantom}},
		{"from the future", []Op{get(0, "a", "3", "x"), put(10, "a", "x", Fresh, "1")}, []Rule{Phantom}},
		{"rejected", []Op{with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Fail }), get(10, "a", "3", "x")}, []Rule{Rejected}},
		{"twice", []Op{put(0, "a", "x", Fresh, "1"), get(10, "a", "3", "x", "x")}, []Rule{Duplicate}},
		{"diverged", []Op{put(0, "a", "x", Fresh, "1"), put(10, "b", "y", Fresh, "2"), final(get(20, "a", "3", "x", "y")), final(with(get(30, "a", "3", "x"), func(o *Op) { o.Strict = false }))}, []Rule{Diverged}},
		{"order of the versions does not matter", []Op{put(0, "a", "x", Fresh, "1"), put(10, "b", "y", Fresh, "2"), final(get(20, "a", "3", "x", "y")), final(get(30, "a", "3", "y", "x"))}, nil},
		{"quorum read misses a write", []Op{put(0, "a", "x", Fresh, "1"), get(10, "b", "r")}, []Rule{Quorum}},
		{"a write under way may be missed", []Op{put(0, "a", "x", Fresh, "1"), get(4, "b", "r")}, nil},
		{"a weak read may be old", []Op{put(0, "a", "x", Fresh, "1"), with(get(10, "b", "r"), func(o *Op) { o.Strict = false })}, nil},
		{"back in time", []Op{with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Unknown }), get(10, "b", "r", "x"), get(20, "c", "s")}, []Rule{Backwards}},
		{"back in time, with reads of one replica", []Op{
			with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Unknown }),
			with(get(10, "b", "r", "x"), func(o *Op) { o.Minority = true }), with(get(20, "c", "s"), func(o *Op) { o.Minority = true }),
		}, nil},
		{"a read of one replica misses an acknowledged write", []Op{put(0, "a", "x", Fresh, "1"), with(get(20, "c", "s"), func(o *Op) { o.Minority = true })}, []Rule{Quorum}},
		{"unknown, then there", []Op{with(put(0, "a", "x", Fresh, ""), func(o *Op) { o.Outcome = Unknown }), get(10, "b", "r"), get(20, "c", "s", "x")}, nil},
		{"older than its context", []Op{put(0, "a", "x", Fresh, "1"), with(get(10, "b", "r"), func(o *Op) { o.Strict, o.ContextIn = false, "1" })}, []Rule{Session}},
		{"older than its session", []Op{
			with(put(0, "a", "x", Fresh, "1"), func(o *Op) { o.Strict, o.Session = false, "s" }),
			with(get(10, "a", "r"), func(o *Op) { o.Strict, o.Session = false, "s" }),
		}, []Rule{Session}},
		{"another session knows nothing of it", []Op{
			with(put(0, "a", "x", Fresh, "1"), func(o *Op) { o.Strict, o.Session = false, "s" }),
			with(get(10, "a", "r"), func(o *Op) { o.Strict, o.Session = false, "t" }),
		}, nil},
		{"a context out of nowhere", []Op{put(0, "a", "x", "?", "1")}, []Rule{Malformed}},
		{"one value twice", []Op{put(0, "a", "x", Fresh, "1"), put(10, "a", "x", Fresh, "2")}, []Rule{Malformed}},
		{"back before it began", []Op{with(put(9, "a", "x", Fresh, "1"), func(o *Op) { o.Return = 3 })}, []Rule{Malformed}},
		{"keys are apart", []Op{put(0, "a", "x", Fresh, "1"), with(get(10, "a", ""), func(o *Op) { o.Key = "other" })}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := History(tt.ops)
			if got := rules(r); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v\n%v", got, tt.want, r)
			}
			slices.Reverse(tt.ops)
			if got := rules(History(tt.ops)); !slices.Equal(got, tt.want) {
				t.Errorf("in another order: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEvidenceCanBeRead(t *testing.T) {
	r := History([]Op{put(0, "a", "x", Fresh, "1"), put(10, "a", "y", "1", "a-very-long-token"), final(get(20, "b", "3", "y", "x"))})
	got := r.String()
	for _, want := range []string{
		`stale: key "k": "x" is shown beside "y", which replaced it`,
		`#0 a put "x", context none → ok, context 1 [0s to 5ns] strict`,
		`#10 a put "y", context 1 → ok, context …-long-token [10ns to 15ns] strict`,
		`#20 b read → ok ["y" "x"], context 3 [20ns to 25ns] strict final`,
		"3 operations on 1 keys: 2 acknowledged writes",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, got)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	m := newModel(1)
	m.deletes = true
	want := m.run(100)
	want = append(want, put(1000, "a", "<&>\u2028\"", Fresh, ""))
	var b bytes.Buffer
	if err := Save(&b, want); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	got, err := Load(&b)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := Save(&again, got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || again.String() != text {
		t.Errorf("%d operations came back as %d, or changed", len(want), len(got))
	}
	for _, bad := range []string{text[:len(text)-5], "{", `{"what":1}`, "[]"} {
		if _, err := Load(strings.NewReader(bad)); err == nil {
			t.Errorf("loaded %.20q", bad)
		}
	}
}

func TestRecorder(t *testing.T) {
	var r Recorder
	a := r.Invoke(Op{Client: "a", Key: "k", Kind: Put, Value: "x", ContextIn: Fresh, Strict: true})
	b := r.Invoke(Op{Client: "b", Key: "k", Kind: Read, Strict: true})
	r.Return(a, func(o *Op) { o.Outcome, o.ContextOut = OK, "1" })
	c := r.Invoke(Op{Client: "c", Key: "k", Kind: Read, Final: true})
	r.Return(c, func(o *Op) { o.Outcome, o.Values = OK, []string{"x"} })
	ops := r.History()
	if len(ops) != 3 || ops[a].Outcome != OK || ops[b].Outcome != Unknown || ops[b].Return != 0 || ops[c].Invoke < ops[a].Return {
		t.Fatalf("recorded %v", ops)
	}
	if got := History(ops); len(got.Violations) > 0 || got.Finals != 1 {
		t.Error(got)
	}
}
