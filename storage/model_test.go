package storage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rondodb/rondo/ring"
	"github.com/rondodb/rondo/vclock"
)

// history draws objects as replicas of one key come to hold them: by writes with all kinds of contexts, and merges.
func history(t *rapid.T) []vclock.Object {
	replicas := make([]vclock.Object, 3)
	for i := range rapid.IntRange(0, 20).Draw(t, "steps") {
		at := rapid.IntRange(0, 2).Draw(t, "at")
		o := replicas[at]
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			o = vclock.Merge(o, replicas[rapid.IntRange(0, 2).Draw(t, "from")])
		case 1:
			o = o.LastWriter()
		default:
			ctx := vclock.Clock{}
			if rapid.Bool().Draw(t, "seen") {
				ctx = replicas[rapid.IntRange(0, 2).Draw(t, "context")].Clock
			}
			s := vclock.Sibling{Time: uint64(i + 1), Tombstone: rapid.IntRange(0, 3).Draw(t, "delete") == 0}
			if !s.Tombstone {
				s.Value = []byte(fmt.Sprint("v", i))
			}
			o, _ = o.Put(vclock.Actor(at+1), ctx, s)
		}
		replicas[at] = o
	}
	return replicas
}

func TestReplacesExactlyWhereMergeGivesTheIncoming(t *testing.T) {
	fast := 0
	rapid.Check(t, func(t *rapid.T) {
		replicas := history(t)
		strange := rapid.Bool().Draw(t, "strange") // an object that no correct history makes: no need to be fast
		if strange {
			extra := history(t)
			replicas[0].Siblings = append(slices.Clone(replicas[0].Siblings), extra[1].Siblings...)
			slices.SortFunc(replicas[0].Siblings, func(a, b vclock.Sibling) int { return -cmp.Compare(a.Time, b.Time) })
		}
		for _, a := range replicas {
			for _, b := range replicas {
				ea, eb := vclock.AppendObject(nil, a), vclock.AppendObject(nil, b)
				stored, err1 := vclock.DecodeObject(ea)
				incoming, err2 := vclock.DecodeObject(eb)
				if err1 != nil || err2 != nil || incoming.Empty() {
					continue // never gets as far
				}
				want := bytes.Equal(vclock.AppendObject(nil, vclock.Merge(stored, incoming)), eb)
				got := replaces(incoming, stored)
				if got && !want {
					t.Fatalf("%x was taken for the merge of itself into %x", eb, ea)
				}
				if want && !got && !strange {
					t.Fatalf("%x is the merge of itself into %x", eb, ea)
				}
				if got {
					fast++
				}
			}
		}
	})
	if fast == 0 {
		t.Fatal("the fast path was never met")
	}
}

// model is what the store should hold.
type model map[ring.Key]vclock.Object

func drawKey(t *rapid.T) ring.Key {
	bucket := rapid.SampledFrom([]string{"b", "bb", "a", "lww", "b\xff"}).Draw(t, "bucket")
	name := rapid.SampledFrom([]string{"k", "k\x00", "k\x00\xff", "\xff", "ka", "kab", "x", "\x00"}).Draw(t, "name")
	return ring.NewKey(bucket, name)
}

func TestStoreIsTheModel(t *testing.T) {
	isLWW := func(b string) bool { return b == "lww" }
	test := t
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{Dir: t.TempDir(), WriteBuffer: 8 << 10, CacheBytes: rapid.SampledFrom([]int64{-1, 0}).Draw(rt, "cache"), LastWriteWins: isLWW}
		s := mustOpen(t, cfg)
		defer func() { mustClose(t, s) }()
		m := model{}
		clock := uint64(0)
		settle := func(k ring.Key, o vclock.Object) {
			if isLWW(k.Bucket) {
				o = o.LastWriter()
			}
			if !o.Empty() {
				m[k] = o
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"merge": func(t *rapid.T) {
				k, o := drawKey(t), history(t)[0]
				for i := range o.Siblings { // one dot, one value: as in a real history, and each key its own
					o.Siblings[i].Time = uint64(o.Siblings[i].Dot.Actor)*1000 + o.Siblings[i].Dot.Counter
					o.Siblings[i].Tombstone = o.Siblings[i].Dot.Counter%3 == 0
					o.Siblings[i].Value = nil
					if !o.Siblings[i].Tombstone {
						o.Siblings[i].Value = fmt.Append(nil, o.Siblings[i].Dot)
					}
				}
				slices.SortFunc(o.Siblings, func(a, b vclock.Sibling) int { return -cmp.Compare(a.Time, b.Time) })
				if err := s.Merge(k, vclock.AppendObject(nil, o)); err != nil {
					t.Fatal(err)
				}
				settle(k, vclock.Merge(m[k], o))
			},
			"update": func(t *rapid.T) {
				k := drawKey(t)
				clock++
				step := func(o vclock.Object, _ uint64) (vclock.Object, error) {
					s := vclock.Sibling{Time: 1e6 + clock, Tombstone: clock%4 == 0}
					if !s.Tombstone {
						s.Value = []byte(strings.Repeat("v", int(clock*37%3000)))
					}
					o, _ = o.Put(77, o.Clock, s)
					return o, nil
				}
				got, _, err := s.Update(k, step)
				if err != nil {
					t.Fatal(err)
				}
				want, _ := step(m[k], 0)
				if !bytes.Equal(got, vclock.AppendObject(nil, want)) {
					t.Fatalf("update gave %x, want %x", got, vclock.AppendObject(nil, want))
				}
				settle(k, want)
			},
			"refuse": func(t *rapid.T) {
				refused := errors.New("refused")
				if _, _, err := s.Update(drawKey(t), func(o vclock.Object, _ uint64) (vclock.Object, error) { return o, refused }); err != refused {
					t.Fatal(err)
				}
			},
			"get": func(t *rapid.T) {
				k := drawKey(t)
				got, digest, err := s.Get(k)
				if err != nil {
					t.Fatal(err)
				}
				var want []byte
				if o, there := m[k]; there {
					want = vclock.AppendObject(nil, o)
					if digest != ring.Digest(want) {
						t.Fatal("wrong digest")
					}
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%q holds %x, want %x", k.Name, got, want)
				}
			},
			"list": func(t *rapid.T) {
				bucket := rapid.SampledFrom([]string{"b", "bb", "a", "lww", "none"}).Draw(t, "bucket")
				prefix := rapid.SampledFrom([]string{"", "k", "k\x00", "\xff"}).Draw(t, "prefix")
				checkList(t, s, m, bucket, prefix, rapid.IntRange(1, 4).Draw(t, "page"))
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "seldom") == 0 {
					mustClose(test, s)
					s = mustOpen(test, cfg)
				}
			},
		})
	})
}

// entry is a line of a listing.
type entry struct {
	partition int
	name      string
	state     vclock.State
}

// checkList reads a listing page by page and compares it with the model.
func checkList(t *rapid.T, s *Store, m model, bucket, prefix string, page int) {
	var want []entry
	for k, o := range m {
		if k.Bucket == bucket && strings.HasPrefix(k.Name, prefix) {
			want = append(want, entry{partitionOf(k.Token, testPartitions), k.Name, o.State()})
		}
	}
	slices.SortFunc(want, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.name, b.name))
	})
	var got []entry
	afterPartition, afterName := -1, ""
	for {
		n := 0
		err := s.List(bucket, prefix, allPartitions(), afterPartition, afterName, func(p int, name string, st vclock.State) bool {
			got = append(got, entry{p, name, st})
			afterPartition, afterName = p, name
			n++
			return n < page
		})
		if err != nil {
			t.Fatal(err)
		}
		if n < page {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("listed %q %q: %v, want %v", bucket, prefix, got, want)
	}
}
